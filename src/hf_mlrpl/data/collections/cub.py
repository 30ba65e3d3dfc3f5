"""CUB-200-2011, birds with 312 attributes."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...labels import NEGATIVE, POSITIVE, UNKNOWN
from ..columns import check_split, make_dataset
from ..files import find_photos, numbered_lines, packaged_label_names

if TYPE_CHECKING:
    from datasets import Dataset

TRAIN_FLAG = {"train": "1", "test": "0"}
NAMES = ("official", "short")


def load_cub(path: str | Path, split: str = "train", names: str = "official") -> "Dataset":
    """The photos of CUB-200-2011 with one label per attribute, in the order of their files.

    An attribute is present if it is marked so, however sure the annotator was.

    ```
    path/attributes.txt                                          "1 has_bill_shape::curved_(up_or_down)"
    path/CUB_200_2011/images.txt                                 "1 001.Black_footed_Albatross/photo.jpg"
    path/CUB_200_2011/train_test_split.txt                       "1 0": 5,994 photos with 1 for training, 5,794 others
    path/CUB_200_2011/attributes/image_attribute_labels.txt      "1 1 0 3 27.7": photo, attribute, present, ...
    path/CUB_200_2011/images/                                    photos
    ```

    Args:
        names: "official", those in `attributes.txt`; "short", those that SCPNet puts into its prompts: "curved bill".
    """
    check_split(split, list(TRAIN_FLAG), "CUB")
    if names not in NAMES:
        raise ValueError(f"`names` must be one of {', '.join(NAMES)}, got {names!r}.")
    root = Path(path).expanduser().absolute()
    folder = root / "CUB_200_2011"
    photos, flags = _read_texts(folder / "images.txt"), _read_texts(folder / "train_test_split.txt")
    label_names = _read_texts(root / "attributes.txt")
    labels = _read_labels(folder / "attributes" / "image_attribute_labels.txt", len(photos), len(label_names))
    if len(flags) != len(photos):
        raise ValueError(
            f"{folder / 'train_test_split.txt'} has {len(flags)} lines, but images.txt has {len(photos)}."
        )
    if names == "short":
        label_names = _short_names(len(label_names))
    rows = [row for row, flag in enumerate(flags) if flag == TRAIN_FLAG[split]]
    chosen = [photos[row] for row in rows]
    files = find_photos(chosen, [folder / "images"], folder / "images.txt")
    return make_dataset(files, chosen, labels[rows], label_names)


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


def _read_labels(file: Path, num_photos: int, num_labels: int) -> np.ndarray:
    """The labels of all photos, `(num_photos, num_labels)` in {-1, +1}."""
    if not file.is_file():
        raise FileNotFoundError(f"The file {file} does not exist.")
    try:  # some lines have more columns than others
        content = np.loadtxt(file, dtype=np.int64, usecols=(0, 1, 2), comments=None, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{file} must have three whole numbers in every line: {_first_bad_line(file)}.") from error
    low, high = (1, 1, 0), (num_photos, num_labels, 1)
    wrong = np.flatnonzero(((content < low) | (content > high)).any(axis=1))
    if len(wrong):
        raise ValueError(
            f"{file}, line {wrong[0] + 1}: expected a photo from 1 to {num_photos}, an attribute from 1 to "
            f"{num_labels} and 0 or 1, got {content[wrong[0]].tolist()}."
        )
    labels = np.full((num_photos, num_labels), UNKNOWN, dtype=np.int8)
    labels[content[:, 0] - 1, content[:, 1] - 1] = np.where(content[:, 2] == 1, POSITIVE, NEGATIVE)
    missing = np.argwhere(labels == UNKNOWN)
    if len(missing):
        photo, attribute = missing[0] + 1
        raise ValueError(f"{file} lacks {len(missing)} labels; the first is attribute {attribute} of photo {photo}.")
    return labels


def _first_bad_line(file: Path) -> str:
    for number, line in numbered_lines(file).items():
        numbers = line.split()[:3]
        if len(numbers) < 3 or not all(text.isdecimal() for text in numbers):
            return f"line {number} is {line!r}"
    return "it is empty"
