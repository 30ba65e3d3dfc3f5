"""Co-occurrence of labels in the training set, the graph of SSGRL and its descendants."""

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from transformers.utils import logging

from ...labels import POSITIVE, UNKNOWN, check_labels, shorten

logger = logging.get_logger(__name__)

Estimator = Literal["published", "unbiased"]
Normalization = Literal["published", "paper"]

_IMAGES_AT_ONCE = 2**16


def cooccurrence_graph(
    labels: np.ndarray | Tensor,
    *,
    estimator: Estimator = "published",
    names: list[str] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Probability that label j is present if label i is, from known training labels; row i, column j.

    The rows do not sum to 1 and the matrix is not symmetric. Its diagonal is 1. The row of a label that is never
    present is 0 besides the diagonal, with a warning; the authors' code makes it NaN, and the training with it.

    Args:
        labels: `(num_images, num_labels)` in {-1, 0, +1}, of the training images only.
        estimator: `"published"` divides the images with i and j by the images with i, as the code of SST does. With a
            known proportion p, this shrinks the off-diagonal by about p. `"unbiased"` divides by the images with i
            where j is known; a pair never known together gets 0.
        names: label names, for the warning.

    Returns:
        `(num_labels, num_labels)`.
    """
    if estimator not in get_args(Estimator):
        raise ValueError(f"`estimator` must be one of {', '.join(get_args(Estimator))}, got {estimator!r}.")
    labels = labels if isinstance(labels, Tensor) else torch.tensor(labels)  # a copy: data sets give read-only views
    check_labels(labels)
    num_labels = labels.shape[1]
    # Counts are exact in float32 up to 16 million images.
    together, both_known = torch.zeros(2, num_labels, num_labels, device=labels.device)
    for some in labels.split(_IMAGES_AT_ONCE):
        positive = some.eq(POSITIVE).float()
        together += positive.T @ positive
        if estimator == "unbiased":
            both_known += positive.T @ some.ne(UNKNOWN).float()
    counts = together.to(dtype)
    present = counts.diagonal()
    out_of = present[:, None] if estimator == "published" else both_known.to(dtype)
    _warn_never_present(present, names)
    return (counts / out_of.clamp(min=1)).fill_diagonal_(1)


def object_pair_graph(counts: np.ndarray) -> np.ndarray:
    """Pairs of objects of two labels in the same image, over the objects of the row's label, with a diagonal of 0.

    The graph of the first release of SSGRL (ICCV 2019), for `model.label_graph` of a recipe: an image with 3 persons
    and 2 dogs adds 6 pairs, so that entries may be above 1.

    Args:
        counts: `(num_images, num_labels)`, how many objects of each label an image has.

    Returns:
        `(num_labels, num_labels)` float32.
    """
    counts = np.asarray(counts, np.float64)
    pairs = counts.T @ counts
    np.fill_diagonal(pairs, 0)
    return (pairs / counts.sum(axis=0).clip(min=1)[:, None]).astype(np.float32)


def neighbour_graph(
    probabilities: Tensor, *, threshold: float, weight: float, normalization: Normalization = "published"
) -> Tensor:
    """Symmetrically normalised graph in which likely companions are neighbours (ML-GCN, Chen et al., CVPR 2019).

    Args:
        probabilities: `(num_labels, num_labels)`, that label j is present if label i is; the diagonal counts, too.
        threshold: probability from which j is a neighbour of i.
        weight: what all neighbours weigh together; the label itself weighs 1.
        normalization: "published" divides by the number of labels that have j as a neighbour, and transposes the
            graph (authors' code); "paper" divides by the number of neighbours of i.

    Returns:
        `(num_labels, num_labels)`; row i says how much label i hears of each label.
    """
    neighbours = probabilities.ge(threshold).to(probabilities.dtype)
    total = neighbours.sum(dim=0 if normalization == "published" else 1, keepdim=True)
    graph = weight * neighbours / (total + 1e-6) + torch.eye(len(neighbours)).to(neighbours)
    scale = graph.sum(dim=1).rsqrt()
    graph = graph.T if normalization == "published" else graph
    return scale[:, None] * graph * scale


def _warn_never_present(present: Tensor, names: list[str] | None) -> None:
    missing = present.eq(0).nonzero().flatten().tolist()
    if missing:
        shown = shorten(missing if names is None else [names[i] for i in missing], 8)
        logger.warning(
            f"{len(missing)} label(s) are never known to be present in the training images and get an empty row in "
            f"the co-occurrence graph: {shown}."
        )
