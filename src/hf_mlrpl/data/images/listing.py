"""What is to be tagged: files, addresses and rows of data sets, as one long list that takes little memory."""

import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .photos import Source, image_files, is_url

if TYPE_CHECKING:
    from datasets import Dataset


class Photo(NamedTuple):
    """The name of a photo in results, and what `open_image` opens."""

    name: str
    source: Source


class PhotoList(Sequence[Photo]):
    """The photos of several sources, one behind the other. A photo is read when it is opened, not before."""

    def __init__(self, parts: "Sequence[_Files | _Rows]"):
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} photos, there is no number {index}.")
        part = int(self._ends.searchsorted(index, side="right"))
        return self._parts[part][index - int(self._ends[part]) + len(self._parts[part])]

    def names(self) -> Iterator[str]:
        """The names in results, one after the other."""
        return (photo.name for photo in self)

    def digest(self) -> str:
        """SHA-256 of the names and sizes of all files, and of what identifies the data sets; their dates may differ,
        for other machines have copies."""
        digest = hashlib.sha256()
        for part in self._parts:
            digest.update(part.digest())
        return digest.hexdigest()


def list_photos(
    sources: Sequence[str],
    *,
    split: str | None = None,
    image_column: str | None = None,
    token: str | None = None,
) -> PhotoList:
    """The photos that `sources` name, in their order; those of a folder are sorted by their path.

    Args:
        sources: image files, http(s) addresses, folders with images, and data sets: a Parquet file, a folder of
            `save_to_disk`, or a name on the Hub, `user/data` or `user/data@revision`.
        split: of data sets that have several.
        image_column: of data sets where it is not plain.
        token: for private data sets.

    Raises:
        FileNotFoundError: for a source that does not exist, or a folder without images.
        ValueError: for a data set with several splits, or none or several columns that may have images; for a split or
            a column without a data set.
    """
    parts: list[_Files | _Rows] = []
    has_dataset = False
    for source in sources:
        path = Path(source)
        if not str(source).strip():
            raise ValueError("A photo has an empty name. Was a variable of the command line empty?")
        if is_url(source) or (path.is_file() and path.suffix.lower() != ".parquet"):
            parts.append(_Files([source]))
        elif path.exists() and not _is_dataset(path):
            parts.append(_Files(image_files(path)))
        elif path.exists() or _is_hub_name(source):
            parts.append(_rows_of(source, split, image_column, token))
            has_dataset = True
        else:
            raise FileNotFoundError(
                f"There is no file or folder `{source}`. Photos, folders, Parquet files, http(s) addresses and data "
                "sets of the Hub (user/data) can be tagged."
            )
    for option, value in {"split": split, "image-column": image_column}.items():
        if value is not None and not has_dataset:
            raise ValueError(f"`--{option}` is for data sets, but {' and '.join(sources[:3])} is none. Leave it out.")
    return PhotoList(parts)


def _is_dataset(path: Path) -> bool:
    from ..tables.from_dataset import recognise

    return path.suffix.lower() == ".parquet" or not recognise(path)


def _is_hub_name(source: str) -> bool:
    from ..tables.from_dataset import HUB_NAME

    name = source.partition("@")[0]
    return name.count("/") == 1 and bool(HUB_NAME.fullmatch(name)) and not Path(name).parent.exists()


class _Files:
    """Paths and addresses, as one text: a million Python objects would be copied to each worker."""

    def __init__(self, names: Iterable[str]):
        ends, text = array("q"), bytearray()
        for name in names:
            text += os.fsencode(name)
            ends.append(len(text))
        self._text, self._ends = text, np.asarray(ends)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, i: int) -> Photo:
        name = bytes(self._text[self._ends[i - 1] if i else 0 : self._ends[i]])
        return Photo(name.decode("utf-8", "backslashreplace"), os.fsdecode(name))

    def digest(self) -> bytes:
        sizes = array("q", (_size_of(self[i].source) for i in range(len(self))))
        return hashlib.sha256(self._text + self._ends.tobytes() + sizes.tobytes()).digest()


def _size_of(file: Any) -> int:
    """Bytes of a file; -1 of one that is missing, and of an address."""
    try:
        return os.stat(file).st_size
    except (OSError, ValueError):
        return -1


class _Rows:
    """Rows of a data set, by their `image_id`, the path in them, or their number."""

    def __init__(self, source: str, dataset: "Dataset", column: str, id_column: str):
        self._source, self._dataset, self._column, self._id_column = source, dataset, column, id_column

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, i: int) -> Photo:
        row = self._dataset[i]
        image = row[self._column]
        path = image.get("path") if isinstance(image, dict) else None
        return Photo(str(row.get(self._id_column) or path or f"row {i}"), image)

    def digest(self) -> bytes:
        return f"{self._source} {len(self)} {self._dataset.features} {self._dataset._fingerprint}".encode()


def _rows_of(source: str, split: str | None, image_column: str | None, token: str | None) -> _Rows | _Files:
    from datasets import Image

    from ..columns import IMAGE_ID
    from ..tables.from_dataset import image_column_of, open_split

    dataset = open_split(source, split, token)
    if not len(dataset):
        raise ValueError(f"{source} has no rows, so there is nothing to tag.")
    column = image_column_of(dataset, source, image_column)
    if getattr(dataset.features[column], "dtype", "") == "string":
        return _Files(_beside(source, dataset.select_columns([column]), column))
    if isinstance(dataset.features[column], Image):
        dataset = dataset.cast_column(column, Image(decode=False))
    used = [name for name in dict.fromkeys((column, IMAGE_ID)) if name in dataset.features]
    return _Rows(source, dataset.select_columns(used), column, IMAGE_ID)


def _beside(table: str, dataset: "Dataset", column: str) -> Iterator[str]:
    """Paths in a table, which are relative to its folder."""
    folder = os.path.dirname(table)
    for rows in dataset.iter(1000):
        for name in rows[column]:
            yield name if is_url(name) else os.path.join(folder, name or "")
