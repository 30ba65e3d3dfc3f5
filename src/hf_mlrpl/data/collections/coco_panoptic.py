"""The panoptic annotations of COCO 2017: things and stuff."""

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from .coco_files import Category, Image, annotation_file, coco_dataset, photo_folders, read_annotations

if TYPE_CHECKING:
    from datasets import Dataset


class _Segment(TypedDict):
    category_id: int


class _Annotation(TypedDict):
    image_id: int
    segments_info: list[_Segment]


class _Panoptic(TypedDict):
    categories: list[Category]
    images: list[Image]
    annotations: list[_Annotation]


def load_coco_panoptic(path: str | Path, split: str = "train", year: str | int = "2017") -> "Dataset":
    """The photos of a COCO split with one label per thing and per stuff: 80 and 53 in the official files.

    A label is present if at least one segment of the category is annotated, and absent otherwise. Labels stand in the
    order of the category ids, photos in the order of the annotation file. `data.hierarchy: coco_panoptic` in a recipe
    adds the 30 labels above them.

    ```
    path/annotations/panoptic_train2017.json      split="train"
    path/annotations/panoptic_val2017.json        split="test"
    path/train2017/  path/val2017/                photos; or all of them in path/images/ or in path/ itself
    ```
    """
    file = annotation_file(path, split, "panoptic", year)
    panoptic = read_annotations(file, _Panoptic)
    shown = (
        (annotation["image_id"], [segment["category_id"] for segment in annotation["segments_info"]])
        for annotation in panoptic["annotations"]
    )
    return coco_dataset(file, panoptic["categories"], panoptic["images"], shown, photo_folders(path, split, year))
