"""Exports of CVAT: "CVAT for images", an XML file."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from ..rows import Choices, LabelRows, Photo, load_rows, split_photos
from .places import SPLIT_WORD, ends_of, folders_near, one_file, why_no_file

if TYPE_CHECKING:
    from datasets import Dataset

SHAPES = {"tag", "box", "polygon", "polyline", "points", "mask", "cuboid", "ellipse", "skeleton"}


def load_cvat(
    path: str | Path,
    split: str = "train",
    labels: Sequence[str] | str | Path | None = None,
    rename: Mapping[str, str] | str | Path | None = None,
    unlisted: str = "unknown",
    missing: str = "error",
    image_folder: str | Path | None = None,
) -> "Dataset":
    """The photos of a task or project of CVAT; a label is present if a photo has a tag or a shape of it.

    ```
    path/annotations.xml       <annotations>...<image name="a.jpg" subset="Train"><tag label="dog"/></image>
    path/images/a.jpg          photos; or beside the file, or in a folder of their subset
    ```

    The labels are those of the project, in its order, or those that occur, sorted. CVAT's COCO export is read by
    `load_coco_json`.

    Args:
        path: the XML file, or its folder.
        labels, rename, unlisted, missing, image_folder: see `hf_mlrpl.data.rows.Choices`.
    """
    choices = Choices(labels=labels, rename=rename, unlisted=unlisted, missing=missing, image_folder=image_folder)
    return load_rows(read_cvat(Path(path).expanduser().absolute()), split, choices)


def recognise(path: Path) -> str:
    """Why `path` is no export of CVAT; an empty text, if it is one."""
    return why_no_file(path, (".xml",), _recognise_file)


def _recognise_file(file: Path) -> str:
    if file.suffix.lower() != ".xml":
        return "no XML file"
    text = ends_of(file)
    return "" if "<annotations" in text and "<image " in text else "no <annotations> with <image>"


def read_cvat(path: Path) -> dict[str, LabelRows]:
    """The rows of an export, by its subsets."""
    file = one_file(path, (".xml",), _recognise_file)
    names: list[str] = []
    photos = list(_photos(file, names))
    subsets = sorted({photo.split for photo in photos})
    folders = folders_near(file.parent)
    folders += [file.parent / "images" / subset for subset in ("default", *subsets)]
    splits = split_photos(photos, str(file), folders, list(dict.fromkeys(names)) or None)
    return {_split(subset): rows for subset, rows in splits.items()}


def _split(subset: str) -> str:
    return subset.lower() if SPLIT_WORD.fullmatch(subset) else "train" if subset == "default" else subset


def _photos(file: Path, names: list[str]) -> Iterator[Photo]:
    """The photos; `names` gets the labels of the project, where the file tells them."""
    try:
        for _, element in ElementTree.iterparse(file):
            if element.tag == "label" and element.findtext("name") and not element.findtext("parent"):
                names.append((element.findtext("name") or "").strip())
            elif element.tag == "track":
                raise ValueError(f"{file} has tracks of a video. Export it as 'CVAT for images 1.1'.")
            elif element.tag == "image":
                shapes = [shape.get("label", "") for shape in element if shape.tag in SHAPES]
                subset = element.get("subset") or "default"
                yield Photo(file=element.get("name", ""), present=shapes, split=subset)
                element.clear()
    except ElementTree.ParseError as error:
        raise ValueError(f"{file} is not valid XML, perhaps an incomplete download: {error}.") from error
