"""Any annotation file in the format of COCO, by its path."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...labels import shorten
from ..rows import Choices, LabelRows, load_rows
from .coco_files import coco_rows, read_coco
from .places import ends_of, files_by_split, folders_near, split_of

if TYPE_CHECKING:
    from datasets import Dataset


def load_coco_json(
    path: str | Path,
    split: str = "train",
    labels: Sequence[str] | str | Path | None = None,
    rename: Mapping[str, str] | str | Path | None = None,
    unlisted: str = "absent",
    missing: str = "error",
    image_folder: str | Path | None = None,
) -> "Dataset":
    """The photos of a file in the format of COCO, such as CVAT, Label Studio, FiftyOne and many others write.

    A label is present if an object of the category is annotated; the others are absent, or unknown with
    `unlisted="unknown"`. Labels stand in the order of the category ids.

    ```
    path/annotations/instances_default.json     or any file with images, annotations and categories
    path/annotations/instances_val.json         the word train, val or test in a name tells the split
    path/images/default/a.jpg                   photos; or path/images/, path/default/, path/
    ```

    Args:
        path: the JSON file; or a folder with such files, or with a folder `annotations` of them.
        labels, rename, unlisted, missing, image_folder: see `hf_mlrpl.data.rows.Choices`.
    """
    choices = Choices(labels=labels, rename=rename, unlisted=unlisted, missing=missing, image_folder=image_folder)
    return load_rows(read_coco_json(Path(path).expanduser().absolute()), split, choices)


def recognise(path: Path) -> str:
    """Why `path` is no COCO JSON; an empty text, if it is one."""
    if path.is_file():
        return _recognise_file(path)
    return "" if _files(path) else "no JSON file with images, annotations and categories, also not in annotations/"


def _recognise_file(file: Path) -> str:
    if file.suffix.lower() != ".json":
        return "no JSON file"
    text = ends_of(file)
    keys = [key for key in ("images", "annotations", "categories") if f'"{key}"' in text]
    if not text.lstrip().startswith("{") or len(keys) < 2:
        return "no object with images, annotations and categories"
    return ""


def _files(folder: Path) -> list[Path]:
    files = sorted([*folder.glob("annotations/*.json"), *folder.glob("*.json")])
    return [file for file in files if not _recognise_file(file)]


def read_coco_json(path: Path) -> dict[str, LabelRows]:
    """The rows of each split."""
    if path.is_file():
        return {split_of(path): _read(path)}
    files = _files(path) if path.is_dir() else []
    if not files:
        raise FileNotFoundError(f"There is no JSON file of COCO in {path}, nor in its folder annotations.")
    kinds = sorted({file.name.partition("_")[0] for file in files})
    if len(files) > 1 and len(kinds) > 1:
        raise ValueError(f"{path} has several kinds of annotations: {shorten(kinds)}. Name the file itself.")
    return {split: _read(file) for split, file in files_by_split(files, "annotation file").items()}


def _read(file: Path) -> LabelRows:
    part = file.stem.partition("_")[2]  # instances_default, instances_val2017
    folders = [*folders_near(file.parent), *folders_near(file.parent.parent)]
    folders += [folder / name for folder in folders if part for name in (part, part.lower())]
    return coco_rows(read_coco(file), folders)
