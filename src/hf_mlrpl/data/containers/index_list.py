"""Text files with a photo and numbers in each line: indices of its labels, or 0 and 1 for each label."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...settings import as_setting
from ..files import numbered_lines
from ..names import UNLISTED, read_label_names
from ..rows import Choices, LabelRows, load_rows
from ..tables.index_lists import check_indices
from .places import SPLIT_WORD, ends_of, files_by_split, folders_near, is_photo, split_of

if TYPE_CHECKING:
    from datasets import Dataset

NUMBERS = ("indices", "one_per_label")


def load_index_list(
    path: str | Path,
    split: str = "train",
    names: Sequence[str] | str | Path | None = None,
    numbers: str | None = None,
    labels: Sequence[str] | str | Path | None = None,
    rename: Mapping[str, str] | str | Path | None = None,
    unlisted: str = "absent",
    missing: str = "error",
    image_folder: str | Path | None = None,
) -> "Dataset":
    """The photos of a list such as `001.jpg 0 17`: a photo, and the indices of its labels, counted from 0.

    The labels that are not listed are absent, or unknown with `unlisted="unknown"`. Lines such as `001.jpg 0 1 0` may
    also have one number per label, 0 for absent and 1 for present: where both can be meant, `numbers` says it.

    ```
    path/train.txt  path/test.txt      001.jpg 0 17; blanks, commas or tabs between; `path` may be one such file
    path/001.jpg                       photos; or path/images/
    ```

    Args:
        names: all labels in the order of their indices, a list or a text file with one per line; by default "label 0"
            and so on.
        numbers: "indices" or "one_per_label".
        labels, rename, unlisted, missing, image_folder: see `hf_mlrpl.data.rows.Choices`.
    """
    choices = Choices(labels=labels, rename=rename, unlisted=unlisted, missing=missing, image_folder=image_folder)
    splits = read_index_lists(Path(path).expanduser().absolute(), read_label_names(names), numbers)
    return load_rows(splits, split, choices)


def recognise(path: Path) -> str:
    """Why `path` is no list of photos and numbers; an empty text, if it is one."""
    reasons = [_recognise_file(file) for file in _files(path)]
    return "" if "" in reasons else (reasons or ["no train.txt or test.txt in the folder"])[0]


def _recognise_file(file: Path) -> str:
    if file.suffix.lower() not in (".txt", ".lst"):
        return "no .txt file"
    lines = [line.replace(",", " ").split() for line in ends_of(file).splitlines()[:20] if line.strip()]
    if lines and all(is_photo(line[0]) and all(number.isdecimal() for number in line[1:]) for line in lines):
        return "" if any(line[1:] for line in lines) else "photos without numbers"
    return "no lines with a photo and whole numbers"


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [file for file in sorted(path.glob("*.txt")) if SPLIT_WORD.search(file.stem) and not _recognise_file(file)]


def read_index_lists(path: Path, names: list[str] | None, numbers: str | None) -> dict[str, LabelRows]:
    """The rows of every split."""
    if numbers is not None and numbers not in NUMBERS:
        raise ValueError(f"`numbers` must be one of {', '.join(NUMBERS)}, got {numbers!r}.")
    files = {split_of(path): path} if path.is_file() else files_by_split(_files(path) if path.is_dir() else [], "list")
    if not files:
        raise FileNotFoundError(
            f"There is no list {path}, and no train.txt or test.txt with photos and numbers in it."
        )
    lines = {split: list(_lines(file)) for split, file in files.items()}
    rows = [row for of_split in lines.values() for _, row, _ in of_split]
    kind = numbers or _kind(rows, next(iter(files.values())))
    width = max((len(row) for row in rows) if kind == "one_per_label" else (max(row, default=-1) + 1 for row in rows))
    names = names or [f"label {i}" for i in range(width)]
    return {split: _rows(files[split], lines[split], names, kind) for split in files}


def _lines(file: Path) -> Iterator[tuple[str, list[int], str]]:
    """The photo, the numbers and the place of each line."""
    for number, line in numbered_lines(file).items():
        name, *rest = line.replace(",", " ").split()
        if not all(text.isdecimal() for text in rest):
            raise ValueError(f"{file}, line {number}: expected a photo and whole numbers, `a.jpg 3 17`, got {line!r}.")
        yield name, [int(text) for text in rest], f"line {number}"


def _kind(rows: list[list[int]], file: Path) -> str:
    """Kind of the numbers, where it is clear."""
    repeated = any(len(set(row)) < len(row) for row in rows)
    if any(number > 1 for row in rows for number in row) or len({len(row) for row in rows}) > 1:
        return "indices"
    if repeated:  # no index stands twice in a line
        return "one_per_label"
    raise ValueError(
        f"{file} has as many numbers in each line, all 0 or 1. If they are indices of labels: "
        f"{as_setting('numbers', 'indices')}; if there is one per label: {as_setting('numbers', 'one_per_label')}."
    )


def _rows(file: Path, lines: list[tuple[str, list[int], str]], names: list[str], kind: str) -> LabelRows:
    labels = np.full((len(lines), len(names)), UNLISTED, dtype=np.int8)
    for row, (_, numbers, place) in enumerate(lines):
        if kind == "indices":
            check_indices(numbers, len(names), f"{file}, {place}")
            labels[row, numbers] = 1
        elif len(numbers) != len(names):
            raise ValueError(f"{file}, {place}: expected {len(names)} numbers, one per label, got {len(numbers)}.")
        else:
            check_indices(numbers, 2, f"{file}, {place}")
            labels[row] = np.array(numbers) * 2 - 1
    files = [name for name, _, _ in lines]
    return LabelRows(
        source=str(file),
        names=names,
        labels=labels,
        files=files,
        ids=files,
        folders=folders_near(file.parent),
        where=lambda row: lines[row][2],
    )
