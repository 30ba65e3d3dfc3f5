"""A protocol that reads from a list which labels are known."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...labels import POSITIVE, UNKNOWN, check_labels, shorten
from ..tables.index_lists import ListedImage, read_index_list
from .rules import HidingProtocol


@dataclass(frozen=True)
class ListedPositives(HidingProtocol):
    """The positives that a published list names stay known, and nothing else.

    The setting of SPLC (Zhang et al. 2021) and SCPNet, whose authors publish one positive of each training image, but
    not how they drew it.

    list: a file with lines `COCO_train2014_000000057870.jpg,23`: the end of the path of an image, and the indices of
        its labels, counted from 0. It must name each image of the data once.
    """

    list: str

    needs_files: ClassVar[bool] = True

    def __call__(self, labels: np.ndarray, files: Sequence[str]) -> np.ndarray:
        check_labels(labels)
        listed = read_index_list(self.list, labels.shape[1])
        observed = np.full(labels.shape, UNKNOWN, dtype=np.int8)
        rows = _find_rows(listed, files)
        unlisted = sorted(set(range(len(files))).difference(rows))
        if unlisted:
            raise ValueError(
                f"{self.list} does not list {len(unlisted)} of the {len(files)} images: "
                f"{shorten([files[row] for row in unlisted])}. For COCO, `annotated_only: true` leaves them out."
            )
        for image, row in zip(listed, rows, strict=True):
            for label in image.labels:
                if labels[row, label] != POSITIVE:
                    raise ValueError(
                        f"{image.where}: label {label} is listed as present, but the data say otherwise about "
                        f"{files[row]}. Do the list and the data have the same labels in the same order?"
                    )
            observed[row, image.labels] = POSITIVE
        return observed


def _find_rows(listed: Iterable[ListedImage], files: Sequence[str]) -> Sequence[int]:
    """The row of every listed image: the only file whose path ends like it."""
    ends: dict[int, dict[str, list[int]]] = {}  # by the number of parts, the rows of every end of a path
    rows = []
    for image in listed:
        depth = image.name.count("/") + 1
        if depth not in ends:
            ends[depth] = _group_by_end(files, depth)
        found = ends[depth].get(image.name, [])
        if len(found) != 1:
            have = "no image of the data is" if not found else f"{len(found)} images of the data are"
            raise ValueError(f"{image.where}: {have} called {image.name}.")
        rows.append(found[0])
    return rows


def _group_by_end(files: Sequence[str], depth: int) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for row, file in enumerate(files):
        groups.setdefault("/".join(file.replace("\\", "/").split("/")[-depth:]), []).append(row)
    return groups
