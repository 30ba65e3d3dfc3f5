"""CelebA: faces with 40 attributes."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...labels import NEGATIVE, POSITIVE
from ..columns import check_split
from ..files import numbered_lines
from ..rows import LabelRows, load_photos

if TYPE_CHECKING:
    from datasets import Dataset

PARTS = {"train": "0", "validation": "1", "test": "2"}
ATTRIBUTES, PARTITION = "list_attr_celeba", "list_eval_partition"
VALUES = {"1": POSITIVE, "-1": NEGATIVE, "0": NEGATIVE}


def load_celeba(path: str | Path, split: str = "train", missing: str = "error") -> "Dataset":
    """The photos of CelebA with one label per attribute, in the order of the file; 1 is present, -1 absent.

    ```
    path/list_attr_celeba.txt          202599, then the names, then "000001.jpg -1 1 ..."; or in path/Anno/, or .csv
    path/list_eval_partition.txt       "000001.jpg 0": 0 training, 1 validation, 2 testing; or in path/Eval/
    path/img_align_celeba/             photos; or in path/Img/img_align_celeba/
    ```

    Args:
        path: the folder, or a file in the format of `list_attr_celeba.txt`; without a partition all are "train".
        missing: what to do about photos that do not exist: "error", or "skip" leaves them out and counts them.
    """
    root = Path(path).expanduser().absolute()
    folder = root.parent if root.is_file() else root
    file = root if root.is_file() else _find(folder, ATTRIBUTES)
    if file is None:
        raise FileNotFoundError(f"There is no {ATTRIBUTES}.txt in {folder}, nor in its folder Anno.")
    rows = _read(file, [folder / name for name in ("img_align_celeba", "Img/img_align_celeba", "images", ".")])
    partition = _find(folder, PARTITION)
    if partition is None:
        check_split(split, ["train"], f"{folder}, which has no {PARTITION}.txt")
        return load_photos(rows, missing)
    check_split(split, list(PARTS), "CelebA")
    parts = dict(line.replace(",", " ").split()[:2] for line in numbered_lines(partition).values())
    kept = np.array([row for row, name in enumerate(rows.files) if parts.get(name) == PARTS[split]], dtype=np.int64)
    if not len(kept):
        raise ValueError(f"{partition} names no photo of the split {split!r}.")
    return load_photos(rows.select(kept), missing)


def recognise(path: Path) -> str:
    """Why `path` is not CelebA, nor a file in its format; an empty text, if it is one."""
    file = path if path.is_file() else _find(path, ATTRIBUTES)
    if file is None or file.suffix.lower() not in (".txt", ".csv"):
        return f"no {ATTRIBUTES}.txt"
    with file.open(encoding="utf-8", errors="replace") as text:
        first, second, third = (text.readline().replace(",", " ").split() for _ in range(3))
    known = first[:1] == ["image_id"] or (len(first) == 1 and first[0].isdecimal() and len(third) == len(second) + 1)
    return "" if known and "-1" in third + second else "no count, line of names and lines of -1 and 1"


def _find(folder: Path, name: str) -> Path | None:
    places = [folder / part / f"{name}{suffix}" for part in (".", "Anno", "Eval") for suffix in (".txt", ".csv")]
    return next((file for file in places if file.is_file()), None)


def _read(file: Path, folders: list[Path]) -> LabelRows:
    lines = iter(numbered_lines(file).items())
    _, first = next(lines, (1, ""))
    header = first.replace(",", " ").split()
    if len(header) == 1:  # the number of photos
        header = ["image_id", *next(lines, (2, ""))[1].split()]
    names, files, labels = header[1:], [], []
    for number, line in lines:
        photo, *values = line.replace(",", " ").split()
        if len(values) != len(names) or not VALUES.keys() >= set(values):
            got = f"got {line[:60]!r}"
            raise ValueError(f"{file}, line {number}: expected a photo and {len(names)} times 1 or -1, {got}.")
        files.append(photo)
        labels.append(np.array([VALUES[value] for value in values], dtype=np.int8))
    if not labels or not names:
        raise ValueError(f"{file} has {len(labels)} photos and {len(names)} labels: nothing to load.")
    return LabelRows(
        source=str(file), names=names, labels=np.stack(labels), files=files, ids=list(files), folders=folders
    )
