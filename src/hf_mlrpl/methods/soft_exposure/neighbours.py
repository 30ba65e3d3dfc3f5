"""Distances between labels, and the nearest neighbours of images, from features of the images."""

import importlib.util
import math
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor
from tqdm.auto import tqdm
from transformers.utils import logging

from ...extras import optional_packages
from ...labels import POSITIVE

logger = logging.get_logger(__name__)

Distance = Literal["cosine", "euclidean"]
Search = Literal["auto", "exact", "approximate"]

EXACT_WITH_FAISS = 30_000  # images up to which "auto" searches exactly on a CPU, where that takes less time
EXACT_ON_CPU = 250_000  # the same without faiss
CHECKED = 200  # images that are searched exactly, too, to tell how many neighbours an approximate search finds
COMPARED = 4096  # images that are compared with as many others at a time: 64 MiB
GATHERED = 2**26  # entries of features that are compared at a time, in float64: 512 MiB
PROBED_LISTS = 32
QUERIES = 8192  # images that are looked up between two steps of the progress bar


def distances(x: Tensor, y: Tensor, distance: Distance) -> Tensor:
    """Distances of all rows of `x`, `(..., n, dim)`, to all of `y`, `(..., m, dim)`: `(..., n, m)`.

    Cosine is `1 - cos`; a row of zeros has the distance 1 to everything. A row with NaN has NaN distances. Computed in
    float64, for small distances are differences of large numbers.
    """
    a, b = x.double(), y.double()
    if distance == "cosine":
        result = (1 - F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).mT).clamp(min=0)
    else:
        result = torch.cdist(a, b)
    return result.to(x.dtype)


def label_representations(features: Tensor, labels: Tensor, show_progress: bool = False) -> Tensor:
    """Element-wise median of the features of the images where a label is known to be present.

    Args:
        features: `(num_images, dim)`.
        labels: `(num_images, num_labels)` in {-1, 0, +1}.

    Returns:
        `(num_labels, dim)`; a row of NaN for a label that is never known to be present.
    """
    result = torch.full((labels.shape[1], features.shape[1]), math.nan)
    for label in tqdm(range(len(result)), desc="Medians of the labels", disable=not show_progress, leave=False):
        shown = features[labels[:, label] == POSITIVE]
        if len(shown):
            result[label] = torch.from_numpy(np.median(shown.numpy(), axis=0))
    return result


def label_distances(features: Tensor, labels: Tensor, distance: Distance, show_progress: bool = False) -> Tensor:
    """Distances between all labels, `(num_labels, num_labels)`, infinite where a label has no representation."""
    representations = label_representations(features, labels, show_progress)
    return distances(representations, representations, distance).nan_to_num(nan=math.inf)


def is_approximate(search: Search, num_images: int) -> bool:
    """Whether `search` means the approximate one, for so many images on this machine."""
    if search != "auto":
        return search == "approximate"
    most = EXACT_WITH_FAISS if importlib.util.find_spec("faiss") else EXACT_ON_CPU
    return num_images > most and PartialState().device.type == "cpu"


def import_faiss() -> Any:
    """The library of the approximate search, or an error that says how to get it or do without."""
    exact = "`objective.search=exact` does without, in a time that grows with the square of the number of images."
    with optional_packages(exact):
        import faiss
    return faiss


def nearest_images(features: Tensor, count: int, approximate: bool, show_progress: bool = False) -> Tensor:
    """Rows of the `count` nearest other images of every image, in no particular order.

    Cosine and Euclidean distances order unit vectors alike, so this is a search for the largest products.

    Args:
        features: `(num_images, dim)` of unit length. A row of NaN is that of an image without features, which is
            nobody's neighbour and has none.

    Returns:
        `(num_images, count)` int32. Where there are fewer, or an approximate search finds fewer, the rest is the image
        itself.
    """
    find = _find_approximately if approximate else _find_exactly
    seen = (~features[:, 0].isnan()).nonzero().squeeze(1)
    seen_features = features if len(seen) == len(features) else features[seen]
    found = torch.arange(len(features), dtype=torch.int32).unsqueeze(1).repeat(1, count)
    count = min(count, len(seen) - 1)
    if count > 0:
        found[seen, :count] = seen[find(seen_features, count, show_progress)].to(torch.int32)
    return found


def _find_exactly(features: Tensor, count: int, show_progress: bool) -> Tensor:
    """Compare each pair of images once, on the device of the process; of equally near ones take the first."""
    features = features.to(PartialState().device)
    blocks = features.split(COMPARED)
    nearest = features.new_full((len(features), count), -math.inf).split(COMPARED)
    found = torch.zeros(len(features), count, dtype=torch.int64, device=features.device).split(COMPARED)
    num_pairs = len(blocks) * (len(blocks) + 1) // 2
    bar = tqdm(total=num_pairs, desc="Nearest neighbours", disable=not show_progress, leave=False)
    for i, ours in enumerate(blocks):
        for j in range(i, len(blocks)):
            similarities = ours @ blocks[j].T
            if i == j:
                similarities.fill_diagonal_(-math.inf)  # not the image itself
            else:
                _keep_nearest(nearest[j], found[j], similarities.T.contiguous(), COMPARED * i)
            _keep_nearest(nearest[i], found[i], similarities, COMPARED * j)
            bar.update()
    return torch.cat(found).cpu()


