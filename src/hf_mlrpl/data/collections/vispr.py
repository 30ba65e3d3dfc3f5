"""VISPR: photos with 68 attributes of privacy."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..columns import check_split
from ..containers.places import base_name
from ..files import read_json, read_lines
from ..json_files import JsonObject
from ..rows import Photo, load_photos, split_photos

if TYPE_CHECKING:
    from datasets import Dataset

PARTS = {"train": "train2017", "validation": "val2017", "test": "test2017"}


class Annotation(JsonObject):
    labels: list[str]
    image_path: str = ""


def load_vispr(path: str | Path, split: str = "train", missing: str = "error") -> "Dataset":
    """The photos of VISPR (Orekondy et al. 2017) with one label per attribute, in the order of their numbers.

    An attribute that is not listed is absent. "a0_safe" is a label like the others.

    ```
    path/train2017.txt                         paths of annotations, one per line; without it all of path/train2017/
    path/train2017/2017_10002045.json          {"image_path": "...", "labels": ["a1_age_approx", ...]}
    path/train2017/2017_10002045.jpg           photos; or in path/images/train2017/
    ```

    and the same with val2017 ("validation") and test2017 ("test"). Labels are those of all splits that are there.

    Args:
        missing: what to do about photos that do not exist: "error", or "skip" leaves them out and counts them.
    """
    from datasets.utils import tqdm

    folder = Path(path).expanduser().absolute()
    files = {of: _files(folder, part) for of, part in PARTS.items()}
    existing = [of for of, of_split in files.items() if of_split]
    if not existing:
        raise FileNotFoundError(f"There are no annotations in {folder / 'train2017'}, and no list train2017.txt.")
    check_split(split, existing, folder)
    all_files = [file for of_split in files.values() for file in of_split]
    content = {file: _read(file) for file in tqdm(all_files, delay=1, desc="annotations of VISPR", leave=False)}
    names = sorted({name for annotation in content.values() for name in annotation.labels}, key=_number)
    photos = [
        Photo(
            file=base_name(content[file].image_path) or f"{file.stem}.jpg",
            image_id=file.stem,
            present=content[file].labels,
        )
        for file in files[split]
    ]
    part = PARTS[split]
    folders = [folder / part, folder / "images" / part, folder / "images", folder]
    rows = split_photos(photos, str(folder / part), folders, names)["train"]
    return load_photos(rows.resolved("absent"), missing)


def recognise(path: Path) -> str:
    """Why `path` is no folder of VISPR; an empty text, if it is one."""
    if not path.is_dir():
        return "no folder"
    file = next(iter(_files(path, PARTS["train"])[:1]), None)
    if file is None or not file.is_file():
        return "no annotations in train2017/"
    try:
        return "" if _read(file).labels else "no labels in its annotations"
    except ValueError as error:
        return str(error)


def _files(folder: Path, part: str) -> list[Path]:
    if (folder / f"{part}.txt").is_file():
        return [folder / line for line in read_lines(folder / f"{part}.txt")]
    return sorted([*(folder / part).glob("*.json"), *(folder / "annotations" / part).glob("*.json")])


def _read(file: Path) -> Annotation:
    if not file.is_file():
        raise FileNotFoundError(f"The annotation {file} does not exist.")
    try:
        return msgspec.convert(read_json(file), Annotation)
    except msgspec.ValidationError as error:
        raise ValueError(f"{file} cannot be read as an annotation of VISPR: {error}.") from error


def _number(name: str) -> tuple[int, str]:
    found = re.match(r"a(\d+)_", name)
    return (int(found[1]) if found else 10_000, name)
