"""Lists of images with the indices of their present labels, one image a line: `a/b.jpg,3 17`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...labels import NEGATIVE, POSITIVE
from ..files import numbered_lines


@dataclass(frozen=True)
class ListedImage:
    """A line of a list.

    labels: indices of the labels that are present, counted from 0.
    where: file and line, for messages.
    """

    name: str
    labels: list[int]
    where: str


def read_index_list(path: str | Path, num_labels: int) -> list[ListedImage]:
    """The lines of a list in the format of SPLC and SCPNet: a file name, a comma, and indices separated by blanks.

    Raises:
        ValueError: for a line of another form, an index out of range or an image that is listed twice, with the line.
    """
    file = Path(path).expanduser()
    images: dict[str, ListedImage] = {}
    for number, line in numbered_lines(file).items():
        where = f"{file}, line {number}"
        name, comma, indices = (part.strip() for part in line.partition(","))
        if not name or not comma or not all(index.isdecimal() for index in indices.split()):
            raise ValueError(f"{where}: expected a file name, a comma and label indices, `a.jpg,3 17`, got {line!r}.")
        if name in images:
            raise ValueError(f"{where}: {name} is listed already, in line {images[name].where.split()[-1]}.")
        images[name] = ListedImage(name, [int(index) for index in indices.split()], where)
        check_indices(images[name].labels, num_labels, where)
    if not images:
        raise ValueError(f"{file} lists no image.")
    return list(images.values())


def check_indices(indices: Sequence, num_labels: int, where: str) -> None:
    """Raise `ValueError` unless all of `indices` are whole numbers from 0 to `num_labels - 1`."""
    for index in indices:
        if type(index) is not int or not 0 <= index < num_labels:
            raise ValueError(f"{where}: a label index must be a number from 0 to {num_labels - 1}, got {index!r}.")


def labels_at(indices: Sequence[Sequence[int]], num_labels: int) -> np.ndarray:
    """Full labels, `(num_images, num_labels)` in {-1, +1}: present at the indices of each image, absent elsewhere."""
    labels = np.full((len(indices), num_labels), NEGATIVE, dtype=np.int8)
    for row, of_image in zip(labels, indices, strict=True):
        row[list(of_image)] = POSITIVE
    return labels
