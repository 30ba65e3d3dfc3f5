"""CheXpert: chest X-rays with 14 observations, which reports mention as present, absent or uncertain."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..columns import check_split
from ..containers.places import best_names
from ..rows import LabelRows, load_photos
from ..tables.table_files import read_table
from ..tables.values import MEANINGS, Alphabet, read_values

if TYPE_CHECKING:
    from datasets import Dataset

NAMES = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)


def load_chexpert(
    path: str | Path,
    split: str = "train",
    uncertain: str = "unknown",
    unmentioned: str = "unknown",
    missing: str = "error",
) -> "Dataset":
    """The X-rays of CheXpert with one label per observation, in the order of the file.

    1 is present, 0 is absent, -1 is what a report is uncertain about, and nothing is what it does not mention.

    ```
    path/train.csv           Path,Sex,Age,...,No Finding,...: 223,414 X-rays
    path/valid.csv           234, "validation"; and "test", where there is no test.csv
    path/train/patient00001/study1/view1_frontal.jpg
    ```

    Args:
        path: the folder with `train.csv`, such as CheXpert-v1.0-small.
        uncertain: what -1 is: "unknown", or "present" or "absent" (U-Ones and U-Zeros of Irvin et al. 2019).
        unmentioned: what an empty cell is: "unknown", or "absent", which Irvin et al. take it for.
        missing: what to do about X-rays that do not exist: "error", or "skip" leaves them out and counts them.
    """
    for name, value in (("uncertain", uncertain), ("unmentioned", unmentioned)):
        if value not in MEANINGS:
            raise ValueError(f"`{name}` must be one of {', '.join(MEANINGS)}, got {value!r}.")
    folder = Path(path).expanduser().absolute()
    files = {"train": folder / "train.csv", "validation": folder / "valid.csv", "test": folder / "test.csv"}
    if not files["test"].is_file():
        files["test"] = files["validation"]
    existing = [name for name, file in files.items() if file.is_file()]
    if not existing:
        raise FileNotFoundError(f"The file {files['train']} does not exist. Is this the folder of CheXpert?")
    check_split(split, existing, folder)
    table = read_table(files[split])
    lacking = [name for name in ("Path", *NAMES) if name not in table.columns]
    if lacking:
        raise ValueError(f"{table.source} has no column {lacking[0]!r}. Is it a file of CheXpert?")
    alphabet = Alphabet(read_values({1: "present", 0: "absent", -1: uncertain, "empty": unmentioned}))
    labels = np.stack([alphabet.read(table, name) for name in NAMES], axis=1)
    paths = [name.strip() for name in table.columns["Path"].cells()]
    inside = [name.partition("/")[2] for name in paths]  # they begin with the folder's own name
    rows = LabelRows(
        source=table.source,
        names=list(NAMES),
        labels=labels,
        files=best_names([inside, paths], [folder]),
        ids=inside,
        folders=[folder],
        where=table.place,
    )
    return load_photos(rows, missing)


def recognise(path: Path) -> str:
    """Why `path` is no folder of CheXpert; an empty text, if it is one."""
    file = path / "train.csv"
    if not file.is_file():
        return "no train.csv"
    with file.open(encoding="utf-8", errors="replace") as lines:
        return "" if "Enlarged Cardiomediastinum" in lines.readline() else "no column `Enlarged Cardiomediastinum`"
