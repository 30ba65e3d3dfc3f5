"""Checks of the files that a data set names."""

import logging
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from ..labels import shorten

logger = logging.getLogger(__name__)

MISSING = ("error", "skip")


def find_photos(names: Sequence[str], folders: Sequence[Path], source: object, missing: str = "error") -> list[str]:
    """The path of every photo, in the first of `folders` that has it.

    Args:
        names: of the photos, relative to a folder.
        source: the file that names them, for messages.
        missing: "error" refuses photos that do not exist; "skip" logs their number, and gives "" in their place.
    """
    if missing not in MISSING:
        raise ValueError(f"`missing` must be one of {', '.join(MISSING)}, got {missing!r}.")
    photos = [""] * len(names)
    absent = list(range(len(names)))
    for folder in folders:
        if not folder.is_dir():
            continue
        candidates = [os.path.join(folder, names[i]) for i in absent]
        not_here = set(missing_files(candidates))
        for position, (i, candidate) in enumerate(zip(absent, candidates, strict=True)):
            photos[i] = "" if position in not_here else candidate
        absent = [i for i in absent if not photos[i]]
    if absent:
        message = (
            f"{len(absent)} of {len(names)} photos of {source} do not exist: {shorten([names[i] for i in absent])}. "
            f"Folders searched: {', '.join(map(str, folders))}."
        )
        if missing == "error" or len(absent) == len(names):
            raise FileNotFoundError(message)
        logger.warning("%s They are left out.", message)
    return photos


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
    return list(numbered_lines(file).values())


def numbered_lines(file: Path) -> dict[int, str]:
    """The lines of a text file by their number, the first is 1, without surrounding blanks and empty lines."""
    if not file.is_file():
        raise FileNotFoundError(f"The file {file} does not exist.")
    lines = read_utf8(file).splitlines()
    return {number: line.strip() for number, line in enumerate(lines, start=1) if line.strip()}


def read_utf8(file: Path, advice: str = "") -> str:
    """The content of a text file, with or without a byte order mark; `advice` is for one in another encoding."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: {error}. {advice}".rstrip()) from error


def packaged_label_names(dataset: str) -> list[str]:
    """The label names of a data set whose own files do not carry them, in the published order."""
    folder = resources.files("hf_mlrpl.data.collections") / "label_names"
    return (folder / f"{dataset}.txt").read_text("utf-8").splitlines()
