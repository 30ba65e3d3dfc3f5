"""The columns every data set of this library has, and the functions that make, read and hide them.

| column | type | content |
|--------|------|---------|
| `image` | `Image()` | a path or encoded bytes |
| `image_id` | `Value("string")` | unique |
| `labels` | `List(Value("int8"), length=num_labels)` | -1 absent, 0 unknown, +1 present |
| `positives` | `List(ClassLabel(names=...))` | the labels known to be present; it carries the label names |
| `full_labels` | like `labels` | only after `hide_labels`: the hidden truth, for measuring and never for training |
| `caption` | `Value("string")` | in the place of `image` and `image_id`, see `load_captions` |
| `objects` | `bbox`, `category` and `photo_size`, each a list | only on request, see `with_objects` |
"""

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..extras import optional_packages
from ..labels import POSITIVE, check_labels

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

IMAGE, IMAGE_ID, LABELS, POSITIVES, FULL_LABELS = "image", "image_id", "labels", "positives", "full_labels"
OBJECTS, CAPTION = "objects", "caption"
Box = tuple[float, float, float, float]
ROWS_AT_A_TIME = 10_000  # so that little memory is needed besides the result
VALIDATION = ("validation", "valid", "val", "dev")


class SplitNotFound(ValueError):
    """The data have no such split."""

    def __init__(self, split: str, available: Iterable[str], where: object):
        splits = list(available)
        found = ", ".join(repr(name) for name in splits) or "none"
        super().__init__(f"There is no split {split!r} in {where}. Available splits: {found}.")
        self.split, self.available = split, splits


def check_split(split: str, available: Sequence[str], where: object) -> None:
    """Raise `SplitNotFound` unless `split` is one of `available`."""
    if split not in available:
        raise SplitNotFound(split, available, where)


def find_split(split: str, available: Sequence[str], where: object) -> str:
    """The name of `split` among `available`, or `SplitNotFound`; `val`, `valid` and `validation` are one split."""
    same = [name for name in available if split in VALIDATION and name in VALIDATION]
    if split not in available and len(same) == 1:
        return same[0]
    check_split(split, available, where)
    return split


def make_dataset(images: Sequence, image_ids: Sequence[str], labels: np.ndarray, names: Sequence[str]) -> "Dataset":
    """A data set with the columns of this library.

    Args:
        images: one per row: a path, encoded bytes (a whole PNG or JPEG file) or a PIL image. Paths are stored as
            paths and read when the image is used.
        image_ids: one per row, unique.
        labels: `(num_images, num_labels)` in {-1, 0, +1}.
        names: the label names, in the order of the columns of `labels`.
    """
    with optional_packages():
        import pyarrow as pa
        from datasets import ClassLabel, Dataset, Features, Image, List, Value

    if not len(images) == len(image_ids) == len(labels):
        raise ValueError(
            "`images`, `image_ids` and `labels` must have one entry per image, "
            f"got {len(images)}, {len(image_ids)} and {len(labels)}."
        )
    check_unique(names, "`names` must be unique label names")
    check_unique(image_ids, "`image_ids` must be unique")
    check_labels(labels, len(names), rows=list(image_ids))
    features = Features(
        {
            IMAGE: Image(),
            IMAGE_ID: Value("string"),
            LABELS: List(Value("int8"), length=len(names)),
            POSITIVES: List(ClassLabel(names=list(names))),
        }
    )
    ids = pa.array([str(image_id) for image_id in image_ids], type=pa.string())
    columns = [_image_column(images), ids, _labels_column(labels), _positives_column(labels)]
    table = pa.Table.from_arrays(columns, schema=features.arrow_schema)
    return Dataset(table, fingerprint=_fingerprint(table))


def are_captions(dataset: Any) -> bool:
    """Whether a data set has captions in the place of images."""
    return CAPTION in dataset.column_names and IMAGE not in dataset.column_names


def with_objects(
    dataset: "Dataset",
    objects: Sequence[Sequence[tuple[str, Box]]],
    photo_sizes: Sequence[tuple[int, int] | None] | None = None,
) -> "Dataset":
    """`dataset` with the column `objects`: the places of its labels, for measuring and never for training.

    Args:
        objects: for each image the label and the box of every object: its left and upper edge, its width and its
            height, in pixels of the photo. Objects without one of the labels are left out.
        photo_sizes: (height, width) of the photos that the boxes were drawn in, `None` where that is not known.
    """
    from datasets import ClassLabel, List, Value

    number = {name: i for i, name in enumerate(label_names(dataset))}
    kept = [[(number[name], list(box)) for name, box in of_image if name in number] for of_image in objects]
    column = [
        {"bbox": [box for _, box in row], "category": [label for label, _ in row], "photo_size": list(size or ())}
        for row, size in zip(kept, photo_sizes or [None] * len(kept), strict=True)
    ]
    types = {
        "bbox": List(List(Value("float32"), length=4)),
        "category": List(ClassLabel(names=list(number))),
        "photo_size": List(Value("int32")),
    }
    return dataset.add_column(OBJECTS, column, feature=types)  # type: ignore[arg-type]


def label_names(dataset: "Dataset") -> list[str]:
    """The label names, in the order of the columns of `labels`."""
    names = class_names(dataset.features.get(POSITIVES))
    if names is None:
        raise ValueError(
            f"The data set carries no label names: expected a column `{POSITIVES}` of type List(ClassLabel), found "
            f"the columns {', '.join(dataset.column_names)}. Load it with a loader of this library; "
            "`load_from_dataset` turns other data sets into one."
        )
    return names


