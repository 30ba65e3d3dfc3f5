"""Exports of Label Studio: JSON, JSON-MIN, CSV and TSV."""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ...labels import shorten
from ...settings import as_setting
from ..files import RepeatedKey, parse_json, read_utf8, unique_keys
from ..rows import Choices, LabelRows, Photo, load_rows, split_photos
from ..tables.table_files import read_table
from .places import base_name, best_names, ends_of, folders_near, is_photo, one_file, why_no_file

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

SUFFIXES = (".json", ".csv", ".tsv")
# Columns of JSON-MIN and CSV that hold no labels.
OTHERS = {"id", "annotation_id", "annotator", "created_at", "updated_at", "lead_time", "agreement", "inner_id"}
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{4,8}-")


def load_label_studio(
    path: str | Path,
    split: str = "train",
    labels: Sequence[str] | str | Path | None = None,
    rename: Mapping[str, str] | str | Path | None = None,
    unlisted: str = "unknown",
    missing: str = "error",
    image_folder: str | Path | None = None,
    field: str | None = None,
) -> "Dataset":
    """The photos of a project of Label Studio with the choices or the labels of boxes as labels.

    ```
    path/project-1-at-2026-01-01.json    JSON: [{"annotations": [{"result": [...]}], "data": {"image": ...}}, ...]
                                         JSON-MIN: [{"image": "/data/upload/1/a.jpg", "choice": "Boat"}, ...]
                                         CSV, TSV: image,choice,annotation_id,...
    path/a.jpg  path/images/a.jpg        photos, under the name that the tool gave them or the one before
    ```

    A photo that nobody annotated stays unknown with `unlisted="absent"`, too. Where annotators of a photo disagree on
    a label it is unknown, and that is said.

    Args:
        path: the exported file, or a folder with nothing else of its kind.
        field: the control, as in `from_name`, or the column, where labels come from several.
        labels, rename, unlisted, missing, image_folder: see `hf_mlrpl.data.rows.Choices`.
    """
    choices = Choices(labels=labels, rename=rename, unlisted=unlisted, missing=missing, image_folder=image_folder)
    return load_rows(read_label_studio(Path(path).expanduser().absolute(), field), split, choices)


def recognise(path: Path) -> str:
    """Why `path` is no export of Label Studio; an empty text, if it is one."""
    return why_no_file(path, SUFFIXES, _recognise_file)


def _recognise_file(file: Path) -> str:
    text = ends_of(file)
    if file.suffix.lower() == ".json":
        full = '"annotations"' in text and '"data"' in text and text.lstrip().startswith("[")
        minimal = '"annotation_id"' in text or '"lead_time"' in text
        return "" if full or minimal else "neither tasks with `annotations` and `data`, nor `annotation_id`"
    header = text.split("\n", 1)[0]
    return "" if "annotation_id" in header and "annotator" in header else "no columns `annotation_id` and `annotator`"


def read_label_studio(path: Path, field: str | None = None) -> dict[str, LabelRows]:
    """The rows of an export."""
    file = one_file(path, SUFFIXES, _recognise_file)
    annotations: dict[str, list[set[str]]] = {}
    for image, names in _annotations(file, field):
        of_image = annotations.setdefault(image, [])
        if names is not None:
            of_image.append(names)
    folders = folders_near(file.parent)
    images = [_path_in_project(image) for image in annotations]
    bases = [base_name(image) for image in images]
    spellings = [images, bases] if len(set(bases)) == len(bases) else [images]
    spellings += [[UPLOAD_PREFIX.sub("", name) for name in names] for names in spellings]
    files = best_names(spellings, folders)
    disputed = 0
    photos = []
    for name, lists in zip(files, annotations.values(), strict=True):
        agreed = set.intersection(*lists) if lists else set()
        others = set().union(*lists) - agreed
        disputed += len(others)
        photos.append(Photo(file=name, present=agreed, unknown=others, annotated=bool(lists)))
    if disputed:
        logger.warning("%s: annotators disagree on %d labels, which are unknown now.", file, disputed)
    return split_photos(photos, str(file), folders)


