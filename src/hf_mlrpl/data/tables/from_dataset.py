"""Any `datasets.Dataset` as a data set of this library."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...faults import blamed_on
from ...labels import describe_difference
from ...settings import as_setting, did_you_mean
from ..columns import (
    FULL_LABELS,
    IMAGE,
    IMAGE_ID,
    LABELS,
    POSITIVES,
    check_unique,
    class_names,
    find_split,
    keep_columns,
    label_matrix,
    label_names,
    set_labels,
)
from ..files import find_photos
from ..names import EXACT, new_names, read_label_names
from ..rows import Choices, LabelRows, settle_names, warn_about_labels
from .cells import are_vectors
from .index_lists import check_indices
from .layouts import TableSettings, read_labels
from .roles import IMAGE_COLUMNS, expand, say_unused
from .table_files import Column, Table

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
SAVED_DATASET = ("dataset_info.json", "dataset_dict.json")


def load_from_dataset(
    dataset: "Dataset | DatasetDict | str | Path",
    split: str = "train",
    labels: Sequence[str] | str | Path | None = None,
    unlisted: str = "unknown",
    values: Mapping[Any, str] | str | None = None,
    separator: str | None = None,
    rename: Mapping[str, str] | str | Path | None = None,
    image_column: str | None = None,
    id_column: str | None = None,
    label_columns: str | Sequence[str] | None = None,
    negative_column: str | None = None,
    ignore: str | Sequence[str] = (),
    missing: str = "error",
) -> "Dataset":
    """A `datasets.Dataset`, whatever its label columns, with the columns of this library.

    The image column is the only one of type `Image`, or a column `image`, `file_name` or `path` with files. Labels
    are the columns of this library, `labels` in {-1, 0, +1} and `positives`; or else what `load_table` reads: one
    column per label, or lists `positive` (or `labels`, `tags`) and `negative` of names or of a `ClassLabel`. A list of
    as many numbers as there are labels is read as one number per label. Lists inside of other columns are called with
    a dot: `label_columns="objects.category"`.

    The images stay as they are. A column `image_id` names them, otherwise their row number does.

    Args:
        dataset: a data set, taken as the split asked for; a `DatasetDict`; a folder written by `save_to_disk`; a
            Parquet file; an `imagefolder` with `metadata.jsonl` or `metadata.csv`; or a name on the Hub.
        split: which split, where `dataset` has several; `val`, `valid` and `validation` are one.
        labels: the label names and their order: a list, or a text file with one name per line. Others are left out and
            counted. By default the names of the `ClassLabel`, the label columns, or the listed names, sorted. Lists of
            plain text in train and test may hold other names: give both the same `labels`.
        unlisted, values, separator, rename, image_column, id_column, label_columns, negative_column, ignore: see
            `load_table`.
        missing: what to do about the files of a column of text that do not exist: "error", or "skip" leaves them out
            and counts them.
    """
    from datasets import ClassLabel

    source = f"The data set {dataset}" if isinstance(dataset, (str, Path)) else "The data set"
    chosen = _open(dataset, split)
    if not len(chosen):
        raise ValueError(f"{source} is empty: its split {split!r} has no rows.")
    choices = Choices(labels=labels, rename=rename, unlisted=unlisted)
    if POSITIVES in chosen.column_names and LABELS in chosen.column_names and label_columns is None:
        told = {"values": values, "separator": separator, "negative_column": negative_column}
        told |= {"unlisted": None if unlisted == "unknown" else unlisted}
        for name in (name for name, value in told.items() if value is not None):
            raise ValueError(
                f"`{name}` says nothing here: {source} has the columns of this library, labels are known."
            )
        return _own_labels(chosen, choices, source, ignore)
    flat = _flat(chosen)
    image = image_column_of(flat, source, image_column)
    flat = _with_files(flat, image, source, missing)
    table, declared = _label_table(flat, image, source)
    settings = TableSettings(
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
    one_class = [name for name, feature in flat.features.items() if isinstance(feature, ClassLabel)]
    if one_class and label_columns is None and not table.columns.keys() - {*one_class, IMAGE_ID}:
        name = one_class[0]
        raise ValueError(
            f"{source} has one class per image, in the column `{name}`. This library learns several labels per image: "
            "expected lists `positive` and `negative`, or one column per label. To learn from one that is present: "
            f"{as_setting('label_columns', name)}."
        )
    found = read_labels([table], settings, needs_image=False, declared=declared)
    say_unused(source, [found.roles.split] if found.roles.split else [])
    rows = _rows(source, found.names, found.labels[0], table.place, found.sort_names)
    rows = settle_names({split: rows}, split, choices)
    result = set_labels(_with_image_and_id(flat, image, found.roles.image_id, source), rows.labels, rows.names)
    warn_about_labels(rows.labels, rows.names, f"{source}, split {split!r}")
    return result


def recognise(path: Path) -> str:
    """Why `path` is no stored `datasets.Dataset`; an empty text, if it is one."""
    if path.is_dir():
        stored = any((path / name).is_file() for name in SAVED_DATASET) or any((path / "data").glob("*.parquet"))
        return "" if stored else f"no {' or '.join(SAVED_DATASET)}, no data/*.parquet"
    if path.suffix.lower() != ".parquet":
        return "no folder and no .parquet file"
    import pyarrow.parquet as pq

    return "" if b"huggingface" in (pq.read_schema(path).metadata or {}) else "a table without types of `datasets`"


def in_our_columns(dataset: Any, labels: Sequence[str] | None = None) -> "Dataset":
    """`dataset` itself, where it has the columns of this library, otherwise what `load_from_dataset` makes of it.

    Args:
        labels: label names, those of a model. A data set of this library must have the same ones and gets their order;
            from another one their columns are read, and it may have further columns.
    """
    import datasets

    if not isinstance(dataset, datasets.Dataset):
        splits = f" of the splits {', '.join(map(repr, dataset))}: choose one" if isinstance(dataset, dict) else ""
        raise TypeError(
            f"Expected the images of one split as a `datasets.Dataset`, got {type(dataset).__name__}{splits}. "
            "`load_from_dataset` opens files, folders and names on the Hub; streamed data sets are not supported."
        )
    if not {IMAGE, IMAGE_ID, LABELS, POSITIVES} <= {*dataset.features}:
        return load_from_dataset(dataset, labels=labels)
    names = label_names(dataset)
    if labels is None or names == list(labels):
        return dataset
    if {*names} != {*labels}:
        raise ValueError(
            f"The data set has other labels than the model: {describe_difference(names, labels, 'data', 'model')}."
        )
    return load_from_dataset(dataset, labels=labels)


def open_split(dataset: str, split: str | None = None, token: str | None = None) -> "Dataset":
    """One split of a stored data set, or of one on the Hub, `user/data` or `user/data@revision`.

    Args:
        split: which one; `None` for the only one.
        token: for private data sets on the Hub.

    Raises:
        ValueError: if there are several splits and none is told.
    """
    import datasets

    if Path(dataset).exists():
        splits = _open_path(Path(dataset))
        return splits[_told_or_only(split, list(splits), dataset)]
    name, _, revision = dataset.partition("@")
    options: dict[str, Any] = {"revision": revision or None, "token": token}
    available = datasets.get_dataset_split_names(name, **options)
    return datasets.load_dataset(name, split=_told_or_only(split, available, dataset), **options)


def _told_or_only(split: str | None, available: list[str], source: str) -> str:
    if split is not None:
        return find_split(split, available, source)
    if len(available) != 1:
        raise ValueError(f"{source} has the splits {', '.join(available)}: choose one, with `--split {available[0]}`.")
    return available[0]


def _open(dataset: Any, split: str) -> "Dataset":
    import datasets

    if isinstance(dataset, datasets.Dataset):
        return dataset
    if isinstance(dataset, datasets.DatasetDict):
        return dataset[find_split(split, list(dataset), "the data set")]
    if not isinstance(dataset, (str, Path)):
        raise TypeError(
            f"`dataset` must be a datasets.Dataset or DatasetDict, a path or a name on the Hub, got "
            f"{type(dataset).__name__}. Streamed data sets have no length and are not supported."
        )
    path = Path(dataset).expanduser()
    if path.exists():
        splits = _open_path(path)
        return splits[find_split(split, list(splits), path)]
    if not HUB_NAME.fullmatch(str(dataset)):
        raise FileNotFoundError(f"There is no file or folder {dataset}, and it is no name of a data set on the Hub.")
    split = find_split(split, datasets.get_dataset_split_names(str(dataset)), dataset)
    return datasets.load_dataset(str(dataset), split=split)


def _open_path(path: Path) -> "dict[str, Dataset]":
    """The data sets that a file or folder holds, by split."""
    import datasets

    if path.is_file() and path.suffix.lower() != ".parquet":
        raise ValueError(
            f"{path} must be a folder or a .parquet file. `load_table` reads tables that name image files."
        )
    if path.is_file():
        with blamed_on(path, "Copy or write it again.", ValueError, datasets.exceptions.DatasetsError):
            found = datasets.Dataset.from_parquet(str(path))
    elif any((path / name).is_file() for name in SAVED_DATASET):
        found = datasets.load_from_disk(str(path))
    elif any((path / "data").glob("*.parquet")):
        found = datasets.load_dataset(str(path))
    else:
        found = datasets.load_dataset("imagefolder", data_dir=str(path))
    return found if isinstance(found, datasets.DatasetDict) else {str(found.split or "train"): found}


def _rows(
    source: str, names: list[str], labels: np.ndarray, where: Callable[[int], str], sort_names: bool = False
) -> LabelRows:
    """Labels of images that are in the data set, and need no files."""
    return LabelRows(
        source=source, names=names, labels=labels, files=[], ids=[], folders=[], where=where, sort_names=sort_names
    )


def _own_labels(dataset: "Dataset", choices: Choices, source: str, ignore: str | Sequence[str]) -> "Dataset":
    """A data set of this library, with the names that are asked for."""
    present = new_names(choices.rename, label_names(dataset))
    for name in read_label_names(choices.labels) or ():
        if name not in present:
            raise ValueError(
                f"`labels` names {name!r}, which the data set does not have. {did_you_mean(name, present)}"
            )
    image = image_column_of(dataset, source, None)
    used = {image, IMAGE_ID, LABELS, POSITIVES, FULL_LABELS}
    rest = [name for name in dataset.column_names if name not in used]
    ignored = expand(ignore, dataset.column_names, "ignore", source)
    say_unused(source, [name for name in rest if name not in ignored])
    result = _with_image_and_id(dataset, image, IMAGE_ID if IMAGE_ID in dataset.column_names else None, source)
    for column in (FULL_LABELS, LABELS):
        if column in dataset.column_names:
            labels = label_matrix(dataset, column)
            rows = _rows(source, label_names(dataset), labels, lambda row: f"row {row}")
            rows = settle_names({"all": rows}, "all", replace(choices, rename=choices.rename or EXACT))
            result = set_labels(result, rows.labels, rows.names)
            if column == FULL_LABELS:
                result = result.rename_column(LABELS, FULL_LABELS)
    return result


def _flat(dataset: "Dataset") -> "Dataset":
    """`dataset` with a column of its own for each field of a struct, such as `objects.category`."""
    from datasets import Image

    images = [name for name, feature in dataset.features.items() if isinstance(feature, Image)]
    structs = [name for name, feature in dataset.features.items() if isinstance(feature, dict)]
    if not structs:
        return dataset
    flat = keep_columns(dataset, [name for name in dataset.column_names if name not in images]).flatten()
    for name in images:
        column = dataset.select_columns([name]).with_format("arrow")[:].column(name)
        flat = flat.add_column(name, column, feature=dataset.features[name])
    return flat


def image_column_of(dataset: "Dataset", source: str, told: str | None) -> str:
    """The column with the images, or `told`; an error says which columns there are."""
    from datasets import Image

    typed = [name for name, feature in dataset.features.items() if isinstance(feature, Image)]
    if told is not None:
        if told not in dataset.column_names:
            raise ValueError(
                f"`image_column`: {source} has no column {told!r}. {did_you_mean(told, dataset.column_names)}"
            )
        return told
    found = typed or [name for name in IMAGE_COLUMNS if name in dataset.column_names]
    if not found or (len(typed) > 1 and IMAGE not in typed):
        raise ValueError(
            f"{source} needs a column `image`: expected one column of type Image, or files in `image`, `file_name` or "
            f"`path`; got {', '.join(f'`{name}` ({feature})' for name, feature in dataset.features.items())}. Or "
            "name it with `image_column`."
        )
    return IMAGE if IMAGE in found else found[0]


def _with_files(dataset: "Dataset", image: str, source: str, missing: str) -> "Dataset":
    """The rows whose files exist, where the image column is one of text."""
    if getattr(dataset.features[image], "dtype", "") != "string":
        return dataset
    files = find_photos([str(file) for file in dataset[image]], [Path()], source, missing)
    kept = [row for row, file in enumerate(files) if file]
    return dataset if len(kept) == len(dataset) else dataset.select(kept)


def _with_image_and_id(dataset: "Dataset", column: str, id_column: str | None, source: str) -> "Dataset":
    """The columns `image` and `image_id` of `dataset`."""
    from datasets import Image, Value

    if id_column is not None:
        ids = [str(image_id) for image_id in dataset[id_column]]
        check_unique(ids, f"{source}: the column `{id_column}` must be unique")
    else:
        ids = [str(row) for row in range(len(dataset))]
    images = keep_columns(dataset, [column])
    images = images if column == IMAGE else images.rename_column(column, IMAGE)
    return images.cast_column(IMAGE, Image()).add_column(IMAGE_ID, ids, feature=Value("string"))


def _label_table(dataset: "Dataset", image: str, source: str) -> tuple[Table, dict[str, list[str]]]:
    """All columns that may hold labels, indices of a `ClassLabel` replaced by names; and all names of such a type."""
    from datasets import ClassLabel, Image

    columns: dict[str, Column] = {}
    declared = {}
    one_class = [name for name, feature in dataset.features.items() if isinstance(feature, ClassLabel)]
    for name, feature in dataset.features.items():
        if isinstance(feature, Image) or name == image:
            continue
        column = Column.of_arrow(dataset.select_columns([name]).with_format("arrow")[:].column(name))
        for key, cells, names in _columns_of(name, column, feature):
            if names is None:
                columns[key] = cells
                continue
            declared[key] = names
            if name in one_class:
                columns[key] = Column([None if i is None else names[i] for i in cells.values], cells.codes)
            else:
                columns[key] = _named(cells, names, f"{source}, column `{key}`")
    return Table(source, columns, range(len(dataset))), declared


def _columns_of(name: str, column: Column, feature: Any) -> Iterator[tuple[str, Column, list[str] | None]]:
    """The name, the cells and the class names of a column, or of each key where cells are lists of objects."""
    items = getattr(feature, "feature", None)
    if not isinstance(items, dict):
        yield name, column, feature.names if hasattr(feature, "names") else class_names(feature)
        return
    for key, kind in items.items():
        cells = [[item[key] for item in cell or ()] for cell in column.values]
        yield f"{name}.{key}", Column(cells, column.codes), getattr(kind, "names", None)


def _named(column: Column, names: list[str], where: str) -> Column:
    """Lists of indices as lists of names; lists of one number per label stay as they are."""
    cells = [[index for index in cell or ()] for cell in column.values]
    flat = {index for cell in cells for index in cell}
    if flat <= {0, 1} and are_vectors(cells) == len(names):
        if not any(len(set(cell)) < len(cell) for cell in cells):
            raise ValueError(
                f"{where} has lists of {len(names)} numbers, 0 and 1, which may be indices or one number per label. "
                "Turn them into names."
            )
        return column
    for row, cell in zip(column.codes, map(cells.__getitem__, column.codes), strict=True):
        check_indices(cell, len(names), f"{where.replace(', column', f', row {row}, column')}")
    return Column([[names[index] for index in cell] for cell in cells], column.codes)
