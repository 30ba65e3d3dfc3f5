"""Visual Attributes in the Wild: 620 attributes of objects in the photos of Visual Genome."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..columns import check_split
from ..files import read_json
from ..json_files import JsonObject, refuse_repeated_keys
from ..rows import Photo, load_photos, split_photos

if TYPE_CHECKING:
    from datasets import Dataset

FILES = {"train": ("train_part1.json", "train_part2.json"), "validation": ("val.json",), "test": ("test.json",)}
NAMES = "attribute_index.json"
ABSENT_IN = ("every", "any")


class Instance(JsonObject):
    image_id: int
    positive_attributes: list[str] = []
    negative_attributes: list[str] = []


def load_vaw(path: str | Path, split: str = "train", absent_in: str = "every", missing: str = "error") -> "Dataset":
    """The photos of VAW with one label per attribute, in the order of the index file.

    VAW says of objects which attributes they have and which not, and nothing of most. An attribute is present in a
    photo if one of its objects has it.

    ```
    path/train_part1.json  path/train_part2.json      or in path/data/: [{"image_id": 2373241,
    path/val.json  path/test.json                     "positive_attributes": [...], "negative_attributes": [...]}, ...]
    path/attribute_index.json                         {"abstract": 0, ...}
    path/VG_100K/  path/VG_100K_2/                    photos, 2373241.jpg; or all of them in path/images/
    ```

    Args:
        absent_in: an attribute that no object is known to have is absent if "every" annotated object of the photo is
            known not to have it, or if "any" is; otherwise it is unknown.
        missing: what to do about photos that do not exist: "error", or "skip" leaves them out and counts them.
    """
    if absent_in not in ABSENT_IN:
        raise ValueError(f"`absent_in` must be one of {', '.join(ABSENT_IN)}, got {absent_in!r}.")
    check_split(split, list(FILES), "VAW")
    root = Path(path).expanduser().absolute()
    folder = root / "data" if (root / "data" / NAMES).is_file() else root
    index = folder / NAMES
    if not index.is_file():
        raise FileNotFoundError(f"The file {index} does not exist. Is this the folder of VAW?")
    order = read_json(index)
    names = sorted(order, key=order.__getitem__)
    photos = _photos([folder / name for name in FILES[split]], absent_in)
    folders = [root / name for name in ("VG_100K", "VG_100K_2", "images", ".")]
    rows = split_photos(photos, str(folder / FILES[split][0]), folders, names)["train"]
    return load_photos(rows.resolved("unknown"), missing)


def recognise(path: Path) -> str:
    """Why `path` is no folder of VAW; an empty text, if it is one."""
    here = path.is_dir() and any((folder / NAMES).is_file() for folder in (path, path / "data"))
    return "" if here else f"no {NAMES}"


def _photos(files: list[Path], absent_in: str) -> Iterator[Photo]:
    instances: dict[int, list[Instance]] = {}
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"The file {file} does not exist. Is this the folder of VAW?")
        try:
            text = file.read_bytes()
            content = msgspec.json.decode(text, type=list[Instance])
        except msgspec.DecodeError as error:
            raise ValueError(f"{file} cannot be read as annotations of VAW: {error}.") from error
        refuse_repeated_keys(text, content, Instance, str(file))
        for instance in content:
            instances.setdefault(instance.image_id, []).append(instance)
    for image_id, of_image in instances.items():
        present = {name for instance in of_image for name in instance.positive_attributes}
        counts = Counter(name for instance in of_image for name in set(instance.negative_attributes))
        enough = len(of_image) if absent_in == "every" else 1
        absent = {name for name, count in counts.items() if count >= enough} - present
        yield Photo(file=f"{image_id}.jpg", image_id=str(image_id), present=present, absent=absent)
