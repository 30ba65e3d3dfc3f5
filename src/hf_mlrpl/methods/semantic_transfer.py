"""Evidence for unknown labels from the known ones, inside an image and across images: what SST and HST share.

Equation numbers are those of SST (Chen et al., AAAI 2022).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..labels import NEGATIVE, POSITIVE, UNKNOWN
from ..losses import COSINE_EPS, asymmetric_loss

PairForm = Literal["published", "paper"]
CLIP = 0.05  # shift of absent pairs, authors' code


def cooccurrence_matrix(pair_logits: Tensor, num_labels: int) -> Tensor:
    """Probabilities of co-occurrence as symmetric matrices with a diagonal of 1 (Eq. 1).

    Args:
        pair_logits: `(batch_size, num_pairs)`, pairs (0, 1), (0, 2), ...

    Returns:
        `(batch_size, num_labels, num_labels)`.
    """
    matrix = torch.eye(num_labels, dtype=pair_logits.dtype, device=pair_logits.device).repeat(len(pair_logits), 1, 1)
    first, second = torch.triu_indices(num_labels, num_labels, offset=1, device=pair_logits.device)
    matrix[:, first, second] = matrix[:, second, first] = pair_logits.sigmoid()
    return matrix


def cooccurrence_votes(cooccurrence: Tensor, labels: Tensor, vote: Literal["mean", "sum"] = "mean") -> Tensor:
    """Evidence that the known positives of an image give for each label, `(batch_size, num_labels)` (Eq. 2).

    Args:
        cooccurrence: `(batch_size, num_labels, num_labels)`, or one matrix for all images; entry (i, j) is the
            evidence that j gives for i.
        labels: `(batch_size, num_labels)` in {-1, 0, +1}.
        vote: the "mean" over the known positives (authors' code; 0 where there are none), or their "sum" (paper).
    """
    positives = labels.eq(POSITIVE).to(cooccurrence.dtype)
    evidence = (cooccurrence @ positives.unsqueeze(-1)).squeeze(-1)  # (B, C)
    return evidence / positives.sum(dim=1, keepdim=True).clamp(min=1) if vote == "mean" else evidence


def mean_similarity(representations: Tensor, centers: Tensor) -> Tensor:
    """Mean cosine of each representation to what is remembered of its label, `(batch_size, num_labels)` (Eq. 5).

    The mean of cosines is the product with the mean of the unit vectors, so nothing of the size (B, C, bank) is made.
    """
    norms = torch.linalg.vector_norm(representations, dim=-1).clamp(min=COSINE_EPS)
    return torch.einsum("bcd,cd->bc", representations, centers) / norms


def cooccurrence_loss(
    pair_logits: Tensor,
    labels: Tensor,
    unknown_pairs: Literal["negative", "ignore"] = "negative",
    form: PairForm = "published",
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """Asymmetric loss of the co-occurrence head over images and pairs (Eq. 3, Eq. 4).

    A pair is positive when both labels are known to be present.

    Args:
        form: "published" is the standard form of the loss, with the shift inside the logarithm, too (authors' code);
            "paper" is Eq. 4 as it is printed, but for the sign.
        reduction: a mean (authors' code) or a sum (Eq. 3).
    """
    first, second = torch.triu_indices(labels.shape[1], labels.shape[1], offset=1, device=labels.device)
    positive = labels.eq(POSITIVE)
    together = positive[:, first] & positive[:, second]
    if form == "paper":
        losses = _printed_asymmetric_loss(pair_logits, together)
    else:
        losses = asymmetric_loss(pair_logits, together, gamma_positive=1, gamma_negative=2, clip=CLIP)
    decided = torch.ones_like(losses, dtype=torch.bool)
    if unknown_pairs == "ignore":
        known, absent = labels.ne(UNKNOWN), labels.eq(NEGATIVE)
        decided = known[:, first] & known[:, second] | absent[:, first] | absent[:, second]
    total = losses.where(decided, 0.0).sum()
    return total if reduction == "sum" else total / decided.sum().clamp(min=1)


def _printed_asymmetric_loss(pair_logits: Tensor, positive: Tensor) -> Tensor:
    """Loss of every pair, without the shift inside the logarithm, and a square of what may be negative (Eq. 4)."""
    scores = pair_logits.sigmoid()
    present = (1 - scores) * F.logsigmoid(pair_logits)
    absent = (scores - CLIP).square() * F.logsigmoid(-pair_logits)
    return -present.where(positive, absent)
