"""Checks of the files that a data set names."""

import os
from collections.abc import Sequence
from pathlib import Path


def missing_files(paths: Sequence[str]) -> list[int]:
    """The positions in `paths` of files that do not exist; every folder is listed once, so that it is fast."""
    listed: dict[str, set[str]] = {}
    missing = []
    for i, path in enumerate(paths):
        folder, name = os.path.split(path)
        if folder not in listed:
            listed[folder] = _file_names(folder)
        # A listing knows nothing of ".." or of a file system that ignores case: ask for what it lacks.
        if name not in listed[folder] and not os.path.isfile(path):
            missing.append(i)
    return missing


def _file_names(folder: str) -> set[str]:
    if not os.path.isdir(folder or "."):
        return set()
    with os.scandir(folder or ".") as entries:
        return {entry.name for entry in entries if entry.is_file()}


def read_lines(file: Path) -> list[str]:
    """The lines of a text file without surrounding blanks; empty lines are left out."""
    return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
