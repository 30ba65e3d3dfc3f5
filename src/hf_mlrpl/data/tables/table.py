"""Your own photos: a folder of images and a table of their labels."""

import logging
import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...labels import UNKNOWN, shorten, summarize_labels
from ..columns import IMAGE_ID, check_split, make_dataset
from ..files import missing_files
from .label_columns import find_label_names, is_empty, read_label_names, read_labels
from .table_files import SUFFIXES, Table, read_table

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

IMAGE_COLUMNS = ("image", "file_name", "path")
SPLIT = "split"
RESERVED = (*IMAGE_COLUMNS, IMAGE_ID, SPLIT)
SPLIT_FILES = ("train", "validation", "val", "test")
METADATA = "metadata"


def load_table(
    path: str | Path,
    split: str = "train",
    labels: Sequence[str] | str | Path | None = None,
    unlisted: str = "unknown",
) -> "Dataset":
    """The photos that a CSV, JSON Lines or Parquet table names, with its labels.

    The table has a column `image` (or `file_name`, or `path`): files relative to the folder of the table, or absolute.
    Labels stand in one of two layouts.

    One column per label: 1 is present, 0 (or -1) is absent, and an empty cell is unknown.

    ```
    image,dog,cat,sofa
    photos/1.jpg,1,0,
    photos/2.jpg,,1,1
    ```

    List columns: names of labels known to be present and known to be absent, separated by `;` or `|`, or real lists in
    JSON Lines and Parquet. All other labels are unknown, or absent with `unlisted="absent"`.

    ```
    image,positive,negative
    photos/1.jpg,dog,cat
    photos/2.jpg,cat;sofa,
    ```

    A column `image_id` names the images; otherwise they are called as in the image column. A column `split` tells
    which rows belong to "train" and which to "test". Without it, use two tables, `train.csv` and `test.csv`, in one
    folder. Row numbers in messages are those of a spreadsheet: the header is row 1.

    Args:
        path: a table file; or a folder with `train.csv` and `test.csv`, with `metadata.csv` (or `.jsonl`, `.parquet`),
            or with `train/metadata.csv` and `test/metadata.csv`.
        split: "train", "test", or what the table says.
        labels: the label names and their order: a list, or a text file with one name per line. Other label columns
            are then ignored, other names in list columns an error. By default the label columns in their order, or
            all names that the list columns of all splits contain, sorted.
        unlisted: "unknown" or "absent", for labels that neither list column names.
    """
    path = Path(path).expanduser().absolute()
    tables = _find_splits(path)
    check_split(split, list(tables), path)
    table = tables[split]
    if not len(table):
        raise ValueError(f"The table {table.source} is empty: it has no row besides a header.")
    files = _image_files(table, Path(table.source).parent)
    names = read_label_names(labels) or find_label_names([t for t in tables.values() if len(t)], RESERVED)
    matrix = read_labels(table, names, unlisted)
    dataset = make_dataset(files, _image_ids(table), matrix, names)
    warn_about_labels(matrix, names, f"{path}, split {split!r}")
    return dataset


def warn_about_labels(labels: np.ndarray, names: Sequence[str], where: str) -> None:
    """Log what is very likely a mistake in `labels`, `(num_images, num_labels)`."""
    if (labels == UNKNOWN).all():
        logger.warning("%s: all labels of all %d images are unknown, there is nothing to learn.", where, len(labels))
        return
    for message in summarize_labels(labels, list(names)).warnings:
        logger.warning("%s: %s", where, message)


