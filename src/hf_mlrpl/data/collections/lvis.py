"""LVIS v1 and v0.5: photos of COCO with 1,203 or 1,230 labels, of which few are known for each photo."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...labels import NEGATIVE, POSITIVE, UNKNOWN
from ..columns import SplitNotFound, check_split
from ..containers.coco_files import CocoFile, Id, coco_rows, places, positions, read_coco
from ..json_files import JsonObject
from ..rows import load_photos

if TYPE_CHECKING:
    from datasets import Dataset

FILE_SPLITS = {"train": "train", "test": "val"}  # the labels of the test photos are not public
VERSIONS = ("v1", "v0.5")


class LvisImage(JsonObject):
    id: Id
    coco_url: str = ""
    neg_category_ids: list[Id] = []
    not_exhaustive_category_ids: list[Id] = []
    file_name: str = ""

    def __post_init__(self) -> None:
        """The name below the folder of photos: v1 has an address, v0.5 sometimes names of 2014."""
        if self.coco_url:
            self.file_name = "/".join(self.coco_url.split("/")[-2:])
        elif self.file_name.startswith("COCO_"):
            self.file_name = self.file_name[-len("000000000001.jpg") :]


def load_lvis(path: str | Path, split: str = "train", version: str = "v1", missing: str = "error") -> "Dataset":
    """The photos of LVIS with one label per category, in the order of the category ids.

    A label is present if an object of the category is annotated, absent if people looked for the category and found
    none (`neg_category_ids`), and unknown otherwise: also where the category is not annotated exhaustively
    (`not_exhaustive_category_ids`) and no object of it is.

    ```
    path/lvis_v1_train.json  path/lvis_v1_val.json      or in path/annotations/; v0.5: lvis_v0.5_train.json
    path/train2017/  path/val2017/                      photos of COCO 2017; or in path/images/
    ```

    Args:
        split: "train", or "test" for the validation photos, whose labels are public.
        version: "v1" or "v0.5".
        missing: what to do about photos that do not exist: "error", or "skip" leaves them out and counts them.
    """
    if version not in VERSIONS:
        raise ValueError(f"`version` must be one of {', '.join(VERSIONS)}, got {version!r}.")
    check_split(split, list(FILE_SPLITS), "LVIS")
    folder = Path(path).expanduser().absolute()
    files = {of: _file(folder, version, part) for of, part in FILE_SPLITS.items()}
    existing = [of for of, file in files.items() if file is not None]
    file = files[split]
    if file is None:
        if existing:
            raise SplitNotFound(split, existing, folder)
        raise FileNotFoundError(f"There is no lvis_{version}_train.json in {folder}, nor in its folder annotations.")
    content = read_coco(file, image=LvisImage)
    folders = [base / part for base in (folder, folder / "images") for part in (".", "train2017", "val2017")]
    rows = coco_rows(content, folders).resolved("unknown")
    _add_known(content, rows.labels)
    return load_photos(rows, missing)


def recognise(path: Path) -> str:
    """Why `path` is no folder of LVIS; an empty text, if it is one."""
    return "" if path.is_dir() and _file(path, "v1", "train") else "no lvis_v1_train.json"


def _file(folder: Path, version: str, part: str) -> Path | None:
    name = f"lvis_{version}_{part}.json"
    return next((file for file in (folder / name, folder / "annotations" / name) if file.is_file()), None)


def _add_known(content: CocoFile, labels: np.ndarray) -> None:
    """Write the labels that are known to be absent, and those that are not exhaustive, unless they are annotated."""
    known = [category.id for category in content.categories]
    for value, lists in (
        (NEGATIVE, [image.neg_category_ids for image in content.images]),
        (UNKNOWN, [image.not_exhaustive_category_ids for image in content.images]),
    ):
        rows = np.repeat(np.arange(len(lists)), [len(ids) for ids in lists])
        columns = positions([id_ for ids in lists for id_ in ids], known)
        if (columns < 0).any():
            row = rows[(columns < 0).argmax()]
            raise ValueError(f"{content.file}: image {content.images[row].id} names a category that is not there.")
        labels[rows, columns] = value
    labels[places(content)] = POSITIVE
