"""Annotations in the XML of PASCAL VOC, with any classes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from ...labels import shorten
from ..columns import Box
from ..files import PHOTO_SUFFIXES, read_lines
from ..rows import Choices, LabelRows, Photo, load_rows, split_photos
from .places import SPLIT_WORD, ends_of

if TYPE_CHECKING:
    from datasets import Dataset

DIFFICULT = ("absent", "unknown", "present")
TRUE = ("1", "true", "yes")
SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocImage:
    """An annotation file: the photo that it names, the objects with whether they are marked 'difficult', the boxes of
    those that have one, and the (height, width) of the photo, where it says so."""

    file_name: str
    objects: list[tuple[str, bool]]
    boxes: list[tuple[str, Box]]
    size: tuple[int, int] | None

    def listed(self, difficult: str) -> tuple[set[str], set[str], set[str]]:
        """The names that are present, absent and unknown; difficult objects alone make a label `difficult`."""
        if difficult not in DIFFICULT:
            raise ValueError(f"`difficult` must be one of {', '.join(DIFFICULT)}, got {difficult!r}.")
        sure = {name for name, is_difficult in self.objects if not is_difficult}
        listed: dict[str, set[str]] = {"present": sure, "absent": set(), "unknown": set()}
        listed[difficult] = listed[difficult] | ({name for name, _ in self.objects} - sure)
        return listed["present"], listed["absent"], listed["unknown"]


def load_voc_xml(
    path: str | Path,
    split: str = "train",
    labels: Sequence[str] | str | Path | None = None,
    rename: Mapping[str, str] | str | Path | None = None,
    unlisted: str = "absent",
    missing: str = "error",
    image_folder: str | Path | None = None,
    difficult: str = "absent",
) -> "Dataset":
    """The photos of a folder in the layout of PASCAL VOC, with its own classes as labels, sorted.

    A label is present if at least one object of the class is not marked 'difficult'. `load_voc` reads VOC itself.

    ```
    path/Annotations/a.xml                <annotation><filename>a.jpg</filename><object><name>helmet</name>...
    path/JPEGImages/a.jpg                 photos; or path/images/, or beside the XML files
    path/ImageSets/Main/train.txt         names without suffix, one per line; without such lists all are "train"
    path/train/a.xml  path/valid/b.xml    or a folder with photos and XML files for each split
    ```

    Args:
        labels, rename, unlisted, missing, image_folder: see `hf_mlrpl.data.rows.Choices`.
        difficult: what a label is that is shown by difficult objects only: "absent", as the public code of many
            methods has it, "unknown", or "present".
    """
    choices = Choices(labels=labels, rename=rename, unlisted=unlisted, missing=missing, image_folder=image_folder)
    return load_rows(read_voc_xml(Path(path).expanduser().absolute(), difficult), split, choices)


def recognise(path: Path) -> str:
    """Why `path` is no folder of VOC annotations; an empty text, if it is one."""
    if not path.is_dir():
        return "no folder"
    files = next((files for files in _xml_files(path).values() if files), [])
    if not files:
        return "no XML file, also not in Annotations/ or train/"
    return "" if "<annotation" in ends_of(files[0]) and "<object>" in ends_of(files[0]) else "no <annotation>"


def _xml_files(folder: Path) -> dict[str, list[Path]]:
    """The annotation files of every split."""
    files = sorted((folder / "Annotations").glob("*.xml"))
    if files:
        lists = {file.stem: read_lines(file) for file in sorted((folder / "ImageSets" / "Main").glob("*.txt"))}
        splits = {name: lines for name, lines in lists.items() if name == "trainval" or SPLIT_WORD.fullmatch(name)}
        if "train" not in splits and "trainval" in splits:
            splits["train"] = splits.pop("trainval")
        if not splits:
            return {"train": files}
        return {split: [folder / "Annotations" / f"{name}.xml" for name in names] for split, names in splits.items()}
    folders = [child for child in sorted(folder.iterdir()) if child.is_dir() and SPLIT_WORD.fullmatch(child.name)]
    found = {child.name.lower(): sorted(child.glob("*.xml")) for child in folders}
    return {split: files for split, files in found.items() if files} or {"train": sorted(folder.glob("*.xml"))}


def read_voc_xml(path: Path, difficult: str = "absent") -> dict[str, LabelRows]:
    """The rows of every split."""
    if not path.is_dir():
        raise FileNotFoundError(f"There is no folder {path}.")
    files = _xml_files(path)
    if not any(files.values()):
        raise FileNotFoundError(f"The folder {path} has no XML files, also not in Annotations, train, valid or test.")
    folders = [path / "JPEGImages", path / "images", *(path / split for split in files), path]
    return split_photos(_photos(files, folders, difficult), str(path), folders)


def _photos(files: Mapping[str, list[Path]], folders: list[Path], difficult: str) -> Iterator[Photo]:
    for split, of_split in files.items():
        for file in of_split:
            image = read_image(file)
            name = image.file_name or f"{file.stem}.jpg"
            if not any((folder / name).is_file() for folder in folders):  # tools write names that were changed later
                other = (f"{file.stem}{suffix}" for suffix in PHOTO_SUFFIXES)
                name = next((o for o in other if any((folder / o).is_file() for folder in folders)), name)
            present, absent, unknown = image.listed(difficult)
            yield Photo(file=name, split=split, image_id=file.stem, present=present, absent=absent, unknown=unknown)


def read_image(file: Path) -> VocImage:
    """The content of an annotation file."""
    try:
        root = ElementTree.parse(file).getroot()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"The VOC annotation file {file} does not exist.") from error
    except ElementTree.ParseError as error:
        raise ValueError(f"{file} is not valid XML: {error}.") from error
    objects, boxes = [], []
    for item in root.findall("object"):
        children = _children(item)  # its parts have names, too
        name, difficult = (_text(children, tag) for tag in ("name", "difficult"))
        objects.append((name, difficult.lower() in TRUE))
        if "bndbox" in children and (box := _box(_children(children["bndbox"]), name, file)):
            boxes.append((name, box))
    nameless = [position for position, (name, _) in enumerate(objects) if not name]
    if nameless:
        raise ValueError(f"{file}: the objects {shorten(nameless)} have no <name>.")
    sides = [(root.findtext(f"size/{side}") or "").strip() for side in ("height", "width")]
    height, width = (int(side) if side.isdecimal() else 0 for side in sides)
    size = (height, width) if height and width else None
    return VocImage((root.findtext("filename") or "").strip(), objects, boxes, size)


def _children(item: ElementTree.Element) -> dict[str, ElementTree.Element]:
    """The direct children by their tags; of several with one tag the first."""
    return {child.tag: child for child in reversed(item)}


def _text(children: Mapping[str, ElementTree.Element], tag: str) -> str:
    return (children[tag].text or "").strip() if tag in children else ""


def _box(sides: Mapping[str, ElementTree.Element], name: str, file: Path) -> Box | None:
    """The box of the object `name`, whose corners VOC counts from 1."""
    if not all(side in sides for side in SIDES):
        return None
    corners = [_text(sides, side) for side in SIDES]
    try:
        left, top, right, bottom = map(float, corners)
    except ValueError as error:
        raise ValueError(f"{file}: the box of {name} must have four numbers, got {corners}.") from error
    return left - 1, top - 1, right - left + 1, bottom - top + 1
