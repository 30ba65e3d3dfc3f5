"""A folder for each label; a photo that shows several labels lies in several folders."""

import filecmp
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import UNREAD_SUFFIXES, describe_left_out
from ..rows import Choices, LabelRows, Photo, load_rows, split_photos
from .places import SPLIT_WORD, is_photo

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)


def load_folders(
    path: str | Path,
    split: str = "train",
    labels: Sequence[str] | str | Path | None = None,
    rename: Mapping[str, str] | str | Path | None = None,
    unlisted: str = "unknown",
) -> "Dataset":
    """The photos in folders that are called as their labels.

    Photos with the same name and the same content in several folders are one photo with several labels. Photos with
    the same name and other content are different ones.

    ```
    path/dog/a.jpg  path/cat/a.jpg  path/cat/b.jpg      a.jpg shows a dog and a cat
    path/train/dog/a.jpg  path/test/dog/c.jpg           or the same for each split
    ```

    Args:
        labels, rename, unlisted: see `hf_mlrpl.data.rows.Choices`.
    """
    choices = Choices(labels=labels, rename=rename, unlisted=unlisted)
    return load_rows(read_folders(Path(path).expanduser().absolute()), split, choices)


def recognise(path: Path) -> str:
    """Why `path` has no folder for each label; an empty text, if it has."""
    if not path.is_dir():
        return "no folder"
    found = sum(any(is_photo(file.name) for file in folder.iterdir()) for folder in _label_folders(path))
    return "" if found > 1 else "no folders of photos that could be labels"


def _split_folders(path: Path) -> dict[str, Path]:
    folders = [child for child in sorted(path.iterdir()) if child.is_dir()]
    splits = {child.name.lower(): child for child in folders if SPLIT_WORD.fullmatch(child.name)}
    return splits if splits and len(splits) == len(folders) else {"train": path}


def _label_folders(path: Path) -> list[Path]:
    return [child for folder in _split_folders(path).values() for child in sorted(folder.iterdir()) if child.is_dir()]


def read_folders(path: Path) -> dict[str, LabelRows]:
    """The rows of every split."""
    if not path.is_dir():
        raise FileNotFoundError(f"There is no folder {path}.")
    photos = [photo for split, folder in _split_folders(path).items() for photo in _photos(folder, split)]
    if not photos:
        raise FileNotFoundError(f"The folder {path} has no folders with photos.")
    return split_photos(photos, str(path), [path])


def _photos(folder: Path, split: str) -> Iterator[Photo]:
    by_name: dict[str, list[Path]] = defaultdict(list)
    unread, links = Counter[str](), list[Path]()
    for label in sorted(child for child in folder.iterdir() if child.is_dir()):
        for file in sorted(label.rglob("*")):
            if file.suffix.lower() in UNREAD_SUFFIXES:
                unread[file.suffix.lower()] += 1
            elif file.is_symlink() and not file.is_file() and (file.is_dir() or is_photo(file.name)):
                links.append(file)
            elif is_photo(file.name):
                by_name[file.relative_to(label).as_posix()].append(file)
    if left_out := describe_left_out(unread, links):
        logger.warning("%s: %s", folder, left_out)
    different = 0
    for name, files in by_name.items():
        groups = _equal(files)
        different += len(groups) > 1
        for group in groups:
            labels = [file.relative_to(folder).parts[0] for file in group]
            path = group[0].relative_to(folder.parent if folder.name.lower() == split else folder).as_posix()
            yield Photo(file=path, present=labels, split=split, image_id=name if len(groups) == 1 else path)
    if different:
        logger.warning("%s: %d names are those of different photos in several folders.", folder, different)


def _equal(files: list[Path]) -> list[list[Path]]:
    """`files` in groups of equal content."""
    groups: list[list[Path]] = []
    for file in files:
        group = next((group for group in groups if filecmp.cmp(group[0], file, shallow=False)), None)
        if group is None:
            groups.append([file])
        else:
            group.append(file)
    return groups
