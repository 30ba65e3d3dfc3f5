"""The loss on similarities across images that SST and its successors share."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

PairSampling = Literal["published", "all"]
UnknownInSimilarity = Literal["ignore", "absent"]

COSINE_EPS = 1e-9  # authors' code of SST


def similarity_loss(
    representations: Tensor,
    labels: Tensor,
    sampling: PairSampling = "published",
    unknown: UnknownInSimilarity = "ignore",
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """Cosine loss over pairs of images, label by label (SST Eq. 7, Eq. 8).

    Two images that both show the label attract each other, all other pairs with known labels repel. Differs from the
    paper, follows the authors' code: pairs with an unknown label are left out, and with n attracting pairs each kind
    of repelling pairs (one image shows the label; none does) is represented by 2n random pairs and the n most similar
    ones. Nothing leaves the device: samples are ranks, not lists.

    Args:
        representations: `(batch_size, num_labels, dim)`.
        labels: `(batch_size, num_labels)` in {-1, 0, +1}.
        sampling: a sample of the repelling pairs ("published"), or "all" of them.
        unknown: an unknown label leaves the pair out ("ignore"), or counts as "absent" (the paper).

    Returns:
        A scalar; 0 if no pair is known.
    """
    if unknown == "absent":
        labels = labels.masked_fill(labels.eq(0), -1)
    first, second = torch.triu_indices(len(labels), len(labels), offset=1, device=labels.device)
    similarity = image_similarities(representations)[first, second]  # (image pairs, C)
    one, other = labels[first], labels[second]
    known = one.ne(0) & other.ne(0)
    attract = one.eq(1) & other.eq(1)
    losses = torch.where(attract, 1 - similarity, 1 + similarity)
    weights = attract.to(losses.dtype)
    for repel in (known & one.eq(other) & ~attract, known & one.ne(other)):
        weights = weights + (_sample(losses, repel, attract.sum()) if sampling == "published" else repel)
    total = (weights * losses).sum()
    return total if reduction == "sum" else total / weights.sum().clamp(min=1)


def image_similarities(representations: Tensor) -> Tensor:
    """Cosine of the representations of every two images, label by label.

    Returns:
        `(batch_size, batch_size, num_labels)`.
    """
    unit = F.normalize(representations, dim=-1, eps=COSINE_EPS)
    return torch.einsum("bcd,ecd->bec", unit, unit)


def _sample(losses: Tensor, group: Tensor, num_attracting: Tensor) -> Tensor:
    """How often each entry of `group` counts: as one of 2n random ones, and as one of the n largest."""
    random = _ranks(random_keys(losses).masked_fill(~group, torch.inf)) < 2 * num_attracting
    largest = _ranks((-losses.detach()).masked_fill(~group, torch.inf)) < num_attracting
    sample = (random.to(losses.dtype) + largest) * group
    return torch.where(num_attracting > 0, sample, group.to(losses.dtype))


def random_keys(like: Tensor) -> Tensor:
    """Sorting by these keys is a random order."""
    return torch.rand_like(like)


def _ranks(keys: Tensor) -> Tensor:
    order = keys.flatten().argsort(stable=True)
    ranks = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    return ranks.view_as(keys)
