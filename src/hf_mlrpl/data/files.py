"""Reading and writing files, and checks of those that a data set names."""

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

from ..faults import writing
from ..labels import shorten
from ..settings import as_setting, shown

logger = logging.getLogger(__name__)

ODD_PATH = re.compile(r"^[/\\]|\.[/\\]|[/\\]{2}|:")
MISSING = ("error", "skip")
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
UNREAD_SUFFIXES = tuple(".heic .heif .jxl .jp2 .psd .svg .raw .dng .cr2 .cr3 .nef .arw .orf .rw2".split())
MOST_FOLDERS = 200  # that are searched for a photo which is not where it should be


def find_photos(
    names: Sequence[str],
    folders: Sequence[Path],
    source: object,
    missing: str = "error",
    where: Callable[[int], str] | None = None,
) -> list[str]:
    """The path of every photo, in the first of `folders` that has it.

    Args:
        names: of the photos, relative to a folder, or absolute.
        source: the file that names them, for messages.
        missing: "error" refuses photos that do not exist; "skip" logs their number, and gives "" in their place.
        where: the place that names a photo, for messages.
    """
    if missing not in MISSING:
        raise ValueError(f"`missing` must be one of {', '.join(MISSING)}, got {missing!r}.")
    photos = [""] * len(names)
    absent = list(range(len(names)))
    for folder in folders:
        if not folder.is_dir():
            continue
        candidates = [_join(folder, names[i]) for i in absent]
        not_here = set(missing_files(candidates))
        for position, (i, candidate) in enumerate(zip(absent, candidates, strict=True)):
            photos[i] = "" if position in not_here else candidate
        absent = [i for i in absent if not photos[i]]
    if absent:
        shown = [names[i] if where is None else f"{names[i]} ({where(i)})" for i in absent[:4]]
        message = (
            f"{len(absent)} of {len(names)} photos of {source} do not exist: {shorten(shown + absent[4:])}. "
            f"Folders searched: {', '.join(map(str, folders))}."
        )
        if missing == "error" or len(absent) == len(names):
            raise FileNotFoundError(f"{message} {_advice(names[absent[0]], folders)}".rstrip())
        logger.warning("%s They are left out.", message)
    return photos


def _advice(name: str, folders: Sequence[Path]) -> str:
    """Hint where a photo may be: its address, its slashes, or a photo with its name somewhere below."""
    if "://" in name:
        return "Addresses are not downloaded: save the images first."
    if "\\" in name and os.sep != "\\":
        return "Write paths with / instead of \\."
    wanted = os.path.basename(name)
    for folder in folders:
        for here, _, files in islice(os.walk(folder), MOST_FOLDERS):
            for file in files:
                suffix = file.removeprefix(wanted)
                if wanted and file.startswith(wanted) and (not suffix or suffix.lower() in PHOTO_SUFFIXES):
                    found = os.path.join(here, file)
                    image_folder = here[: -len(os.path.dirname(name))].rstrip("/") if os.path.dirname(name) else here
                    settings = [as_setting("image_folder", image_folder or here)]
                    settings += [as_setting("image_suffix", suffix)] if suffix else []
                    return f"There is {found}: {' '.join(settings)}."
    return ""


def _join(folder: Path, name: str) -> str:
    """The path of a file; most names need no look at each of their parts, which takes its time for many photos."""
    return os.path.normpath(os.path.join(folder, name)) if ODD_PATH.search(name) else f"{folder}{os.sep}{name}"


def missing_files(paths: Sequence[str]) -> list[int]:
    """The positions in `paths` of files that do not exist; every folder is listed once, so that it is fast."""
    listed: dict[str, set[str]] = {}
    missing = []
    for i, path in enumerate(paths):
        folder, _, name = path.rpartition(os.sep)
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
        return {entry.name for entry in entries if is_file(entry)}


def is_file(entry: os.DirEntry) -> bool:
    """Whether it is a file; a link that leads to itself is none."""
    try:
        return entry.is_file()
    except OSError:
        return False


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


class RepeatedKey(ValueError):
    """A JSON object has a key twice."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The JSON object of `pairs`, for `object_pairs_hook`; raises `RepeatedKey`."""
    content = dict(pairs)
    if len(content) != len(pairs):
        key, count = Counter(key for key, _ in pairs).most_common(1)[0]
        raise RepeatedKey(f"an object must have every key once, but these are repeated: {shown(key)} ({count} times).")
    return content


def parse_json(text: str, where: object, advice: str = "") -> Any:
    """Parse JSON in which every object has each of its keys once.

    Raises:
        ValueError: for text that is no such JSON, is nested too deeply, or has a number of thousands of digits.
    """
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except RepeatedKey as error:
        raise ValueError(f"{where}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not valid JSON: {error}. {advice}".rstrip()) from error


def read_json(file: Path) -> Any:
    """The content of a JSON file, see `parse_json`."""
    return parse_json(read_utf8(file), file)


def read_json_object(file: Path) -> dict[str, Any]:
    """The object that a JSON file holds, see `parse_json`."""
    content = read_json(file)
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold a JSON object, got {shown(content)}.")
    return content


def describe_left_out(formats: Mapping[str, int], links: Sequence[object]) -> str:
    """What is left out of a folder of photos, in a sentence each; nothing where nothing is.

    Args:
        formats: number of photos by suffix that no library here reads.
        links: symbolic links to folders, or to nothing.
    """
    sentences = []
    if formats:
        found = ", ".join(f"{count} {suffix}" for suffix, count in sorted(formats.items()))
        sentences.append(f"Files of these formats are left out: {found}. Save them as JPEG or PNG to use them.")
    if links:
        sentences.append(f"Symbolic links to folders, or to nothing, are left out: {shorten(links)}.")
    return " ".join(sentences)


def packaged_label_names(dataset: str) -> list[str]:
    """The label names of a data set whose own files do not carry them, in the published order."""
    folder = resources.files("hf_mlrpl.data.collections") / "label_names"
    return (folder / f"{dataset}.txt").read_text("utf-8").splitlines()


def replace_text(path: str | Path, text: str) -> None:
    """Write a file in one piece, or not at all: what was there stays until the new content is on the disk."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path, "It is as it was."):
        try:
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def make_readable(file: Path) -> None:
    """Give a file the permissions of new files; those that safetensors writes can be read by their owner only."""
    mask = os.umask(0)
    os.umask(mask)
    file.chmod(0o666 & ~mask)
