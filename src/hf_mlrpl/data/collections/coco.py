"""COCO 2014 and 2017, and any folder in their layout."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..containers.coco_files import annotation_file, coco_rows, photo_folders, places, read_coco
from ..rows import load_photos

if TYPE_CHECKING:
    from datasets import Dataset

IMAGE_ORDERS = ("file", "id_as_text")


def count_coco_objects(path: str | Path, split: str = "train", year: str | int = "2014") -> np.ndarray:
    """The number of objects of each label in each photo of a split, `(num_images, num_labels)`; see `load_coco`."""
    content = read_coco(annotation_file(path, split, "instances", year))
    counts = np.zeros((len(content.images), len(content.categories)), np.int64)
    np.add.at(counts, places(content), 1)
    return counts


def load_coco(
    path: str | Path,
    split: str = "train",
    year: str | int = "2014",
    annotated_only: bool = False,
    order: str = "file",
    missing: str = "error",
) -> "Dataset":
    """The photos of a COCO split with one label per category.

    The labels stand in the order of the category ids, the photos in the order of the annotation file, which is what
    the public SST and SARB code uses. A label is present if at least one object of the category is annotated, crowds
    included, and absent otherwise; photos without any annotation are kept, with every label absent.

    ```
    path/annotations/instances_train2014.json     split="train"
    path/annotations/instances_val2014.json       split="test"
    path/train2014/  path/val2014/                photos; or all of them in path/images/ or in path/ itself
    ```

    Args:
        year: "2014", "2017" or whatever the file names end in; "" for `instances_train.json`.
        annotated_only: leave out photos without any annotation, as the public code of single-positive methods, ASL
            and DualCoOp does: 82,081 of the 82,783 training photos of 2014 stay, and 40,137 of the 40,504 others.
        order: "file", or "id_as_text", image ids sorted as text: the order of Cole et al. 2021, which decides what
            `single_positive` keeps.
        missing: what to do about photos that do not exist: "error", or "skip" leaves them out and counts them.
    """
    if order not in IMAGE_ORDERS:
        raise ValueError(f"`order` must be one of {', '.join(IMAGE_ORDERS)}, got {order!r}.")
    content = read_coco(annotation_file(path, split, "instances", year))
    rows = coco_rows(content, photo_folders(path, split, year)).resolved("absent")
    kept = np.arange(len(rows))
    if annotated_only:
        kept = np.unique(places(content)[0])
        if not len(kept):
            raise ValueError(
                f"{rows.source} annotates none of its {len(rows)} images, and `annotated_only` leaves them out."
            )
    if order == "id_as_text":
        kept = np.array(sorted(kept.tolist(), key=lambda row: rows.ids[row]))
    return load_photos(rows.select(kept), missing)
