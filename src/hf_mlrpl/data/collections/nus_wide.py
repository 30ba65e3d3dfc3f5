"""NUS-WIDE: photos of Flickr with 81 concepts."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...labels import NEGATIVE, POSITIVE
from ..columns import check_split
from ..files import packaged_label_names, read_lines
from ..rows import LabelRows, load_photos
from ..tables.index_lists import labels_at, read_index_list

if TYPE_CHECKING:
    from datasets import Dataset

LABELS_FOLDER = Path("Groundtruth") / "TrainTestLabels"
PHOTO_FOLDERS = ("Flickr", "images", ".")


def load_nus_wide(
    path: str | Path, split: str = "train", subset: str = "official", missing: str = "error"
) -> "Dataset":
    """The photos of NUS-WIDE with one label per concept, in alphabetical order.

    Many photos are gone from Flickr, so papers use different subsets, whose numbers cannot be compared:

    ```
    path/ImageList/TrainImagelist.txt                            subset="official": 161,789 and 107,859 photos
    path/Groundtruth/TrainTestLabels/Labels_airport_Train.txt    0 or 1 per line
    path/nus_train_full.txt  path/nus_val.txt                    subset="splc": 119,103 and 50,720, `a.jpg,3 17`
    path/formatted_train_images.npy  path/formatted_train_labels.npy   subset="cole": 150,000 and 60,260; and _val_
    path/Flickr/                                                 photos; or in path/images/ or in path/ itself
    ```

    Args:
        subset: "official", "splc" (Zhang et al. 2021, SCPNet) or "cole" (Cole et al. 2021, LargeLoss), the files that
            these authors publish.
        missing: what to do about photos that do not exist: "error", or "skip" leaves them out.
    """
    check_split(split, ["train", "test"], "NUS-WIDE")
    readers = {"official": _read_official, "splc": _read_splc, "cole": _read_cole}
    if subset not in readers:
        raise ValueError(f"`subset` must be one of {', '.join(readers)}, got {subset!r}.")
    folder = Path(path).expanduser().absolute()
    file, photo_names, labels, names = readers[subset](folder, split)
    if len(labels) != len(photo_names) or not len(labels):
        raise ValueError(f"{file} lists {len(photo_names)} photos, but there are labels of {len(labels)}.")
    folders = [folder / name for name in PHOTO_FOLDERS]
    rows = LabelRows(source=str(file), names=names, labels=labels, files=photo_names, ids=photo_names, folders=folders)
    return load_photos(rows, missing)


def _read_official(folder: Path, split: str) -> tuple[Path, list[str], np.ndarray, list[str]]:
    """The list of photos, their names, their labels and the names of the labels."""
    part = split.capitalize()
    file = folder / "ImageList" / f"{part}Imagelist.txt"
    photo_names = [line.replace("\\", "/") for line in read_lines(file)]
    files = {
        of_label.name.removeprefix("Labels_").removesuffix(f"_{part}.txt"): of_label
        for of_label in (folder / LABELS_FOLDER).glob(f"Labels_*_{part}.txt")
    }
    if not files:
        raise FileNotFoundError(f"There are no label files {folder / LABELS_FOLDER / f'Labels_*_{part}.txt'}.")
    names = sorted(files)
    columns = [_read_column(files[name], len(photo_names), file) for name in names]
    return file, photo_names, np.stack(columns, axis=1), names


def _read_column(file: Path, num_photos: int, image_list: Path) -> np.ndarray:
    values = np.array(file.read_bytes().split(), dtype=np.bytes_)
    wrong = np.flatnonzero((values != b"0") & (values != b"1"))
    if len(wrong):
        raise ValueError(f"{file}, line {wrong[0] + 1}: expected 0 or 1, got {values[wrong[0]].decode()!r}.")
    if len(values) != num_photos:
        raise ValueError(f"{file} has labels of {len(values)} photos, but {image_list} lists {num_photos}.")
    return np.where(values == b"1", POSITIVE, NEGATIVE).astype(np.int8)


def _read_splc(folder: Path, split: str) -> tuple[Path, list[str], np.ndarray, list[str]]:
    names = packaged_label_names("nus_wide")
    file = folder / ("nus_train_full.txt" if split == "train" else "nus_val.txt")
    listed = read_index_list(file, len(names))
    return file, [image.name for image in listed], labels_at([image.labels for image in listed], len(names)), names


def _read_cole(folder: Path, split: str) -> tuple[Path, list[str], np.ndarray, list[str]]:
    names = packaged_label_names("nus_wide")
    part = "train" if split == "train" else "val"
    file, label_file = (folder / f"formatted_{part}_{what}.npy" for what in ("images", "labels"))
    photo_names, labels = (_load_array(file) for file in (file, label_file))
    if labels.ndim != 2 or labels.shape[1] != len(names) or not np.isin(labels, (0, 1)).all():
        raise ValueError(f"{label_file} must have {len(names)} labels of 0 or 1 in every row, got {labels.shape}.")
    return file, photo_names.tolist(), np.where(labels == 1, POSITIVE, NEGATIVE).astype(np.int8), names


def _load_array(file: Path) -> np.ndarray:
    if not file.is_file():
        raise FileNotFoundError(f"The file {file} does not exist.")
    try:
        return np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file} cannot be read as a NumPy array: {error}.") from error
