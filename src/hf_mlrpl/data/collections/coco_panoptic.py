"""The panoptic annotations of COCO 2017: things and stuff."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..containers.coco_files import Id, annotation_file, coco_rows, photo_folders, read_coco
from ..json_files import JsonObject
from ..rows import load_photos

if TYPE_CHECKING:
    from datasets import Dataset


class Segment(JsonObject):
    category_id: Id


class PanopticAnnotation(JsonObject):
    image_id: Id
    segments_info: list[Segment]


def load_coco_panoptic(
    path: str | Path, split: str = "train", year: str | int = "2017", missing: str = "error"
) -> "Dataset":
    """The photos of a COCO split with one label per thing and per stuff: 80 and 53 in the official files.

    A label is present if at least one segment of the category is annotated, and absent otherwise. Labels stand in the
    order of the category ids, photos in the order of the annotation file. `data.hierarchy: coco_panoptic` in a recipe
    adds the 30 labels above them.

    ```
    path/annotations/panoptic_train2017.json      split="train"
    path/annotations/panoptic_val2017.json        split="test"
    path/train2017/  path/val2017/                photos; or all of them in path/images/ or in path/ itself
    ```

    Args:
        missing: what to do about photos that do not exist: "error", or "skip" leaves them out and counts them.
    """
    file = annotation_file(path, split, "panoptic", year)
    content = read_coco(file, annotation=PanopticAnnotation, objects=_segments)
    return load_photos(coco_rows(content, photo_folders(path, split, year)).resolved("absent"), missing)


def _segments(annotations: list[PanopticAnnotation]) -> tuple[list[Id], list[Id]]:
    segments = [(a.image_id, segment.category_id) for a in annotations for segment in a.segments_info]
    return [image_id for image_id, _ in segments], [category_id for _, category_id in segments]
