"""Exports of Roboflow: multi-label classification and COCO."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...labels import shorten
from ..rows import Choices, LabelRows, load_rows
from ..tables.layouts import TableSettings
from ..tables.table import read_tables
from ..tables.table_files import read_table
from .coco_files import CocoFile, coco_rows, read_coco
from .places import split_of

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

CLASSES, COCO = "_classes.csv", "_annotations.coco.json"


def load_roboflow(
    path: str | Path,
    split: str = "train",
    labels: Sequence[str] | str | Path | None = None,
    rename: Mapping[str, str] | str | Path | None = None,
    unlisted: str = "absent",
    missing: str = "error",
    image_folder: str | Path | None = None,
) -> "Dataset":
    """The photos of a data set that Roboflow exports as "Multi-label classification" or as "COCO".

    ```
    path/train/_classes.csv               filename, boat, car: 1 is present, 0 absent
    path/train/_annotations.coco.json     or this: categories with an object are present
    path/train/a.jpg                      photos
    path/valid/  path/test/               the same
    ```

    Args:
        path: the folder with the splits, or that of a single one.
        unlisted: what a label is that no object of the COCO file shows.
        labels, rename, missing, image_folder: see `hf_mlrpl.data.rows.Choices`.
    """
    choices = Choices(labels=labels, rename=rename, unlisted=unlisted, missing=missing, image_folder=image_folder)
    return load_rows(read_roboflow(Path(path).expanduser().absolute()), split, choices)


def recognise(path: Path) -> str:
    """Why `path` is no export of Roboflow; an empty text, if it is one."""
    return "" if _files(path) else f"no {CLASSES} or {COCO}, also not in train/, valid/ or test/"


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.name in (CLASSES, COCO) else []
    files = [folder / name for folder in (path, *sorted(path.iterdir())) for name in (CLASSES, COCO)]
    return [file for file in files if file.is_file()]


def read_roboflow(path: Path) -> dict[str, LabelRows]:
    """The rows of every split."""
    files = _files(path) if path.exists() else []
    if not files:
        raise FileNotFoundError(f"There is no {CLASSES} and no {COCO} in {path} or its folders.")
    if len({file.name for file in files}) > 1:
        raise ValueError(f"{path} has both {CLASSES} and {COCO}. Name one of the files, or take one kind away.")
    if files[0].name == COCO:
        contents = {split_of(file): read_coco(file) for file in files}
        groups = set.intersection(*(_groups(content) for content in contents.values()))
        if groups:
            logger.warning("%s: the label(s) %s are names of groups, and left out.", path, shorten(sorted(groups)))
        return {split: _without(coco_rows(c, [c.file.parent]), groups) for split, c in contents.items()}
    tables = {split_of(file): read_table(file) for file in files}
    names = [name for name in next(iter(tables.values())).columns if name != "filename"]
    return read_tables(tables, TableSettings(image_column="filename", label_columns=names))


def _groups(content: CocoFile) -> set[str]:
    """The categories that no object has and whose name is that of the group of others: the tool adds one."""
    used = set(content.category_ids)
    parents = {category.supercategory for category in content.categories}
    return {category.name for category in content.categories if category.id not in used and category.name in parents}


def _without(rows: LabelRows, names: set[str]) -> LabelRows:
    kept = np.array([name not in names for name in rows.names])
    return replace(rows, names=[name for name in rows.names if name not in names], labels=rows.labels[:, kept])
