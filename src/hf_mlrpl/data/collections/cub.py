"""CUB-200-2011, birds with 312 attributes."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...labels import NEGATIVE, POSITIVE, UNKNOWN
from ..columns import check_split
from ..files import numbered_lines, packaged_label_names
from ..names import UNLISTED
from ..rows import UNLISTED_RULES, LabelRows, load_photos

if TYPE_CHECKING:
    from datasets import Dataset

TRAIN_FLAG = {"train": "1", "test": "0"}
NAMES = ("official", "short")
NOT_VISIBLE = 1  # certainty; 2 is guessing, 3 probably, 4 definitely


def load_cub(
    path: str | Path,
    split: str = "train",
    names: str = "official",
    not_visible: str = "absent",
    missing: str = "error",
) -> "Dataset":
    """The photos of CUB-200-2011 with one label per attribute, in the order of their files.

    An attribute is present if it is marked so, however sure the annotator was, and absent otherwise.

    ```
    path/attributes.txt                                          "1 has_bill_shape::curved_(up_or_down)"
    path/CUB_200_2011/images.txt                                 "1 001.Black_footed_Albatross/photo.jpg"
    path/CUB_200_2011/train_test_split.txt                       "1 0": 5,994 photos with 1 for training, 5,794 others
    path/CUB_200_2011/attributes/image_attribute_labels.txt      "1 1 0 3 27.7": photo, attribute, present, certainty
    path/CUB_200_2011/images/                                    photos
    ```

    Args:
        names: "official", those in `attributes.txt`; "short", those that SCPNet puts into its prompts: "curved bill".
        not_visible: what an attribute is that an annotator calls not visible (certainty 1): "absent", as the file
            marks it and the literature reads it, or "unknown".
        missing: what to do about photos that do not exist: "error", or "skip" leaves them out and counts them.
    """
    check_split(split, list(TRAIN_FLAG), "CUB")
    if names not in NAMES:
        raise ValueError(f"`names` must be one of {', '.join(NAMES)}, got {names!r}.")
    if not_visible not in UNLISTED_RULES:
        raise ValueError(f"`not_visible` must be one of {', '.join(UNLISTED_RULES)}, got {not_visible!r}.")
    root = Path(path).expanduser().absolute()
    folder = root / "CUB_200_2011"
    photos, flags = _read_texts(folder / "images.txt"), _read_texts(folder / "train_test_split.txt")
    label_names = _read_texts(root / "attributes.txt")
    file = folder / "attributes" / "image_attribute_labels.txt"
    labels = _read_labels(file, len(photos), len(label_names), not_visible)
    if len(flags) != len(photos):
        raise ValueError(
            f"{folder / 'train_test_split.txt'} has {len(flags)} lines, but images.txt has {len(photos)}."
        )
    if names == "short":
        label_names = _short_names(len(label_names))
    rows = [row for row, flag in enumerate(flags) if flag == TRAIN_FLAG[split]]
    chosen = [photos[row] for row in rows]
    found = LabelRows(
        source=str(folder / "images.txt"),
        names=label_names,
        labels=labels[rows],
        files=chosen,
        ids=chosen,
        folders=[folder / "images"],
    )
    return load_photos(found, missing)


def _short_names(num_labels: int) -> list[str]:
    short = packaged_label_names("cub")
    if len(short) != num_labels:
        raise ValueError(f"`names=short` is for {len(short)} attributes, but attributes.txt has {num_labels}.")
    return short


def _read_texts(file: Path) -> list[str]:
    """The texts of the lines "1 text", "2 text", "3 text", ..."""
    texts: list[str] = []
    for line_number, line in numbered_lines(file).items():
        number, _, text = line.partition(" ")
        if number != str(len(texts) + 1) or not text.strip():
            raise ValueError(f"{file}, line {line_number}: expected `{len(texts) + 1} ...`, got {line!r}.")
        texts.append(text.strip())
    return texts


def _read_labels(file: Path, num_photos: int, num_labels: int, not_visible: str) -> np.ndarray:
    """The labels of all photos, `(num_photos, num_labels)` in {-1, 0, +1}."""
    if not file.is_file():
        raise FileNotFoundError(f"The file {file} does not exist.")
    width = 3 if not_visible == "absent" else 4
    try:  # some lines have more columns than others
        content = np.loadtxt(file, dtype=np.int64, usecols=tuple(range(width)), comments=None, ndmin=2)
    except ValueError as error:
        problem = _first_bad_line(file, width)
        raise ValueError(f"{file} must have {width} whole numbers in every line: {problem}.") from error
    low, high = (1, 1, 0, 1)[:width], (num_photos, num_labels, 1, 4)[:width]
    wrong = np.flatnonzero(((content < low) | (content > high)).any(axis=1))
    if len(wrong):
        raise ValueError(
            f"{file}, line {wrong[0] + 1}: expected a photo from 1 to {num_photos}, an attribute from 1 to "
            f"{num_labels}, 0 or 1 (and a certainty from 1 to 4), got {content[wrong[0]].tolist()}."
        )
    photo, attribute, present = content[:, :3].T
    values = np.where(present == 1, POSITIVE, NEGATIVE)
    if not_visible == "unknown":
        values[(present == 0) & (content[:, 3] == NOT_VISIBLE)] = UNKNOWN
    labels = np.full((num_photos, num_labels), UNLISTED, dtype=np.int8)
    labels[photo - 1, attribute - 1] = values
    missing = np.argwhere(labels == UNLISTED)
    if len(missing):
        row, column = missing[0] + 1
        raise ValueError(f"{file} lacks {len(missing)} labels; the first is attribute {column} of photo {row}.")
    return labels


def _first_bad_line(file: Path, width: int) -> str:
    for number, line in numbered_lines(file).items():
        numbers = line.split()[:width]
        if len(numbers) < width or not all(text.isdecimal() for text in numbers):
            return f"line {number} is {line!r}"
    return "it is empty"