def _find_splits(path: Path) -> dict[str, Table]:
    """The table of every split."""
    if path.is_file():
        table = read_table(path)
        return _split_rows(table, path.stem if path.stem in SPLIT_FILES else "train")
    if not path.is_dir():
        raise FileNotFoundError(f"There is no table file and no folder {path}.")
    files = _split_files(path)
    if files:
        return {split: read_table(file) for split, file in files.items()}
    metadata = _one_table(path, METADATA)
    if metadata is not None:
        return _split_rows(read_table(metadata), "train")
    others = sorted(file.name for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    hint = f"It has {shorten(others)}: name the file itself." if others else "It has no table file at all."
    raise FileNotFoundError(
        f"The folder {path} has no train.csv, test.csv or metadata.csv (or .jsonl, .parquet). {hint}"
    )


def _split_files(folder: Path) -> dict[str, Path]:
    """The table files `folder/split.*` and `folder/split/metadata.*`, by split."""
    files = {}
    for split in SPLIT_FILES:
        file = _one_table(folder, split) or _one_table(folder / split, METADATA)
        if file is not None:
            files[split] = file
    return files


def _one_table(folder: Path, stem: str) -> Path | None:
    files = [file for suffix in SUFFIXES if (file := folder / f"{stem}{suffix}").is_file()]
    if len(files) > 1:
        raise ValueError(f"{folder} has several tables for {stem}: {', '.join(f.name for f in files)}. Keep one.")
    return files[0] if files else None


def _split_rows(table: Table, default: str) -> dict[str, Table]:
    """`table` by its column `split`; without one it is the split `default` as a whole."""
    if SPLIT not in table.columns or not len(table):
        return {default: table}
    rows: dict[str, list[int]] = {}
    for row, split in enumerate(table.columns[SPLIT]):
        if not isinstance(split, str) or not split:
            raise ValueError(f"{table.where(row)}: the column `split` must name a split such as train, got {split!r}.")
        rows.setdefault(split, []).append(row)
    return {split: table.select(chosen) for split, chosen in rows.items()}


def _image_column(table: Table) -> str:
    for name in IMAGE_COLUMNS:
        if name in table.columns:
            return name
    close = [name for name in table.columns if get_close_matches(name.lower(), IMAGE_COLUMNS, n=1)]
    hint = f" If `{close[0]}` holds them, rename it." if close else ""
    raise ValueError(
        f"{table.source} needs a column `image`, `file_name` or `path` with the image files; its columns are "
        f"{', '.join(f'`{name}`' for name in table.columns) or 'none'}.{hint}"
    )


def _image_files(table: Table, folder: Path) -> list[str]:
    """The path of every image; all exist, and none occurs twice."""
    column = _image_column(table)
    for row, name in enumerate(table.columns[column]):
        if not isinstance(name, str) or not name.strip():
            hint = " Tables with the images in them are for `load_from_dataset`." if isinstance(name, dict) else ""
            raise ValueError(f"{table.where(row)}: the column `{column}` must name an image file, got {name!r}.{hint}")
    files = [os.path.normpath(os.path.join(folder, name.strip())) for name in table.columns[column]]
    _check_no_repetition(table, files, "image")
    missing = missing_files(files)
    if missing:
        places = "; ".join(f"{table.unit} {table.numbers[row]}: {files[row]}" for row in missing[:3])
        more = f"; and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise FileNotFoundError(
            f"{len(missing)} of {len(files)} image files of {table.source} do not exist: {places}{more}. "
            f"{_missing_advice(table.columns[column][missing[0]], folder)}"
        )
    return files


def _missing_advice(name: str, folder: Path) -> str:
    if "://" in name:
        return "Addresses are not downloaded: save the images first."
    if "\\" in name and os.sep != "\\":
        return "Write paths with / instead of \\."
    return f"Paths are relative to the folder of the table, {folder}."


def _image_ids(table: Table) -> list[str]:
    column = IMAGE_ID if IMAGE_ID in table.columns else _image_column(table)
    for row, value in enumerate(table.columns[column]):
        if is_empty(value):
            raise ValueError(
                f"{table.where(row)}: the column `{column}` is empty. Every image needs one, or none at all."
            )
    ids = [str(value).strip() for value in table.columns[column]]
    _check_no_repetition(table, ids, f"`{column}`")
    return ids


def _check_no_repetition(table: Table, values: Sequence[str], what: str) -> None:
    first: dict[str, int] = {}
    for row, value in enumerate(values):
        if value in first:
            earlier = table.numbers[first[value]]
            raise ValueError(
                f"{table.where(row)}: the {what} {value} stands in {table.unit} {earlier} already. Every image needs "
                "one row with all its labels: merge them, or remove one."
            )
        first[value] = row
