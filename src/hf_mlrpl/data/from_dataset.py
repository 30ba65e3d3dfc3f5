"""Any `datasets.Dataset` as a data set of this library."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .columns import (
    FULL_LABELS,
    IMAGE,
    IMAGE_ID,
    LABELS,
    POSITIVES,
    check_split,
    check_unique,
    label_matrix,
    label_names,
    set_labels,
)
from .label_columns import did_you_mean, find_label_names, read_label_names, read_labels
from .table import IMAGE_COLUMNS, RESERVED, warn_about_labels
from .table_files import Table

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
SAVED_DATASET = ("dataset_info.json", "dataset_dict.json")


def load_from_dataset(
    dataset: "Dataset | DatasetDict | str | Path",
    split: str = "train",
    labels: Sequence[str] | str | Path | None = None,
    unlisted: str = "unknown",
) -> "Dataset":
    """A `datasets.Dataset`, whatever its label columns, with the columns of this library.

    The image column is the only one of type `Image`, or a column `image`, `file_name` or `path` with files. Labels
    are found in this order:

    - the columns of this library, `labels` in {-1, 0, +1} and `positives`;
    - lists `positive` (or `labels`) and `negative` of names or of a `ClassLabel`; what they do not list is unknown, or
      absent with `unlisted="absent"`;
    - one column per label: 1 is present, 0 or -1 absent, `None` unknown.

    The images stay as they are. A column `image_id` names them, otherwise their row number does.

    Args:
        dataset: a data set; a `DatasetDict`; a folder written by `save_to_disk`; a Parquet file; an `imagefolder`, with
            `metadata.jsonl` or `metadata.csv`; or a name on the Hub.
        split: which split, where `dataset` has several.
        labels: the label names and their order: a list, or a text file with one name per line. By default the names
            of the `ClassLabel`, the label columns, or the listed names, sorted. Lists of plain text in train and test
            may hold other names: give both the same `labels`.
        unlisted: "unknown" or "absent", for labels that neither list column names.
    """
    source = f"the data set {dataset}" if isinstance(dataset, (str, Path)) else "the data set"
    chosen = _open(dataset, split)
    if not len(chosen):
        raise ValueError(f"{source.capitalize()} is empty: its split {split!r} has no rows.")
    names = read_label_names(labels)
    if POSITIVES in chosen.column_names and LABELS in chosen.column_names:
        return _reorder_labels(chosen, names)
    table = _label_table(chosen, source)
    names = names or _declared_names(chosen) or find_label_names([table], [*RESERVED, IMAGE])
    matrix = read_labels(table, names, unlisted)
    chosen = _with_image_and_id(chosen, source)
    warn_about_labels(matrix, names, f"{source}, split {split!r}")
    return set_labels(chosen.select_columns([IMAGE, IMAGE_ID]), matrix, names)


def _open(dataset: Any, split: str) -> "Dataset":
    import datasets

    if isinstance(dataset, datasets.Dataset):
        return dataset
    if isinstance(dataset, datasets.DatasetDict):
        check_split(split, list(dataset), "the data set")
        return dataset[split]
    if not isinstance(dataset, (str, Path)):
        raise TypeError(
            f"`dataset` must be a datasets.Dataset or DatasetDict, a path or a name on the Hub, got "
            f"{type(dataset).__name__}. Streamed data sets have no length and are not supported."
        )
    path = Path(dataset).expanduser()
    if path.is_file():
        return datasets.Dataset.from_parquet(str(path))
    if path.is_dir() and any((path / name).is_file() for name in SAVED_DATASET):
        return _open(datasets.load_from_disk(str(path)), split)
    if path.is_dir():
        found = datasets.load_dataset("imagefolder", data_dir=str(path))
        check_split(split, list(found), path)
        return found[split]
    if not HUB_NAME.fullmatch(str(dataset)):
        raise FileNotFoundError(f"There is no file or folder {dataset}, and it is no name of a data set on the Hub.")
    check_split(split, datasets.get_dataset_split_names(str(dataset)), dataset)
    return datasets.load_dataset(str(dataset), split=split)


def _reorder_labels(dataset: "Dataset", names: list[str] | None) -> "Dataset":
    """A data set of this library with its labels in the order of `names`, or as they are."""
    present = label_names(dataset)
    for name in names or []:
        if name not in present:
            raise ValueError(f"`labels` names {name!r}, which the data set does not have. {did_you_mean(name, present)}")
    order = [present.index(name) for name in names or present]
    full = label_matrix(dataset, FULL_LABELS)[:, order] if FULL_LABELS in dataset.column_names else None
    result = _with_image_and_id(dataset, "the data set").select_columns([IMAGE, IMAGE_ID])
    result = set_labels(result, label_matrix(dataset)[:, order], names or present)
    return result if full is None else set_full_labels(result, full)
