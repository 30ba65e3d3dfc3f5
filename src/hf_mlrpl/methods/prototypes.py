"""Prototypes of SARB and HST: for each label the cluster centres of the representations of the images that show it."""

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor
from tqdm.auto import tqdm
from transformers.utils import logging

from ..data.images.training_images import TrainingImages
from ..distributed import sum_over_processes
from ..extras import optional_packages
from ..labels import POSITIVE
from ..models.modeling_utils import MultiLabelPreTrainedModel

logger = logging.get_logger(__name__)

GIB = 2**30


@dataclass(frozen=True)
class Prototypes:
    """Cluster centres of every label.

    centers: `(num_labels, num_prototypes, dim)` on the CPU; zero for a label without known positives.
    counts: `(num_labels,)` int64, the known positives that were clustered.
    """

    centers: Tensor
    counts: Tensor


def label_prototypes(
    model: MultiLabelPreTrainedModel,
    images: TrainingImages,
    num_prototypes: int,
    *,
    seed: int,
    num_starts: int = 1,
    memory_limit: float = 8.0,
) -> Prototypes:
    """Cluster the representations of the known positives of each label.

    One pass over the images, then k-means label by label; the processes share both. The result is the same on all of
    them. It depends on the seed, but not on the number of processes or threads, nor on where representations are kept.

    Differs from the authors' code: images are not augmented, unless they are given so, and none is left out; k-means
    starts once, as is scikit-learn's default today, instead of ten times; and a label with fewer known positives than
    prototypes gets them in turn, where the authors' code fails.

    Args:
        model: in evaluation mode.
        num_prototypes: centres of each label.
        num_starts: how often k-means starts; the tightest clusters count.
        memory_limit: GiB of representations that a process keeps in memory. Where there are more, they go to a
            temporary file, and only those of the labels that are being clustered are in memory.
    """
    for name, value in (("num_prototypes", num_prototypes), ("num_starts", num_starts)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
    positives = collect_positives(model, images, memory_limit=memory_limit)
    prototypes = cluster_positives(
        positives, num_prototypes, seed=seed, num_starts=num_starts, show_progress=images.show_progress
    )
    if PartialState().is_main_process:
        _report_rare_labels(prototypes.counts, num_prototypes)
    return prototypes


class Positives:
    """The representations of the known positives, grouped by label and in the order of the images.

    The labels are dealt out to the processes in turn, beginning with those that have the most positives. So all
    processes hold about as much: the difference is at most the positives of one label.

    Args:
        labels: `(num_images, num_labels)` in {-1, 0, +1}, of the whole training set.
        memory_limit: GiB that are kept in memory; more go to a temporary file.
    """

    def __init__(self, labels: Tensor, *, memory_limit: float):
        self._num_images, self.num_labels = labels.shape
        rows, columns = labels.eq(POSITIVE).nonzero(as_tuple=True)
        by_size = columns.bincount(minlength=self.num_labels).argsort(descending=True, stable=True)
        state = PartialState()
        self.labels: list[int] = by_size[state.process_index :: state.num_processes].tolist()
        self._is_held = torch.zeros(self.num_labels, dtype=torch.bool)
        self._is_held[self.labels] = True
        held = self._is_held[columns]
        self._keys = self.keys(rows[held], columns[held]).sort().values  # (n,), one for each place
        first_keys = self.keys(torch.tensor(0), torch.arange(self.num_labels + 1))
        self._starts: list[int] = torch.searchsorted(self._keys, first_keys).tolist()
        self._is_filled = torch.zeros(len(self._keys), dtype=torch.bool)
        self._stored = torch.empty(0, 0)  # (n, D) once D is known
        self._memory_limit = int(memory_limit * GIB)

    def keys(self, rows: Tensor, labels: Tensor) -> Tensor:
        """One number for each pair of image and label, in the order of the places."""
        return labels * self._num_images + rows

    def add(self, keys: Tensor, representations: Tensor) -> None:
        """Put `(n, dim)` representations in their places; those of labels that other processes hold are left out."""
        if not self.dim:
            self._stored = _allocate(
                (len(self._keys), representations.shape[1]), representations.dtype, self._memory_limit
            )
        held = self._is_held[keys // self._num_images]
        places = torch.searchsorted(self._keys, keys[held])
        self._stored[places] = representations[held]
        self._is_filled[places] = True

    @property
    def dim(self) -> int:
        return self._stored.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Of what `of` returns."""
        return torch.promote_types(self._stored.dtype, torch.float32)

    def of(self, label: int) -> np.ndarray:
        """A copy of the representations of `label`, `(n, dim)`, in at least float32.

        A place stays empty where an image could not be opened and the data set goes on without it.
        """
        places = slice(self._starts[label], self._starts[label + 1])
        return self._stored[places][self._is_filled[places]].to(self.dtype).numpy()

    def labels_at_once(self) -> int:
        """The number of labels that may be copied at the same time; one, where even one is beyond the memory limit."""
        largest = max((self._starts[label + 1] - self._starts[label] for label in self.labels), default=0)
        return max(1, self._memory_limit // max(1, largest * self.dim * self.dtype.itemsize))


@torch.no_grad()
def collect_positives(model: MultiLabelPreTrainedModel, images: TrainingImages, *, memory_limit: float) -> Positives:
    """The representations of all known positives, from one pass over the images."""
    positives = Positives(images.labels, memory_limit=memory_limit)

    def represent(batch: dict[str, Tensor]) -> Tensor:
        return model.represent(model.encode(batch["pixel_values"]))[0]  # (B, C, D)

    for rows, labels, found in map_positives(represent, images):
        positives.add(positives.keys(rows, labels), found)
    return positives


def map_positives(
    function: Callable[[dict[str, Tensor]], Tensor], images: TrainingImages
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """One pass over all images, for what a function gives for their known positives.

    Args:
        function: from a batch to `(batch_size, num_labels, dim)`.

    Yields:
        Rows of images and labels, `(n,)` each and in the order of the images, and their values, `(n, dim)`; on the
        CPU.
    """
    most = max(1, int(images.labels.eq(POSITIVE).sum(dim=1).max()))  # known positives of an image, K

    def of_positives(batch: dict[str, Tensor]) -> Tensor:
        """Values of the known positives of each image, `(batch_size, K, dim)`, and some more in the end."""
        positives_first = batch["labels"].ne(POSITIVE).to(torch.uint8).argsort(dim=1, stable=True)
        return function(batch).take_along_dim(positives_first[:, :most].unsqueeze(2), dim=1)

    for rows, values in images.map(of_positives, "Prototypes: looking at all images"):
        is_positive = images.labels[rows].eq(POSITIVE)  # (B, C)
        places, labels = is_positive.nonzero(as_tuple=True)
        is_there = torch.arange(most) < is_positive.sum(dim=1, keepdim=True)  # (B, K)
        found = values[is_there.to(values.device)].cpu()
        finite = found.isfinite().all(dim=1)
        if not finite.all():
            wrong = int(finite.logical_not().nonzero()[0])
            row = int(rows[places[wrong]])
            raise RuntimeError(
                f"The model gives infinite or NaN values for row {row} ({images.image_ids[row]}), label "
                f"{int(labels[wrong])}, so there are no prototypes. Has training diverged? Lower the learning rate, "
                "or train in bfloat16 or float32 instead of float16."
            )
        yield rows[places], labels, found


def cluster_positives(
    positives: Positives, num_prototypes: int, *, seed: int, num_starts: int = 1, show_progress: bool = False
) -> Prototypes:
    """Centres for all labels; each process clusters those that it holds, as many at a time as torch has threads."""
    with optional_packages():
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits

    centers = torch.zeros(positives.num_labels, num_prototypes, positives.dim, dtype=positives.dtype)
    counts = torch.zeros(positives.num_labels, dtype=torch.int64)

    def centers_of(label: int) -> tuple[int, np.ndarray]:
        representations = positives.of(label)
        label_seed = int(np.random.SeedSequence((seed, label)).generate_state(1)[0])
        return len(representations), kmeans(representations, num_prototypes, seed=label_seed, num_starts=num_starts)

    threads = min(torch.get_num_threads(), positives.labels_at_once())
    hidden = not (show_progress and PartialState().is_main_process)
    with warnings.catch_warnings(), threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        # Fewer distinct points than centres: some centres are equal, which is what repeating would give.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clustered = pool.map(centers_of, positives.labels)
        progress = tqdm(clustered, "Prototypes: clustering", len(positives.labels), disable=hidden, leave=False)
        for label, (count, found) in zip(positives.labels, progress, strict=True):
            counts[label] = count
            centers[label] = torch.from_numpy(found)
    return Prototypes(sum_over_processes(centers), sum_over_processes(counts))


def kmeans(points: np.ndarray, num_centers: int, *, seed: int, num_starts: int = 1) -> np.ndarray:
    """Centres of the clusters of `points`, `(num_centers, dim)`, by k-means with greedy k-means++ starts.

    With no more points than centres, the points in turn; without points, zeros. Works in the memory of `points`.

    Args:
        points: `(n, dim)`.
        num_starts: how often k-means starts; the tightest clusters count.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    if not len(points):
        return np.zeros((num_centers, points.shape[1]), points.dtype)
    if len(points) <= num_centers:
        return points[np.arange(num_centers) % len(points)]
    # With several threads, the order in which they finish would show in the last digits.
    with threadpool_limits(1, user_api="openmp"):
        return KMeans(num_centers, n_init=num_starts, random_state=seed, copy_x=False).fit(points).cluster_centers_


def _allocate(shape: tuple[int, int], dtype: torch.dtype, limit: int) -> Tensor:
    """Uninitialised memory of this shape; in a temporary file where it has more than `limit` bytes.

    The file has no name: its room on the disk is free again when the tensor is gone, also when the process is killed.
    """
    size = shape[0] * shape[1] * dtype.itemsize
    if size <= limit:
        return torch.empty(shape, dtype=dtype)
    folder = tempfile.gettempdir()
    message = f"The representations of {shape[0]:,} known positives take {size / GIB:.1f} GiB"
    logger.info("%s and go to a temporary file in %s", message, folder)
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            _reserve(file.fileno(), size)
        except OSError as error:
            free = shutil.disk_usage(folder).free / GIB
            raise OSError(
                f"{message}, more than `memory_limit`, but a temporary file in {folder} cannot have that size "
                f"({error.strerror}; {free:.1f} GiB are free). Let `TMPDIR` name a folder on a larger disk, raise "
                "`memory_limit`, or use more processes, which share them."
            ) from error
        return torch.from_numpy(np.memmap(file, np.uint8, mode="r+", shape=(size,))).view(dtype).view(shape)


def _reserve(file: int, size: int) -> None:
    """Give a file its room on the disk; a disk that is full later on would end the process without a word."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:  # macOS
        os.truncate(file, size)


def _report_rare_labels(counts: Tensor, num_prototypes: int) -> None:
    """Say once how many labels have few or no known positives."""
    absent, rare = int(counts.eq(0).sum()), int((counts.gt(0) & counts.lt(num_prototypes)).sum())
    if rare:
        logger.warning_once(
            f"{rare} of {len(counts)} labels have fewer known positives than the {num_prototypes} prototypes of a "
            "label: their positives are the prototypes, some of them several times."
        )
    if absent:
        logger.warning_once(
            f"{absent} of {len(counts)} labels have no known positive and so no prototypes: nothing is blended with "
            "them."
        )
