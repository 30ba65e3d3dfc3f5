"""What is to be tagged: files, addresses and rows of data sets, as one long list that takes little memory."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from ..columns import IMAGE_ID
from ..tables.from_dataset import HUB_NAME, image_column_of, open_split, recognise
from .photos import Source, image_files, is_url

if TYPE_CHECKING:
    from datasets import Dataset

_NAMES_PER_CHUNK = 100_000


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
        """SHA-256 of the names of all files, and of what identifies the data sets."""
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
        ValueError: for a data set with several splits, or none or several columns that may have images.
    """
    parts: list[_Files | _Rows] = []
    for source in sources:
        path = Path(source)
        if is_url(source) or (path.is_file() and path.suffix.lower() != ".parquet"):
            parts.append(_Files([source]))
        elif path.exists() and not _is_dataset(path):
            parts.append(_Files(image_files(path)))
        elif path.exists() or _is_hub_name(source):
            parts.append(_rows(source, open_split(source, split, token), image_column))
        else:
            raise FileNotFoundError(
                f"There is no file or folder `{source}`. Photos, folders, Parquet files, http(s) addresses and data "
                "sets of the Hub (user/data) can be tagged."
            )
    return PhotoList(parts)


def _is_dataset(path: Path) -> bool:
    return path.suffix.lower() == ".parquet" or not recognise(path)


def _is_hub_name(source: str) -> bool:
    name = source.partition("@")[0]
    return name.count("/") == 1 and bool(HUB_NAME.fullmatch(name)) and not Path(name).parent.exists()


class _Files:
    """Paths and addresses, in the memory of Arrow: a million Python objects would be copied to each worker."""

    def __init__(self, names: Iterable[str]):
        rest, chunks = iter(names), []
        while chunk := list(islice(rest, _NAMES_PER_CHUNK)):
            chunks.append(pa.array([os.fsencode(name) for name in chunk], pa.large_binary()))
        self._names = pa.chunked_array(chunks, pa.large_binary())

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, i: int) -> Photo:
        name = self._names[i].as_py()
        return Photo(name.decode("utf-8", "backslashreplace"), os.fsdecode(name))

    def digest(self) -> bytes:
        digest = hashlib.sha256()
        for chunk in self._names.iterchunks():
            for name in chunk:
                digest.update(name.as_py() + b"\0")
        return digest.digest()


class _Rows:
    """Rows of a data set, by their `image_id`, the path in them, or their number."""

    def __init__(self, source: str, dataset: "Dataset", column: str):
        self._source, self._dataset, self._column = source, dataset, column

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, i: int) -> Photo:
        row = self._dataset[i]
        image = row[self._column]
        path = image.get("path") if isinstance(image, dict) else None
        return Photo(str(row.get(IMAGE_ID) or path or f"row {i}"), image)

    def digest(self) -> bytes:
        return f"{self._source} {len(self)} {self._dataset.features}".encode()


def _rows(source: str, dataset: "Dataset", image_column: str | None) -> _Rows | _Files:
    from datasets import Image

    column = image_column_of(dataset, source, image_column)
    if getattr(dataset.features[column], "dtype", "") == "string":
        return _Files(_beside(source, dataset.with_format("arrow").select_columns([column]).iter(1000), column))
    if isinstance(dataset.features[column], Image):
        dataset = dataset.cast_column(column, Image(decode=False))
    used = [name for name in dict.fromkeys((column, IMAGE_ID)) if name in dataset.features]
    return _Rows(source, dataset.select_columns(used), column)


def _beside(table: str, batches: Iterator[pa.Table], column: str) -> Iterator[str]:
    """Paths in a table, which are relative to its folder."""
    folder = os.path.dirname(table)
    for batch in batches:
        for name in batch.column(column).to_pylist():
            yield name if is_url(name) else os.path.join(folder, name or "")
