"""Annotation files in the format of COCO, and the labels in them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...labels import POSITIVE, shorten
from ..columns import SplitNotFound, check_split
from ..json_files import JsonObject, read_lists
from ..names import UNLISTED
from ..rows import LabelRows

FILE_SPLITS = {"train": "train", "test": "val"}
Id = int | str  # some programs write texts


class Category(JsonObject):
    id: Id
    name: str
    supercategory: str | None = None


class Image(JsonObject):
    id: Id
    file_name: str


class Annotation(JsonObject):
    image_id: Id
    category_id: Id


@dataclass
class CocoFile:
    """Content of an annotation file.

    images: in the order of the file; a type with an `id` and a `file_name`.
    image_ids, category_ids: of the objects that are annotated, in equal number.
    annotated: ids of the images with an annotation.
    """

    file: Path
    categories: list[Category]
    images: list[Any]
    image_ids: list[Id]
    category_ids: list[Id]


def one_category_each(annotations: list[Annotation]) -> tuple[list[Id], list[Id]]:
    """The image ids and category ids of annotations of one object."""
    return [a.image_id for a in annotations], [a.category_id for a in annotations]


def read_coco(
    file: Path,
    image: type[Any] = Image,
    annotation: type[Any] = Annotation,
    objects: Callable[[list[Any]], tuple[list[Id], list[Id]]] = one_category_each,
) -> CocoFile:
    """The content of an annotation file, with its categories in the order of their ids.

    Args:
        image, annotation: what is read of each.
        objects: from annotations to the image ids and category ids of their objects.
    """
    content = CocoFile(file, [], [], [], [])
    for section, block in read_lists(file, {"images": image, "annotations": annotation, "categories": Category}):
        if section == "images":
            content.images += block
        elif section == "categories":
            content.categories += block
        else:
            image_ids, category_ids = objects(block)
            content.image_ids += image_ids
            content.category_ids += category_ids
    _check_unique(content)
    content.categories.sort(key=lambda category: category.id)
    return content


def coco_rows(content: CocoFile, folders: Sequence[Path]) -> LabelRows:
    """The categories that are annotated as present; the others are unlisted.

    Args:
        folders: where the photos may lie.
    """
    rows, columns = places(content)
    labels = np.full((len(content.images), len(content.categories)), UNLISTED, dtype=np.int8)
    labels[rows, columns] = POSITIVE
    return LabelRows(
        source=str(content.file),
        names=[category.name for category in content.categories],
        labels=labels,
        files=[image.file_name for image in content.images],
        ids=[str(image.id) for image in content.images],
        folders=list(folders),
    )


def places(content: CocoFile) -> tuple[np.ndarray, np.ndarray]:
    """The row of the image and the column of the category of each object."""
    rows = positions(content.image_ids, [image.id for image in content.images])
    columns = positions(content.category_ids, [category.id for category in content.categories])
    for wrong in np.flatnonzero((rows < 0) | (columns < 0))[:1]:
        image_id, category_id = content.image_ids[wrong], content.category_ids[wrong]
        problem = f"names the image id {image_id}, which is not in `images`"
        if rows[wrong] >= 0:
            problem = f"of image {image_id} names the category id {category_id}, which is not in `categories`"
        raise ValueError(f"{content.file}: an annotation {problem}.")
    return rows, columns


def positions(ids: Sequence[Id], known: Sequence[Id]) -> np.ndarray:
    """The position of each of `ids` in `known`, which are unique; -1 for one that is not there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted, entries = np.array(ids), np.array(known)
    if wanted.dtype.kind != "i" or entries.dtype.kind != "i":  # texts among them
        position_of = {entry: position for position, entry in enumerate(known)}
        return np.array([position_of.get(id_, -1) for id_ in ids], dtype=np.int64)
    found = pc.index_in(pa.array(wanted), pa.array(entries))
    return found.fill_null(-1).to_numpy().astype(np.int64)


def _check_unique(content: CocoFile) -> None:
    images, categories, file = content.images, content.categories, content.file
    if not images or not categories:
        raise ValueError(f"{file} lists {len(images)} images and {len(categories)} categories: nothing to load.")
    for what, values in (
        ("category id", [category.id for category in categories]),
        ("category name", [category.name for category in categories]),
        ("image id", [image.id for image in images]),
        ("file name", [image.file_name for image in images]),
    ):
        if len(set(values)) < len(values):
            value, count = Counter(values).most_common(1)[0]
            raise ValueError(f"{file} lists the {what} {value!r} {count} times; it must be unique.")


def annotation_file(path: str | Path, split: str, kind: str, year: str | int) -> Path:
    """The file `path/annotations/KIND_trainYEAR.json` of a split, or an error that says what there is."""
    check_split(split, list(FILE_SPLITS), "COCO")
    folder = Path(path).expanduser().absolute()
    annotations = folder / "annotations"
    files = {name: annotations / f"{kind}_{part}{year}.json" for name, part in FILE_SPLITS.items()}
    existing = [name for name, file in files.items() if file.is_file()]
    if split in existing:
        return files[split]
    if existing:
        raise SplitNotFound(split, existing, f"{folder} ({files[split]} is missing)")
    others = sorted(file.name for file in annotations.glob(f"{kind}_*.json"))
    hint = (
        f"The folder has {shorten(others)}: choose with `year`." if others else "Is this the folder of the data set?"
    )
    raise FileNotFoundError(f"The COCO annotation file {files[split]} does not exist. {hint}")


def photo_folders(path: str | Path, split: str, year: str | int) -> list[Path]:
    """Where the photos of a split may lie."""
    folder, part = Path(path).expanduser().absolute(), f"{FILE_SPLITS[split]}{year}"
    return [folder / part, folder / "images" / part, folder / "images", folder]
