"""VG-200: the 200 most frequent labels of Visual Genome."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..columns import check_split
from ..files import numbered_lines, read_json
from ..names import read_label_names
from ..rows import LabelRows, load_photos
from ..tables.index_lists import check_indices, labels_at

if TYPE_CHECKING:
    from datasets import Dataset

NUM_LABELS = 200
INDEX_FILE = "vg_category_200_labels_index.json"
SPLIT_LISTS = ("released", "paper")
PAPER_TEST_IMAGES = 10_000


def load_vg200(
    path: str | Path,
    split: str = "train",
    split_lists: str = "released",
    labels: Sequence[str] | str | Path | None = None,
    missing: str = "error",
) -> "Dataset":
    """The photos of VG-200, in the order of the list; an image may show none of the 200 labels.

    The files are those that come with the public code of SSGRL and SST. They number the labels by falling frequency;
    their names have not been published.

    ```
    path/vg_category_200_labels_index.json        {"2328403.jpg": [3, 17], ...}: labels that are present
    path/train_list_500.txt                       82,904 file names, one per line
    path/test_list_500.txt                        10,000
    path/VG_100K/  path/VG_100K_2/                photos; or all of them in path/images/ or in path/ itself
    ```

    Args:
        split_lists: "released", the two lists. "paper": the papers state 98,249 and 10,000 images and publish no
            list; here 10,000 of all images of the JSON file, sorted by name and drawn with seed 0, are for testing.
        labels: the 200 label names, a list or a text file with one per line; by default "label 0" and so on.
        missing: what to do about photos that do not exist: "error", or "skip" leaves them out and counts them.
    """
    check_split(split, ["train", "test"], "VG-200")
    if split_lists not in SPLIT_LISTS:
        raise ValueError(f"`split_lists` must be one of {', '.join(SPLIT_LISTS)}, got {split_lists!r}.")
    label_names = read_label_names(labels) or [f"label {i}" for i in range(NUM_LABELS)]
    if len(label_names) != NUM_LABELS:
        raise ValueError(f"`labels` must name the {NUM_LABELS} labels of VG-200, got {len(label_names)} names.")
    folder = Path(path).expanduser().absolute()
    index = _read_index(folder / INDEX_FILE)
    if split_lists == "released":
        file = folder / f"{split}_list_500.txt"
        names = _listed_names(file, index)
    else:
        file = folder / INDEX_FILE
        names = _drawn_names(sorted(index), split)
    folders = [folder / name for name in ("VG_100K", "VG_100K_2", "images", ".")]
    matrix = labels_at([index[name] for name in names], NUM_LABELS)
    rows = LabelRows(source=str(file), names=label_names, labels=matrix, files=names, ids=names, folders=folders)
    return load_photos(rows, missing)


def _read_index(file: Path) -> dict[str, list[int]]:
    if not file.is_file():
        raise FileNotFoundError(f"The label file {file} does not exist. Is this the folder of the data set?")
    index = read_json(file)
    if not isinstance(index, dict) or not all(isinstance(indices, list) for indices in index.values()):
        raise ValueError(f'{file} must be a JSON object of file names and lists, such as {{"2328403.jpg": [3, 17]}}.')
    for name, indices in index.items():
        check_indices(indices, NUM_LABELS, f"{file}, {name}")
    return index


def _listed_names(file: Path, index: dict[str, list[int]]) -> list[str]:
    lines = numbered_lines(file)
    for number, name in lines.items():
        if name not in index:
            raise ValueError(f"{file}, line {number}: {INDEX_FILE} has no labels of {name}.")
    return list(lines.values())


def _drawn_names(names: list[str], split: str) -> list[str]:
    if len(names) <= PAPER_TEST_IMAGES:
        raise ValueError(f"{INDEX_FILE} must have more than {PAPER_TEST_IMAGES} images, got {len(names)}.")
    order = np.random.RandomState(0).permutation(len(names))
    rows = order[:PAPER_TEST_IMAGES] if split == "test" else order[PAPER_TEST_IMAGES:]
    return [names[row] for row in np.sort(rows)]
