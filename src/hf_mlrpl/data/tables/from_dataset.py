"""Any `datasets.Dataset` as a data set of this library."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...labels import describe_difference
from ..columns import (
    FULL_LABELS,
    IMAGE,
    IMAGE_ID,
    LABELS,
    POSITIVES,
    check_split,
    check_unique,
    class_names,
    label_matrix,
    label_names,
    set_labels,
)
from .index_lists import check_indices
from .label_columns import (
    NEGATIVE_COLUMN,
    POSITIVE_COLUMNS,
    did_you_mean,
    find_label_names,
    read_label_names,
    read_labels,
)
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
        dataset: a data set, taken as the split asked for; a `DatasetDict`; a folder written by `save_to_disk`; a
            Parquet file; an `imagefolder` with `metadata.jsonl` or `metadata.csv`; or a name on the Hub.
        split: which split, where `dataset` has several.
        labels: the label names and their order: a list, or a text file with one name per line. By default the names
            of the `ClassLabel`, the label columns, or the listed names, sorted. Lists of plain text in train and test
            may hold other names: give both the same `labels`.
        unlisted: "unknown" or "absent", for labels that neither list column names.
    """
    source = f"The data set {dataset}" if isinstance(dataset, (str, Path)) else "The data set"
    chosen = _open(dataset, split)
    if not len(chosen):
        raise ValueError(f"{source} is empty: its split {split!r} has no rows.")
    names = read_label_names(labels)
    if POSITIVES in chosen.column_names and LABELS in chosen.column_names:
        return _reorder_labels(chosen, names)
    table = _label_table(chosen, source)
    names = names or _declared_names(chosen) or find_label_names([table], RESERVED)
    matrix = read_labels(table, names, unlisted)
    result = set_labels(_with_image_and_id(chosen, source), matrix, names)
    warn_about_labels(matrix, names, f"{source}, split {split!r}")
    return result


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
    if path.exists():
        splits = _open_path(path)
        check_split(split, list(splits), path)
        return splits[split]
    if not HUB_NAME.fullmatch(str(dataset)):
        raise FileNotFoundError(f"There is no file or folder {dataset}, and it is no name of a data set on the Hub.")
    check_split(split, datasets.get_dataset_split_names(str(dataset)), dataset)
    return datasets.load_dataset(str(dataset), split=split)


def _open_path(path: Path) -> "dict[str, Dataset]":
    """The data sets that a file or folder holds, by split."""
    import datasets

    if path.is_file() and path.suffix.lower() != ".parquet":
        raise ValueError(
            f"{path} must be a folder or a .parquet file. `load_table` reads tables that name image files."
        )
    if path.is_file():
        found = datasets.Dataset.from_parquet(str(path))
    elif any((path / name).is_file() for name in SAVED_DATASET):
        found = datasets.load_from_disk(str(path))
    else:
        found = datasets.load_dataset("imagefolder", data_dir=str(path))
    return found if isinstance(found, datasets.DatasetDict) else {str(found.split or "train"): found}


def _reorder_labels(dataset: "Dataset", names: list[str] | None) -> "Dataset":
    """A data set of this library with its labels in the order of `names`, or as they are."""
    present = label_names(dataset)
    for name in names or []:
        if name not in present:
            raise ValueError(
                f"`labels` names {name!r}, which the data set does not have. {did_you_mean(name, present)}"
            )
    order = [present.index(name) for name in names or present]
    names = names or present
    result = _with_image_and_id(dataset, "The data set")
    if FULL_LABELS in dataset.column_names:
        full = label_matrix(dataset, FULL_LABELS)[:, order]
        result = set_labels(result, full, names).rename_column(LABELS, FULL_LABELS)
    return set_labels(result, label_matrix(dataset)[:, order], names)


def _with_image_and_id(dataset: "Dataset", source: str) -> "Dataset":
    """The columns `image` and `image_id` of `dataset`."""
    from datasets import Image, Value

    typed = [name for name, feature in dataset.features.items() if isinstance(feature, Image)]
    found = typed or [name for name in IMAGE_COLUMNS if name in dataset.column_names]
    if not found or (len(typed) > 1 and IMAGE not in typed):
        raise ValueError(
            f"{source} needs a column `image`: expected one column of type Image, or files in `image`, `file_name` or "
            f"`path`; got {', '.join(f'`{name}` ({feature})' for name, feature in dataset.features.items())}."
        )
    column = IMAGE if IMAGE in found else found[0]
    if IMAGE_ID in dataset.column_names:
        ids = [str(image_id) for image_id in dataset[IMAGE_ID]]
        check_unique(ids, f"{source}: the column `{IMAGE_ID}` must be unique")
    else:
        ids = [str(row) for row in range(len(dataset))]
    images = dataset.select_columns([column])
    images = images if column == IMAGE else images.rename_column(column, IMAGE)
    return images.cast_column(IMAGE, Image()).add_column(IMAGE_ID, ids, feature=Value("string"))


def _label_table(dataset: "Dataset", source: str) -> Table:
    """All columns that may hold labels, indices of a `ClassLabel` replaced by names."""
    from datasets import ClassLabel, Image

    columns, one_class = {}, []
    for name, feature in dataset.features.items():
        if isinstance(feature, ClassLabel):
            one_class.append(name)
        elif not isinstance(feature, Image):
            columns[name] = _python_values(dataset, name, source)
    if one_class and not columns.keys() - {*RESERVED}:
        raise ValueError(
            f"{source} has one class per image, in the column `{one_class[0]}`. This library learns several "
            "labels per image: expected lists `positive` and `negative`, or one column per label."
        )
    return Table(source, columns, list(range(len(dataset))))


def _python_values(dataset: "Dataset", name: str, source: str) -> list[Any]:
    values = dataset.select_columns([name]).with_format("arrow")[:].column(name).to_pylist()
    names = class_names(dataset.features[name])
    if names is None:
        return values
    for row, indices in enumerate(values):
        check_indices(indices or [], len(names), f"{source}, row {row}, column `{name}`")
    return [[names[index] for index in row or []] for row in values]


def _declared_names(dataset: "Dataset") -> list[str] | None:
    """The names of a list column of type List(ClassLabel)."""
    for column in (*POSITIVE_COLUMNS, NEGATIVE_COLUMN):
        names = class_names(dataset.features.get(column))
        if names is not None:
            return names
    return None
