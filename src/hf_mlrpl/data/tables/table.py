"""Your own photos: a folder of images and a table of their labels."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...labels import NEGATIVE, POSITIVE, shorten
from ..names import UNLISTED
from ..rows import Choices, LabelRows, load_rows
from .layouts import TableLabels, TableSettings, read_labels
from .roles import SPLIT
from .table_files import SUFFIXES, Column, Table, read_table
from .values import Alphabet, is_empty, looks_like_labels

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

SPLIT_FILES = ("train", "validation", "valid", "val", "test")
METADATA = "metadata"


def load_table(
    path: str | Path,
    split: str = "train",
    labels: Sequence[str] | str | Path | None = None,
    unlisted: str = "unknown",
    values: Mapping[Any, str] | str | None = None,
    separator: str | None = None,
    rename: Mapping[str, str] | str | Path | None = None,
    image_column: str | None = None,
    image_folder: str | Path | None = None,
    image_suffix: str = "",
    id_column: str | None = None,
    label_columns: str | Sequence[str] | None = None,
    negative_column: str | None = None,
    ignore: str | Sequence[str] = (),
    missing: str = "error",
) -> "Dataset":
    """The photos that a CSV, TSV, JSON, JSON Lines or Parquet table names, with its labels.

    A column `image` (or `file_name`, `path`) names files, relative to the folder of the table or absolute. Labels
    stand in one of three layouts.

    One column per label: 1 (or yes, true, x) is present, 0 (or no, false) is absent, and an empty cell is unknown. A
    table with -1 needs `values`, because -1 is absent to some and unknown to others.

    ```
    image,dog,cat,sofa
    photos/1.jpg,1,0,
    photos/2.jpg,,1,1
    ```

    List columns `positive` (or `labels`, `tags`) and `negative`: names of labels known to be present and known to be
    absent, separated by `;` or `|`, or lists such as `["dog", "cat"]`. All other labels are unknown, or absent with
    `unlisted="absent"`.

    ```
    image,positive,negative
    photos/1.jpg,dog,cat
    photos/2.jpg,cat;sofa,
    ```

    One row per photo and label: as list columns, with one name in every row.

    ```
    image,labels
    photos/1.jpg,dog
    photos/1.jpg,cat
    ```

    A column `image_id` names the images; otherwise they are called as in the image column. A column `split` tells
    which rows belong to "train" and which to "test". Without it, use two tables, `train.csv` and `test.csv`, in one
    folder. Row numbers in messages are those of a spreadsheet: the header is row 1.

    Args:
        path: a table file; or a folder with `train.csv` and `test.csv` (`.tsv`, `.json`, `.jsonl`, `.parquet`), with
            `metadata.csv`, or with `train/metadata.csv` and `test/metadata.csv`.
        split: "train", "test", or what the table says; `val`, `valid` and `validation` are one.
        labels: the label names and their order: a list, or a text file with one name per line. Others are left out and
            counted. By default the label columns in their order, or all names that the lists of all splits contain,
            sorted.
        unlisted: "unknown" or "absent", for labels that neither list column names.
        values: what cells mean: a mapping such as `{1: present, 0: absent, -1: unknown, empty: unknown}`, or a name:
            "zero_absent" (-1 unknown, as in CheXpert), "zero_unknown" (-1 absent, as in this library),
            "minus_one_absent" (there is no 0), "both_absent", "empty_absent".
        separator: between the names in a cell: comma, semicolon, bar, tab, newline, hash, slash, blank, or the text
            itself. Cells are then cut there and nowhere else.
        rename: see `hf_mlrpl.data.rows.Choices`: new names of labels, also from a file.
        image_column, id_column: the columns that name the files and the images.
        image_folder: what the files are relative to, by default the folder of the table.
        image_suffix: what the names of the files lack, such as ".png".
        label_columns: the columns with labels, or that list them: names or patterns such as "attr_*". Others are not
            used.
        negative_column: the column that lists labels known to be absent.
        ignore: names or patterns of columns that say nothing about labels.
        missing: "error" refuses photos that do not exist; "skip" leaves them out and counts them.
    """
    path = Path(path).expanduser().absolute()
    settings = TableSettings(
        image_column=image_column,
        id_column=id_column,
        label_columns=label_columns,
        negative_column=negative_column,
        ignore=ignore,
        separator=separator,
        values=values,
        labels=labels,
        rename=rename,
        unlisted=unlisted,
    )
    choices = Choices(labels=labels, rename=rename, unlisted=unlisted, missing=missing, image_folder=image_folder)
    return load_rows(read_tables(find_tables(path), settings, image_suffix), split, choices)


def recognise(path: Path) -> str:
    """Why `path` is no table; an empty text, if it is one."""
    if path.is_file():
        return "" if path.suffix.lower() in SUFFIXES else f"no {', '.join(SUFFIXES)} file"
    return "" if _split_files(path) or _one_table(path, METADATA) else "no table train, test or metadata in the folder"


def read_tables(tables: Mapping[str, Table], settings: TableSettings, image_suffix: str = "") -> dict[str, LabelRows]:
    """The rows of each split of tables that name the files of photos."""
    if not any(len(table) for table in tables.values()):
        raise ValueError(f"The table {next(iter(tables.values())).source} is empty: it has no row besides a header.")
    found = read_labels(list(tables.values()), settings)
    splits = {
        split: _rows(table, found, labels, image_suffix)
        for (split, table), labels in zip(tables.items(), found.labels, strict=True)
    }
    if found.one_name_a_row:
        splits = {split: _join_rows(rows) for split, rows in splits.items()}
    for rows in splits.values():
        _check_no_repetition(rows, [_normal(file) for file in rows.files], "image")
        _check_no_repetition(rows, rows.ids, f"`{found.roles.image_id or found.roles.image}`")
    return splits


def find_tables(path: Path) -> dict[str, Table]:
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
        f"The folder {path} has no train.csv, test.csv or metadata.csv (or .tsv, .json, .jsonl, .parquet). {hint}"
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
    """`table` by its column `split`, unless that holds 0 and 1; without one it is the split `default` as a whole."""
    if SPLIT not in table.columns or not len(table):
        return {default: table}
    column = table.columns[SPLIT]
    if looks_like_labels(column.used, Alphabet({})):
        return {default: table}
    for value in column.used:
        if not isinstance(value, str) or not value.strip():
            where = table.where(column.row_of(value))
            raise ValueError(f"{where}: the column `split` must name a split such as train, got {value!r}.")
    return {
        value: table.select(np.flatnonzero(column.codes == code))
        for code, value in enumerate(column.values)
        if column.counts[code]
    }


def _rows(table: Table, found: TableLabels, labels: np.ndarray, suffix: str) -> LabelRows:
    roles = found.roles
    if not len(table):
        table = replace(table, columns={str(roles.image): Column([], np.zeros(0, np.int8))})
    if roles.image is None or roles.image not in table.columns:
        raise ValueError(f"{table.source} has no column `{roles.image}`, which names the images.")
    column = table.columns[roles.image]
    for value in column.used:
        if not isinstance(value, str) or not value.strip():
            hint = " Tables with the images in them are for `load_from_dataset`." if isinstance(value, dict) else ""
            raise ValueError(
                f"{table.where(column.row_of(value))}: the column `{roles.image}` must name an image file, got "
                f"{value!r}.{hint}"
            )
    return LabelRows(
        source=table.source,
        names=found.names,
        labels=labels,
        files=[name + suffix if suffix else name for name in map(str.strip, column.cells())],
        ids=_image_ids(table, roles.image_id if roles.image_id in table.columns else roles.image),
        folders=[Path(table.source).parent],
        where=replace(table, columns={}).place,  # which keeps the numbers of the rows alone
        sort_names=found.sort_names,
    )


def _image_ids(table: Table, name: str) -> list[str]:
    column = table.columns[name]
    for value in column.used:
        if is_empty(value):
            raise ValueError(
                f"{table.where(column.row_of(value))}: the column `{name}` is empty. Every image needs one, or none "
                "at all."
            )
    return [str(value).strip() for value in column.cells()]


def _join_rows(rows: LabelRows) -> LabelRows:
    """One row for each photo, where each of several rows lists one of its labels."""
    first: dict[str, int] = {}
    photo = np.array([first.setdefault(_normal(file), len(first)) for file in rows.files])
    if len(first) == len(rows):
        return rows
    labels = np.full((len(first), len(rows.names)), UNLISTED, dtype=np.int8)
    for value in (NEGATIVE, POSITIVE):
        listed, columns = np.nonzero(rows.labels == value)
        both = labels[photo[listed], columns] == NEGATIVE
        if value == POSITIVE and both.any():
            row, name = listed[both][0], rows.names[columns[both][0]]
            raise ValueError(
                f"{rows.source}, {rows.place(row)}: {name} is present, and absent in another row. Keep one."
            )
        labels[photo[listed], columns] = value
    kept = np.unique(photo, return_index=True)[1]
    logger.warning("%s: %d rows with one name each are the labels of %d photos.", rows.source, len(rows), len(first))
    return replace(rows.select(kept), labels=labels)


def _normal(file: str) -> str:
    return os.path.normpath(file)


def _check_no_repetition(rows: LabelRows, values: Sequence[str], what: str) -> None:
    if len(set(values)) == len(values):
        return
    first: dict[str, int] = {}
    for row, value in enumerate(values):
        if value in first:
            raise ValueError(
                f"{rows.source}, {rows.place(row)}: the {what} {value} stands in {rows.place(first[value])} "
                "already. Every image needs one row with all its labels: merge them, or remove one."
            )
        first[value] = row