def class_names(feature: Any) -> list[str] | None:
    """The names of a column of type List(ClassLabel); `None` for another type."""
    names = getattr(getattr(feature, "feature", None), "names", None)
    return None if names is None else list(names)


def label_matrix(dataset: "Dataset", column: str = LABELS) -> np.ndarray:
    """The labels of all images, `(num_images, num_labels)` int8 in {-1, 0, +1}; a read-only view where possible."""
    if column not in dataset.column_names:
        hint = " It exists only after `hide_labels`." if column == FULL_LABELS else ""
        raise ValueError(f"The data set has no column `{column}`, only {', '.join(dataset.column_names)}.{hint}")
    table = dataset.select_columns([column]).with_format("arrow")[:]
    flat = table.column(column).combine_chunks().flatten().to_numpy(zero_copy_only=False)
    num_labels = len(label_names(dataset))
    if len(flat) != len(dataset) * num_labels:
        raise ValueError(f"`{column}` must have {num_labels} labels in every row, got {dataset.features[column]}.")
    return flat.reshape(len(dataset), num_labels)


def image_files(dataset: "Dataset") -> list[str]:
    """The path of every image; the image id, where there are bytes without a path."""
    column = dataset.select_columns([IMAGE]).with_format("arrow")[:].column(IMAGE)
    paths = [path for chunk in column.chunks for path in chunk.field("path").to_pylist()]
    return [path or image_id for path, image_id in zip(paths, dataset[IMAGE_ID], strict=True)]


def set_labels(dataset: "Dataset", labels: np.ndarray, names: Sequence[str]) -> "Dataset":
    """`dataset` with `labels`, and `positives` made from them, as its last two columns; no image is touched."""
    from datasets import ClassLabel, List, Value

    check_unique(names, "`names` must be unique label names")
    check_labels(labels, len(names))
    dataset = keep_columns(dataset, [name for name in dataset.column_names if name not in (LABELS, POSITIVES)])
    labels_feature = List(Value("int8"), length=len(names))
    dataset = dataset.add_column(LABELS, _labels_column(labels), feature=labels_feature)
    positives_feature = List(ClassLabel(names=list(names)))
    return dataset.add_column(POSITIVES, _positives_column(labels), feature=positives_feature)


def keep_columns(dataset: "Dataset", names: Sequence[str]) -> "Dataset":
    """`dataset` with these columns only, ready for new ones.

    `select_columns` of `datasets` keeps the parts that columns which are gone came from, with no rows, and then no
    column can be added.
    """
    from datasets.table import ConcatenationTable

    kept = dataset.select_columns(list(names))
    if isinstance(kept.data, ConcatenationTable):
        blocks = [[block for block in blocks if block.num_columns] for blocks in kept.data.blocks]
        kept._data = ConcatenationTable.from_blocks(blocks)
    return kept


def check_unique(values: Sequence, message: str) -> None:
    """Raise `ValueError` that starts with `message` and names the values that occur more than once."""
    if len(set(values)) == len(values):
        return
    repeated = [f"{value!r} ({count} times)" for value, count in Counter(values).items() if count > 1]
    more = f" and {len(repeated) - 5} more" if len(repeated) > 5 else ""
    raise ValueError(f"{message}, but these are repeated: {', '.join(repeated[:5])}{more}.")


def _fingerprint(table: "pa.Table") -> str:
    """A number that tells tables apart; that of `datasets` copies the table for it."""
    digest = hashlib.sha256(str(table.schema.metadata).encode())
    for column in table.columns:
        for buffer in (buffer for chunk in column.chunks for buffer in chunk.buffers() if buffer is not None):
            digest.update(buffer)
    return digest.hexdigest()[:16]


def _labels_column(labels: np.ndarray) -> "pa.Array":
    import pyarrow as pa

    flat = np.ascontiguousarray(labels, dtype=np.int8).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), labels.shape[1])


def _positives_column(labels: np.ndarray) -> "pa.Array":
    """The column indices of the +1 entries of every row, as a list array."""
    import pyarrow as pa

    blocks = [labels[start : start + ROWS_AT_A_TIME] for start in range(0, len(labels), ROWS_AT_A_TIME)]
    counts = [(block == POSITIVE).sum(axis=1) for block in blocks]
    offsets = np.concatenate([[0], *counts]).cumsum(dtype=np.int32)
    columns = np.empty(offsets[-1], dtype=np.int64)
    start = 0
    for block, count in zip(blocks, counts, strict=True):
        columns[start : start + count.sum()] = np.nonzero(block == POSITIVE)[1]
        start += count.sum()
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(columns))


def _image_column(images: Sequence) -> "pa.Array":
    import pyarrow as pa

    if all(isinstance(image, (str, Path)) for image in images):
        paths = pa.array([str(image) for image in images], type=pa.string())
        return pa.StructArray.from_arrays([pa.nulls(len(paths), pa.binary()), paths], names=["bytes", "path"])
    encoded = [_encode_image(image) for image in images]
    return pa.array(encoded, type=pa.struct({"bytes": pa.binary(), "path": pa.string()}))


def _encode_image(image: Any) -> dict[str, Any]:
    if isinstance(image, (str, Path)):
        return {"bytes": None, "path": str(image)}
    if isinstance(image, bytes):
        return {"bytes": image, "path": None}
    if not hasattr(image, "save"):
        raise TypeError(f"An image must be a path, encoded bytes or a PIL image, got {type(image).__name__}.")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}
