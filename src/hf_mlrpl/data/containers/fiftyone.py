"""Exports of FiftyOne: labels.json, samples.json and CSV."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...labels import shorten
from ...settings import as_setting
from ..files import parse_json, read_utf8
from ..rows import Choices, LabelRows, Photo, load_rows, split_photos
from ..tables.layouts import TableSettings
from ..tables.table import read_tables
from ..tables.table_files import read_table
from .places import SPLIT_WORD, base_name, best_names, ends_of, folders_near, one_file, why_no_file

if TYPE_CHECKING:
    from datasets import Dataset

SUFFIXES = (".json", ".csv")
LISTS = {"Classifications": "classifications", "Detections": "detections", "Polylines": "polylines"}


def load_fiftyone(
    path: str | Path,
    split: str = "train",
    labels: Sequence[str] | str | Path | None = None,
    rename: Mapping[str, str] | str | Path | None = None,
    unlisted: str = "unknown",
    missing: str = "error",
    image_folder: str | Path | None = None,
    field: str | None = None,
) -> "Dataset":
    """The photos of a data set that FiftyOne exports, with its classifications or detections as labels.

    ```
    path/labels.json      FiftyOneImageClassificationDataset: {"classes": [...], "labels": {"a": [0, 2], ...}}
    path/samples.json     FiftyOneDataset: {"samples": [{"filepath": "data/a.jpg", "ground_truth": {...}}, ...]}
    path/labels.csv       CSVDataset: filepath,tags,ground_truth.label; lists have commas
    path/data/a.jpg       photos
    ```

    Tags such as "train" or "validation" tell the split. A photo without a label field stays unknown with
    `unlisted="absent"`, too. FiftyOne's COCO and VOC exports are read by `load_coco_json` and `load_voc_xml`.

    Args:
        path: the exported file, or its folder.
        field: the label field, where there are several, such as `ground_truth`.
        labels, rename, unlisted, missing, image_folder: see `hf_mlrpl.data.rows.Choices`.
    """
    choices = Choices(labels=labels, rename=rename, unlisted=unlisted, missing=missing, image_folder=image_folder)
    return load_rows(read_fiftyone(Path(path).expanduser().absolute(), field), split, choices)


def recognise(path: Path) -> str:
    """Why `path` is no export of FiftyOne; an empty text, if it is one."""
    return why_no_file(path, SUFFIXES, _recognise_file)


def _recognise_file(file: Path) -> str:
    text = ends_of(file)
    if file.suffix.lower() == ".csv":
        return "" if "filepath" in text.split("\n", 1)[0].split(",") else "no column `filepath`"
    if file.name == "samples.json" and '"samples"' in text:
        return ""
    is_classification = file.name == "labels.json" and '"labels"' in text and '"images"' not in text
    return "" if is_classification else "no labels.json with `labels`, no samples.json with `samples`"


def read_fiftyone(path: Path, field: str | None = None) -> dict[str, LabelRows]:
    """The rows of an export."""
    file = one_file(path, SUFFIXES, _recognise_file)
    folders = folders_near(file.parent)
    if file.suffix.lower() == ".csv":
        return _read_csv(file, field, folders)
    content = parse_json(read_utf8(file), file)
    if "samples" in content:
        photos, names = list(_samples(file, content["samples"], field)), None
    else:
        names = content.get("classes")
        photos = list(_classified(file, content["labels"], names, folders))
    existing = best_names([[photo.file for photo in photos], [base_name(photo.file) for photo in photos]], folders)
    photos = [replace(photo, file=name) for photo, name in zip(photos, existing, strict=True)]
    return split_photos(photos, str(file), folders, names)


def _read_csv(file: Path, field: str | None, folders: list[Path]) -> dict[str, LabelRows]:
    table = read_table(file)
    others = [name for name in table.columns if name not in ("filepath", "tags", "id")]
    if field is None and len(others) != 1:
        raise ValueError(
            f"{file}: which column holds the labels, {shorten(others, 8)}? "
            f"{as_setting('field', (others or ['...'])[0])}"
        )
    settings = TableSettings(image_column="filepath", label_columns=[field or others[0]], separator="comma")
    splits = read_tables({"train": table}, settings)
    names = best_names([splits["train"].files, [base_name(name) for name in splits["train"].files]], folders)
    return {"train": replace(splits["train"], files=names, folders=folders)}


def _classified(
    file: Path, labels: Mapping[str, Any], classes: list[str] | None, folders: list[Path]
) -> Iterator[Photo]:
    """The photos of `labels.json`, which names them without their suffix."""
    suffix_of = {
        path.relative_to(folder).with_suffix("").as_posix(): path.suffix
        for folder in reversed(folders)
        if folder.is_dir()
        for path in folder.rglob("*.*")
    }
    for name, target in labels.items():
        targets = target if isinstance(target, list) else [] if target is None else [target]
        found = [_target(file, name, one, classes) for one in targets]
        yield Photo(
            file=f"{name}{suffix_of.get(name, '')}", present=found, annotated=target is not None, image_id=name
        )


def _target(file: Path, name: str, target: Any, classes: list[str] | None) -> str:
    if isinstance(target, dict):
        target = target.get("label")
    if isinstance(target, int) and classes is not None and 0 <= target < len(classes):
        return classes[target]
    if not isinstance(target, str):
        raise ValueError(f"{file}, {name}: expected the name of a label, or its index in `classes`, got {target!r}.")
    return target


def _samples(file: Path, samples: list[dict[str, Any]], field: str | None) -> Iterator[Photo]:
    kinds = {*LISTS, "Classification"}
    fields = {key for sample in samples for key, value in sample.items() if _kind(value) in kinds}
    if field is None and len(fields) != 1:
        raise ValueError(
            f"{file}: which field holds the labels, {shorten(sorted(fields), 8) or 'none is there'}? "
            f"{as_setting('field', min(fields, default='...'))}"
        )
    chosen = field or fields.pop()
    for sample in samples:
        value = sample.get(chosen)
        objects = [] if value is None else value.get(LISTS.get(_kind(value), ""), [value])
        tags = [tag for tag in sample.get("tags", []) if SPLIT_WORD.fullmatch(tag)]
        yield Photo(
            file=sample["filepath"],
            present=[one["label"] for one in objects],
            annotated=value is not None,
            split=tags[0].lower() if tags else "train",
        )


def _kind(value: Any) -> str:
    return value.get("_cls", "") if isinstance(value, dict) else ""
