"""Open Images with labels that people verified."""

import csv
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...labels import NEGATIVE, POSITIVE, UNKNOWN
from ..columns import check_split
from ..rows import LabelRows, load_photos

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

SPLITS = ("train", "validation", "test")


def load_openimages(
    path: str | Path,
    split: str = "train",
    boxable: bool = True,
    measurable_only: bool = False,
    missing: str = "error",
) -> "Dataset":
    """The photos of Open Images with their verified labels; what nobody verified is unknown.

    Labels stand in the order of the file of names, photos in the order of their first label. A photo without a
    verified label is left out, and a label that is verified as present and as absent is present.

    ```
    path/train-annotations-human-imagelabels-boxable.csv     ImageID,Source,LabelName,Confidence: 1 present, 0 absent
    path/class-descriptions-boxable.csv                      /m/011k07,Tortoise
    path/train/0a1b2c3d4e5f6789.jpg                          photos; also path/images/train/
    ```

    and the same with `validation` and `test`; files may begin with `oidv6-` or `oidv7-`. The labels of all photos are
    in memory, a byte each: about 1 GB for the 600 boxable ones of the 1.7 million training photos.

    Args:
        boxable: the 600 labels that have boxes; otherwise all, from the files without `-boxable`.
        measurable_only: only labels that each split has as present and as absent. Kundu et al. 2020 use 497 and
            publish no list.
        missing: what to do about photos that do not exist: "error", or "skip" leaves them out.
    """
    check_split(split, SPLITS, "Open Images")
    folder = Path(path).expanduser().absolute()
    suffix = "-boxable" if boxable else ""
    labels = _read_names(_find_file(folder, f"class-descriptions{suffix}.csv"))
    files = {part: f"{part}-annotations-human-imagelabels{suffix}.csv" for part in SPLITS}
    file = _find_file(folder, files[split])
    image_ids, matrix = _read_labels(file, list(labels))
    names = list(labels.values())
    if measurable_only:
        measurable = _is_measurable(matrix)
        for part in SPLITS:
            if part != split:
                measurable &= _is_measurable(_read_labels(_find_file(folder, files[part]), list(labels))[1])
        if not measurable.any():
            raise ValueError(f"{folder}: no label is verified as present and as absent in every split.")
        matrix = matrix[:, measurable]
        names = [name for name, kept in zip(names, measurable, strict=True) if kept]
    folders = [folder / split, folder / "images" / split]
    rows = LabelRows(
        source=str(file),
        names=names,
        labels=matrix,
        files=[f"{image_id}.jpg" for image_id in image_ids],
        ids=image_ids,
        folders=folders,
    )
    return load_photos(rows.select(np.flatnonzero((matrix != UNKNOWN).any(axis=1))), missing)


def _find_file(folder: Path, name: str) -> Path:
    for prefix in ("", "oidv7-", "oidv6-"):
        if (folder / f"{prefix}{name}").is_file():
            return folder / f"{prefix}{name}"
    raise FileNotFoundError(f"The file {folder / name} does not exist, with `oidv6-` or `oidv7-` before it neither.")


def _read_names(file: Path) -> dict[str, str]:
    """The name of every label by its machine name; one that several have gets the machine name behind it."""
    names: dict[str, str] = {}
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.reader(lines)
        for row in rows:
            if row[:1] == ["LabelName"]:  # newer files have a header
                continue
            if len(row) != 2 or row[0] in names:
                raise ValueError(f"{file}, line {rows.line_num}: expected a new machine name and its name, got {row}.")
            names[row[0]] = row[1]
    count = Counter(names.values())
    return {machine: name if count[name] == 1 else f"{name} ({machine})" for machine, name in names.items()}


def _read_labels(file: Path, machine_names: list[str]) -> tuple[list[str], np.ndarray]:
    """The image ids, and the labels `(num_images, num_labels)` in {-1, 0, +1}."""
    image, label, confidence = _read_columns(file)
    order = {name: i for i, name in enumerate(machine_names)}
    column_of = np.array([order.get(name, -1) for name in label.dictionary.to_pylist()])
    rows, columns = image.indices.to_numpy(), column_of[label.indices.to_numpy()]
    wrong = np.flatnonzero(~np.isin(confidence, (0, 1)))
    if len(wrong):
        raise ValueError(f"{file}, line {wrong[0] + 2}: `Confidence` must be 0 or 1, got {confidence[wrong[0]]}.")
    matrix = np.full((len(image.dictionary), len(machine_names)), UNKNOWN, dtype=np.int8)
    for value, number in ((NEGATIVE, 0), (POSITIVE, 1)):
        chosen = (confidence == number) & (columns >= 0)
        matrix[rows[chosen], columns[chosen]] = value
    return image.dictionary.to_pylist(), matrix


def _read_columns(file: Path) -> "tuple[pa.DictionaryArray, pa.DictionaryArray, np.ndarray]":
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    texts = pa.dictionary(pa.int32(), pa.string())
    types = {"ImageID": texts, "LabelName": texts, "Confidence": pa.float32()}
    options = arrow_csv.ConvertOptions(column_types=types, include_columns=list(types))
    try:
        table = arrow_csv.read_csv(file, convert_options=options).unify_dictionaries().combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise ValueError(f"{file} cannot be read as labels of Open Images: {error}.") from error
    image, label, confidence = (table.column(name).combine_chunks() for name in types)
    return image, label, confidence.to_numpy(zero_copy_only=False)


def _is_measurable(labels: np.ndarray) -> np.ndarray:
    return (labels == POSITIVE).any(axis=0) & (labels == NEGATIVE).any(axis=0)