def _path_in_project(image: str) -> str:
    """The path of a photo without what the tool puts before it: `/data/upload/1/a.jpg` is `a.jpg`."""
    local = re.match(r"^/data/local-files/\?d=(.*)$", image)
    path = local[1] if local else re.sub(r"^/?data/upload/(\d+/)?", "", image)
    return unquote(path).lstrip("/") if "://" not in path else base_name(unquote(path))


def _annotations(file: Path, field: str | None) -> Iterator[tuple[str, set[str] | None]]:
    """The photo of each annotation and the names in it; `None` for a task without one."""
    if file.suffix.lower() == ".json":
        tasks = parse_json(read_utf8(file), file)
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise ValueError(f"{file} must be a list of tasks of Label Studio.")
        if any("annotations" in task for task in tasks):
            yield from _full(file, tasks, field)
            return
        rows = tasks
    else:
        columns = {name: column.cells() for name, column in read_table(file).columns.items()}
        rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    image = _image_key(file, rows)
    column = field or _label_key(file, rows, image)
    for row in rows:
        yield row[image], set(_names(row.get(column), f"{file}, {row[image]}"))


def _full(file: Path, tasks: list[dict[str, Any]], field: str | None) -> Iterator[tuple[str, set[str] | None]]:
    key = _image_key(file, [task.get("data", {}) for task in tasks])
    controls: set[str] = set()
    for task in tasks:
        image = task["data"][key]
        done = [one for one in task.get("annotations", []) if not one.get("was_cancelled")]
        if not done:
            yield image, None
        for annotation in done:
            results = [r for r in annotation.get("result", []) if field is None or r.get("from_name") == field]
            controls.update(str(result.get("from_name")) for result in results)
            yield image, {name for result in results for name in _names(result.get("value"), f"{file}, {image}")}
    if field is not None and field not in controls:
        raise ValueError(f"{file} has no results of the control {field!r}.")
    if len(controls) > 1:
        logger.warning(
            "%s: labels come from several controls: %s. For one of them: %s.",
            file,
            ", ".join(sorted(controls)),
            as_setting("field", min(controls)),
        )


def _image_key(file: Path, rows: list[dict[str, Any]]) -> str:
    keys = dict.fromkeys(key for row in rows for key in row)
    texts = {key: [row[key] for row in rows if row.get(key)] for key in keys}
    found = [k for k, values in texts.items() if values and all(isinstance(v, str) and is_photo(v) for v in values)]
    if "image" in found:
        return "image"
    if len(found) != 1:
        raise ValueError(
            f"{file}: one field must name the photos, such as `image`; found {', '.join(found) or 'none'}."
        )
    return found[0]


def _label_key(file: Path, rows: list[dict[str, Any]], image: str) -> str:
    """The column with labels: the one with choices or boxes; else the only one that is left."""
    keys = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in OTHERS and key != image]
    structured = [key for key in keys if any(_structure(row.get(key), str(file)) is not None for row in rows)]
    found = structured or keys
    if len(found) != 1:
        raise ValueError(
            f"{file}: which field holds the labels, {shorten(found, 8)}? "
            f"{as_setting('field', found[0]) if found else 'There is none.'}"
        )
    return found[0]


def _structure(cell: Any, where: str) -> Any:
    """The list or object in a cell; `None` for other cells."""
    if isinstance(cell, str) and cell[:1] in ("{", "["):
        try:
            return json.loads(cell, object_pairs_hook=unique_keys)
        except json.JSONDecodeError:
            return None
        except RepeatedKey as error:
            raise ValueError(f"{where}: {error}") from None
    return cell if isinstance(cell, (dict, list)) else None


def _names(value: Any, where: str) -> list[str]:
    """The names in the value of a result, or in a cell."""
    content = _structure(value, where)
    if content is None:
        return [value] if value else []
    if isinstance(content, dict):
        lists = [names for key, names in content.items() if key == "choices" or key.endswith("labels")]
        names = [name for names in lists for name in ([names] if isinstance(names, str) else names)]
    else:
        names = [name for item in content for name in ([item] if isinstance(item, str) else _names(item, where))]
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"{where}: expected names of labels, got {content!r}.")
    return names
