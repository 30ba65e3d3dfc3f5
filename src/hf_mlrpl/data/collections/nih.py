"""NIH ChestX-ray14: chest X-rays with 14 findings, mined from reports."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..columns import check_split
from ..files import read_lines
from ..rows import UNLISTED_RULES, Photo, load_photos, split_photos
from ..tables.table_files import read_table

if TYPE_CHECKING:
    from datasets import Dataset

NAMES = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
NO_FINDING = "No Finding"
TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}


def load_nih(path: str | Path, split: str = "train", unlisted: str = "absent", missing: str = "error") -> "Dataset":
    """The X-rays of ChestX-ray14 with one label per finding, in the order of Wang et al. 2017.

    ```
    path/Data_Entry_2017_v2020.csv            Image Index,Finding Labels,...: 00000001_000.png,Cardiomegaly|Emphysema
    path/train_val_list.txt                   86,524 file names, one per line
    path/test_list.txt                        25,596
    path/images_001/images/  ...  images_012/images/      X-rays; or all of them in path/images/
    ```

    Args:
        unlisted: what a finding is that a report does not state: "absent", as in the literature, or "unknown". With
            "No Finding" all are absent.
        missing: what to do about X-rays that do not exist: "error", or "skip" leaves them out and counts them.
    """
    if unlisted not in UNLISTED_RULES:
        raise ValueError(f"`unlisted` must be one of {', '.join(UNLISTED_RULES)}, got {unlisted!r}.")
    check_split(split, list(LISTS), "ChestX-ray14")
    folder = Path(path).expanduser().absolute()
    table = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if table is None:
        raise FileNotFoundError(f"There is no {' or '.join(TABLES)} in {folder}.")
    listed = set(read_lines(folder / LISTS[split]))
    folders = [*sorted(folder.glob("images_*/images")), folder / "images", folder]
    photos = [photo for photo in _photos(table) if photo.file in listed]
    if len(photos) < len(listed):
        unknown = min(listed - {photo.file for photo in photos})
        raise ValueError(f"{folder / LISTS[split]} lists {unknown}, of which {table} says nothing.")
    rows = split_photos(photos, str(table), folders, NAMES)["train"]
    return load_photos(rows.resolved(unlisted), missing)


def recognise(path: Path) -> str:
    """Why `path` is no folder of ChestX-ray14; an empty text, if it is one."""
    return "" if any((path / name).is_file() for name in TABLES) else f"no {TABLES[0]}"


def _photos(file: Path) -> Iterator[Photo]:
    table = read_table(file)
    for name in ("Image Index", "Finding Labels"):
        if name not in table.columns:
            raise ValueError(f"{file} has no column {name!r}. Is it a file of ChestX-ray14?")
    images, findings = (table.columns[name].cells() for name in ("Image Index", "Finding Labels"))
    for image, finding in zip(images, findings, strict=True):
        names = finding.split("|")
        yield Photo(file=image, present=set(names) - {NO_FINDING}, absent=NAMES if names == [NO_FINDING] else ())
