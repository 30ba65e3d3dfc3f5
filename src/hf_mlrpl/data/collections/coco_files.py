"""Annotation files in the format of COCO, and data sets made from them."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast, get_args, get_origin

import numpy as np

from ...labels import NEGATIVE, POSITIVE, shorten
from ..columns import SplitNotFound, check_split, make_dataset
from ..files import find_photos

if TYPE_CHECKING:
    from datasets import Dataset

T = TypeVar("T")

FILE_SPLITS = {"train": "train", "test": "val"}
IMAGE_ORDERS = ("file", "id_as_text")


class Category(TypedDict):
    id: int
    name: str


class Image(TypedDict):
    id: int
    file_name: str


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


def read_annotations(file: Path, kind: type[T]) -> T:
    """The sections of an annotation file that the typed dictionary `kind` names, with their keys."""
    content = file.read_bytes()
    try:
        import msgspec
    except ImportError:
        return _parse_with_json(file, content, kind)
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError:
        return _parse_with_json(file, content, kind)  # whose errors say more


def _parse_with_json(file: Path, content: bytes, kind: type[T]) -> T:
    try:
        sections = json.loads(content)
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON, perhaps an incomplete download: {error}.") from error
    if not isinstance(sections, dict):
        raise ValueError(f"{file} must hold one JSON object with COCO annotations, got a {type(sections).__name__}.")
    for section, entry_type in kind.__annotations__.items():
        if section not in sections:
            raise ValueError(f"{file} has no section `{section}`; it needs {', '.join(kind.__annotations__)}.")
        _check_entries(file, section, sections[section], get_args(entry_type)[0])
    return cast(T, sections)


def _check_entries(file: Path, section: str, entries: Any, entry_type: type) -> None:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{file}: `{section}` must be a list of JSON objects.")
    keys = entry_type.__annotations__
    for position, entry in enumerate(entries):
        if not keys.keys() <= entry.keys():
            lacking = ", ".join(sorted(keys.keys() - entry.keys()))
            raise ValueError(f"{file}: entry {position} of `{section}` lacks {lacking}.")
        for key, kind in keys.items():
            if get_origin(kind) is list:
                _check_entries(file, f"{section}[{position}].{key}", entry[key], get_args(kind)[0])
            elif not isinstance(entry[key], (kind, str)):  # other programs write texts as ids
                expected = "a text" if kind is str else "a whole number"
                raise ValueError(
                    f"{file}: entry {position} of `{section}` must have {expected} as {key}, got {entry[key]!r}."
                )


def coco_dataset(
    file: Path,
    categories: list[Category],
    images: list[Image],
    shown: Iterable[tuple[int, Iterable[int]]],
    folders: Sequence[Path],
    annotated_only: bool = False,
    order: str = "file",
) -> "Dataset":
    """A data set of `images`, with the labels in the order of the category ids.

    Args:
        file: where all of it comes from, for messages.
        shown: for each annotation an image id, and the ids of the categories that it shows there.
        folders: where the photos may lie.
        annotated_only, order: see `load_coco`.
    """
    if order not in IMAGE_ORDERS:
        raise ValueError(f"`order` must be one of {', '.join(IMAGE_ORDERS)}, got {order!r}.")
    _check_unique(file, categories, images)
    categories = sorted(categories, key=lambda category: category["id"])
    labels, annotated = _label_matrix(file, shown, images, categories)
    kept = [row for row in range(len(images)) if annotated[row] or not annotated_only]
    if not kept:
        raise ValueError(f"{file} annotates none of its {len(images)} images, and `annotated_only` leaves them out.")
    if order == "id_as_text":
        kept.sort(key=lambda row: str(images[row]["id"]))
    photos = find_photos([images[row]["file_name"] for row in kept], folders, file)
    ids = [str(images[row]["id"]) for row in kept]
    return make_dataset(photos, ids, labels[kept], [category["name"] for category in categories])


def _check_unique(file: Path, categories: list[Category], images: list[Image]) -> None:
    if not images or not categories:
        raise ValueError(f"{file} lists {len(images)} images and {len(categories)} categories: nothing to load.")
    for what, values in (
        ("category id", [category["id"] for category in categories]),
        ("category name", [category["name"] for category in categories]),
        ("image id", [image["id"] for image in images]),
        ("file name", [image["file_name"] for image in images]),
    ):
        value, count = Counter(values).most_common(1)[0]
        if count > 1:
            raise ValueError(f"{file} lists the {what} {value!r} {count} times; it must be unique.")


def _label_matrix(
    file: Path, shown: Iterable[tuple[int, Iterable[int]]], images: list[Image], categories: list[Category]
) -> tuple[np.ndarray, np.ndarray]:
    """Which categories every image shows, `(num_images, num_labels)` in {-1, +1}, and which images are annotated."""
    rows = {image["id"]: row for row, image in enumerate(images)}
    columns = {category["id"]: column for column, category in enumerate(categories)}
    labels = np.full((len(images), len(categories)), NEGATIVE, dtype=np.int8)
    annotated = np.zeros(len(images), dtype=bool)
    for position, (image_id, category_ids) in enumerate(shown):
        if image_id not in rows:
            raise ValueError(f"{file}: annotation {position} names the image id {image_id}, which is not in `images`.")
        annotated[rows[image_id]] = True
        for category_id in category_ids:
            if category_id not in columns:
                raise ValueError(
                    f"{file}: annotation {position} names the category id {category_id}, which is not in `categories`."
                )
            labels[rows[image_id], columns[category_id]] = POSITIVE
    return labels, annotated
