"""One pass of photos through the frozen part of a backbone, by all processes, which can be interrupted."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from filelock import FileLock, Timeout
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers.utils import logging

from ...distributed import sum_over_processes, total_over_processes
from ...faults import writing
from .feature_files import BYTES_PER_FILE, ELSEWHERE, FeatureFiles, FoundFeatures
from .photos import photo_digest
from .torch_dataset import PartialLabelImages
from .views import View

logger = logging.get_logger(__name__)

READERS = 8  # threads
READ_AT_ONCE = 512
SECONDS_BETWEEN_LOOKS = 2.0  # at a lock


@dataclass(frozen=True)
class Storing:
    """How features are computed and stored.

    encode: from normalised pixels to features.
    mean: from stored feature maps to their means, `(batch_size, channels)`, if the network reads nothing else of them.
    normalize: from bytes to such pixels.
    settings: gives all that the features depend on beside photos and views, digests of weights included.
    dtype: of the features on the disk.
    batch_size: images of a batch on each process; num_workers: processes that open them.
    """

    encode: Callable[[Tensor], Tensor]
    normalize: Callable[[Tensor], Tensor]
    settings: Callable[[], dict[str, Any]]
    dtype: torch.dtype
    batch_size: int
    num_workers: int = 0
    show_progress: bool = False
    mean: Callable[[Tensor], Tensor] | None = None


def digests_of(images: PartialLabelImages, storing: Storing) -> np.ndarray:
    """Digests of the content of all photos, `(num_images, 16)` uint8; the processes share the work."""
    state, count = PartialState(), len(images)
    own = range(state.process_index, count, state.num_processes)
    digests = np.zeros((count, 16), dtype=np.uint8)
    with ThreadPoolExecutor(READERS) as pool, _bar(None, len(own), "Reading photos", storing) as bar:
        for first in range(0, len(own), READ_AT_ONCE):
            rows = own[first : first + READ_AT_ONCE]
            read = b"".join(pool.map(photo_digest, images.sources_of(rows)))
            digests[rows] = np.frombuffer(read, dtype=np.uint8).reshape(-1, 16)
            bar.update(len(rows))
    return sum_over_processes(torch.from_numpy(digests)).numpy()


@torch.no_grad()
def bytes_of_one(images: PartialLabelImages, storing: Storing) -> int:
    """Bytes of the features of one view of a photo."""
    black = torch.zeros(1, 3, *images.image_size, dtype=torch.uint8, device=PartialState().device)
    return _encode(black, storing)[0].nbytes


def compute_missing(
    images: PartialLabelImages,
    photos: np.ndarray,
    views: Sequence[View],
    files: Sequence[FeatureFiles],
    storing: Storing,
) -> list[FoundFeatures]:
    """Store what is missing, and find all: the features of each of the `views`, which are in one of the `files` each.

    Photos that cannot be read have none, where `images` go on without them.

    Args:
        photos: `(num_images, 16)`, see `digests_of`.
    """
    return _with_what_is_missing(lambda rows: _compute(images, photos, rows, views, files, storing), photos, files)


def average_missing(
    found: Sequence[FoundFeatures], photos: np.ndarray, files: Sequence[FeatureFiles], storing: Storing
) -> list[FoundFeatures]:
    """Store the means of the maps that were `found` for each view, where they are missing, and find all. They are
    stored in float32, so that they are what a network would make of the maps itself."""
    return _with_what_is_missing(lambda rows: _average(found, photos, rows, files, storing), photos, files)


def _with_what_is_missing(
    compute: Callable[[np.ndarray], Tensor], photos: np.ndarray, files: Sequence[FeatureFiles]
) -> list[FoundFeatures]:
    """What is found in `files` after one run has computed what is missing in them.

    Args:
        compute: stores what belongs to rows, of which each process takes a part, and says for all photos which it
            could not do.
    """
    is_bad = torch.zeros(len(photos), dtype=torch.bool)
    if total_over_processes(len(_rows_to_compute(photos, [each.find(photos) for each in files]))):
        with _alone(files[0].folder):
            if PartialState().is_main_process:
                files[0].remove_unfinished()
            PartialState().wait_for_everyone()
            rows = _rows_to_compute(photos, [each.find(photos) for each in files])
            is_bad = sum_over_processes(compute(rows).int()) > 0
    found = [each.find(photos) for each in files]
    unexplained = np.any([each.is_missing for each in found], axis=0) & ~_shared(is_bad.numpy(), photos)
    if unexplained.any():
        raise RuntimeError(
            f"The features of {unexplained.sum()} photos were computed, but are not in {files[0].folder}. All "
            "processes must see the same folder: name one by the environment variable HF_ASSETS_CACHE."
        )
    return found


def _rows_to_compute(photos: np.ndarray, found: Sequence[FoundFeatures]) -> np.ndarray:
    """Rows of photos of which a view is missing; of equal photos the first."""
    is_missing = np.any([each.is_missing for each in found], axis=0)
    _, first = np.unique(photos, axis=0, return_index=True)
    unreadable = ~photos.any(axis=1)
    is_first = np.zeros(len(photos), dtype=bool)
    is_first[first] = True
    return np.flatnonzero(is_missing & (is_first | unreadable))


def _shared(is_bad: np.ndarray, photos: np.ndarray) -> np.ndarray:
    """`is_bad` also of photos that are equal to a bad one."""
    _, same = np.unique(photos, axis=0, return_inverse=True)
    bad = np.zeros(len(photos), dtype=bool)
    bad[same[is_bad]] = True
    return bad[same]


@torch.no_grad()
def _compute(
    images: PartialLabelImages,
    photos: np.ndarray,
    rows: np.ndarray,
    views: Sequence[View],
    files: Sequence[FeatureFiles],
    storing: Storing,
) -> Tensor:
    """Store the features of `rows`, of which each process takes a part; returns which photos it could not read."""
    state = PartialState()
    own = rows[state.process_index :: state.num_processes].tolist()
    opened = images.with_views({f"view_{number}": view for number, view in enumerate(views)})
    loader: DataLoader = DataLoader(
        opened,  # type: ignore[arg-type]
        storing.batch_size,
        sampler=own,
        num_workers=storing.num_workers,
        generator=torch.Generator(),  # else it would draw from torch's global one
    )
    writers = [_Writer(each) for each in files]
    is_first = True
    try:
        for batch in _bar(loader, len(loader), "Features of the photos", storing):
            readable = ~opened.is_bad[batch["index"]]
            digests = photos[batch["index"][readable].numpy()]
            for number, writer in enumerate(writers):
                features = _encode(batch[f"view_{number}"][readable].to(state.device), storing)
                if is_first and len(features):
                    files[0].check_room(len(rows) * len(files) * features[0].nbytes)
                    is_first = False
                writer.add(digests, features)
    finally:  # what is computed stays, whatever happens
        for writer in writers:
            writer.flush()
    state.wait_for_everyone()
    return opened.is_bad


@torch.no_grad()
def _average(
    found: Sequence[FoundFeatures],
    photos: np.ndarray,
    rows: np.ndarray,
    files: Sequence[FeatureFiles],
    storing: Storing,
) -> Tensor:
    """Store the means of the features of `rows`; returns which photos have no features."""
    state, mean = PartialState(), storing.mean
    assert mean is not None
    is_missing = np.any([each.is_missing for each in found], axis=0)
    own = rows[~is_missing[rows]][state.process_index :: state.num_processes]
    batches = np.split(own, range(storing.batch_size, len(own), storing.batch_size))
    writers = [_Writer(each) for each in files]
    for batch in _bar(batches, len(batches), "Means of the features", storing):
        for maps, writer in zip(found, writers, strict=True):
            if len(batch):
                features = torch.stack([maps[row] for row in batch.tolist()])
                writer.add(photos[batch], mean(features.to(state.device)).float().cpu())
    for writer in writers:
        writer.flush()
    state.wait_for_everyone()
    return torch.from_numpy(is_missing)


def _encode(pixels: Tensor, storing: Storing) -> Tensor:
    """Features of a batch of bytes as they are stored, on the CPU; computed in float32."""
    with torch.autocast(pixels.device.type, enabled=False):
        exact = storing.encode(storing.normalize(pixels))
    features = exact.to(storing.dtype)
    if not features.isfinite().all():
        if exact.isfinite().all():
            raise ValueError(
                f"Some features are too large for {str(storing.dtype).removeprefix('torch.')}, up to "
                f"{exact.abs().max():.3g}: set `training.feature_dtype=bfloat16`, or float32."
            )
        raise RuntimeError("The frozen part of the backbone gives infinite or NaN features: are its weights damaged?")
    return features.cpu()


class _Writer:
    """Collects features until there are enough for a file."""

    def __init__(self, files: FeatureFiles):
        self.files = files
        self._photos: list[np.ndarray] = []
        self._features: list[Tensor] = []

    def add(self, photos: np.ndarray, features: Tensor) -> None:
        self._photos.append(photos)
        self._features.append(features)
        if sum(each.nbytes for each in self._features) >= BYTES_PER_FILE:
            self.flush()

    def flush(self) -> None:
        photos, features, self._photos, self._features = self._photos, self._features, [], []
        if sum(map(len, photos)):
            self.files.add(np.concatenate(photos), torch.cat(features))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Inside the block no other run computes features into `folder`; it is waited for."""
    lock, is_main, says_so = FileLock(folder / ".lock"), PartialState().is_main_process, True
    while True:
        held = 0
        if is_main:
            try:
                with writing(folder, ELSEWHERE):
                    lock.acquire(timeout=SECONDS_BETWEEN_LOOKS)
                held = 1
            except Timeout:
                if says_so:
                    logger.warning("Another run computes features into %s: waiting for it.", folder)
                says_so = False
        if total_over_processes(held):
            break
    try:
        yield
    finally:
        lock.release()


def _bar(values: Any, total: int, description: str, storing: Storing) -> Any:
    hidden = not (storing.show_progress and PartialState().is_main_process)
    return tqdm(values, desc=description, total=total, disable=hidden, leave=False)
