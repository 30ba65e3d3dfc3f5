"""Where the parts of an export lie: its file, its splits, its photos."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ...labels import shorten
from ..files import PHOTO_SUFFIXES, missing_files

SPLIT_WORD = re.compile(r"(?<![a-z])(train|validation|valid|val|test|dev)(?![a-z])", re.IGNORECASE)
ENOUGH = 1 << 16  # bytes at either end of a file that tell what it is


def ends_of(file: Path) -> str:
    """The beginning and the end of a text file, of any size."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        text = stream.read(ENOUGH)
        if size > ENOUGH:
            stream.seek(max(ENOUGH, size - ENOUGH))
            text += stream.read()
    return text.decode("utf-8", errors="replace")


def one_file(path: Path, suffixes: Sequence[str], recognise: Callable[[Path], str]) -> Path:
    """`path` itself, or the only file in that folder that is recognised."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"There is no file and no folder {path}.")
    found = [file for file in sorted(path.iterdir()) if file.suffix.lower() in suffixes and not recognise(file)]
    if len(found) != 1:
        has = (
            f"has several: {shorten([file.name for file in found])}" if found else f"has none ({', '.join(suffixes)})"
        )
        raise FileNotFoundError(f"Name the exported file: the folder {path} {has}.")
    return found[0]


def why_no_file(path: Path, suffixes: Sequence[str], recognise: Callable[[Path], str]) -> str:
    """Why there is no file that is recognised, neither `path` nor one in that folder."""
    if path.is_file():
        return recognise(path)
    files = [file for file in sorted(path.iterdir()) if file.is_file() and file.suffix.lower() in suffixes]
    reasons = [recognise(file) for file in files]
    if not files or "" in reasons:
        return "" if files else f"no {' or '.join(suffixes)} file in the folder"
    return f"{files[0].name}: {reasons[0]}"


def split_of(file: Path) -> str:
    """The split that a file is of, by its name or that of its folder: `instances_val2017.json`, `valid/labels.csv`."""
    for name in (file.stem, file.parent.name):
        words = SPLIT_WORD.findall(name)
        if words:
            return words[-1].lower()
    return "train"


def files_by_split(files: Iterable[Path], what: str) -> dict[str, Path]:
    """The file of each split, or an error where a split has several."""
    found: dict[str, Path] = {}
    for file in files:
        split = split_of(file)
        if split in found:
            raise ValueError(
                f"Both {found[split]} and {file} may be the {what} of the split {split!r}. Name the file."
            )
        found[split] = file
    return found


def best_names(spellings: Sequence[Sequence[str]], folders: Sequence[Path]) -> list[str]:
    """Of several ways to name the same photos, the one by which most of them exist in any of `folders`."""
    counts = []
    for names in spellings:
        absent = list(names)
        for folder in folders:
            absent = [absent[i] for i in missing_files([f"{folder}/{name}" for name in absent])]
        counts.append(len(names) - len(absent))
    return list(spellings[counts.index(max(counts))])


def folders_near(folder: Path) -> list[Path]:
    """Where photos of an export in `folder` may lie."""
    return [folder, *(folder / name for name in ("images", "data", "photos"))]


def base_name(name: str) -> str:
    """The last part of a path or an address."""
    return re.split(r"[\\/]", name.partition("?")[0] if "?d=" not in name else name)[-1]


def is_photo(name: str) -> bool:
    """Whether a text may name a photo."""
    return any(Path(part).suffix.lower() in PHOTO_SUFFIXES for part in (name, name.partition("?")[0]))