def _keep_nearest(nearest: Tensor, found: Tensor, similarities: Tensor, first: int) -> None:
    """Bring the nearest images so far up to date; those of one block after the other must come in their order.

    Args:
        nearest, found: similarities and rows of the nearest images so far, `(block, count)`; changed in place.
        similarities: to the images of another block, `(block, other_block)`, whose first row is `first`.
    """
    count = nearest.shape[1]
    values, columns = similarities.topk(min(count + 1, similarities.shape[1]))
    if values.shape[1] > count:
        tied = values[:, count - 1] == values[:, count]  # rare; `topk` would choose one of them at will
        if tied.any():
            values[tied, :], columns[tied, :] = _first_of_equals(similarities[tied], count + 1)
    columns, order = columns[:, :count].sort(dim=1)
    values, columns = values.gather(1, order), columns + first
    values, order = torch.cat([nearest, values], dim=1).sort(dim=1, descending=True, stable=True)
    nearest.copy_(values[:, :count])
    found.copy_(torch.cat([found, columns], dim=1).gather(1, order)[:, :count])


def _first_of_equals(similarities: Tensor, count: int) -> tuple[Tensor, Tensor]:
    values, columns = similarities.sort(dim=1, descending=True, stable=True)
    return values[:, :count], columns[:, :count]


def _find_approximately(features: Tensor, count: int, show_progress: bool) -> Tensor:
    """Compare each image with those of the nearest of 4 sqrt(n) cells, with faiss on the CPU."""
    faiss = import_faiss()
    vectors = features.numpy()
    num_cells = math.ceil(4 * math.sqrt(len(vectors)))
    index = faiss.index_factory(vectors.shape[1], f"IVF{num_cells},Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = 64
    index.cp.min_points_per_centroid = 1  # no warning for small sets
    with tqdm(total=2, desc="Cells of similar images", disable=not show_progress, leave=False) as bar:
        index.train(vectors)
        bar.update()
        index.add(vectors)
        bar.update()
    index.nprobe = PROBED_LISTS
    result = torch.empty(len(vectors), count, dtype=torch.int64)
    bar = tqdm(total=len(vectors), desc="Nearest neighbours", disable=not show_progress, leave=False)
    for first in range(0, len(vectors), QUERIES):
        found = torch.from_numpy(index.search(vectors[first : first + QUERIES], count + 1)[1])
        own = torch.arange(first, first + len(found)).unsqueeze(1)
        found = found.where(found >= 0, own)  # it gives -1 where the cells hold too few
        others_first = (found == own).to(torch.uint8).argsort(dim=1, stable=True)
        result[first : first + QUERIES] = found.gather(1, others_first)[:, :count]
        bar.update(len(found))
    logger.warning(
        f"The approximate search found {recall(features, result):.1%} of the {count} nearest images, as "
        f"{min(CHECKED, len(features))} images tell; `objective.search=exact` finds all."
    )
    return result


def recall(features: Tensor, found: Tensor) -> float:
    """Share of the nearest images that are among `found`, `(num_images, count)` rows, of some images in [0, 1]."""
    rows = torch.linspace(0, len(features) - 1, min(CHECKED, len(features))).long()
    similarities = features[rows] @ features.T
    similarities[torch.arange(len(rows)), rows] = -math.inf  # not the image itself
    nearest = similarities.topk(found.shape[1]).indices
    return (nearest.unsqueeze(2) == found[rows].unsqueeze(1)).any(dim=2).double().mean().item()


def with_distances(
    features: Tensor, neighbours: Tensor, distance: Distance, show_progress: bool = False
) -> tuple[Tensor, Tensor]:
    """Neighbours with their distances, nearest first, of equally near ones the first.

    Args:
        features: `(num_images, dim)`.
        neighbours: `(num_images, count)` rows of `features`.

    Returns:
        Neighbours, int32, and distances, float32, both `(num_images, count)`; those of an image without features are
        infinite.
    """
    neighbours = neighbours.sort(dim=1).values
    apart = torch.empty(neighbours.shape)
    block = max(1, GATHERED // (neighbours.shape[1] * features.shape[1]))
    starts = range(0, len(neighbours), block)
    for first in tqdm(starts, desc="Distances of neighbours", disable=not show_progress, leave=False):
        own = features[first : first + block].unsqueeze(1)
        near = features[neighbours[first : first + block].long()]  # (block, count, dim)
        apart[first : first + block] = distances(own, near, distance).squeeze(1)
    apart, order = apart.nan_to_num(nan=math.inf).sort(dim=1, stable=True)
    return neighbours.gather(1, order), apart
