"""Losses that several methods share. Logits and labels are `(batch_size, num_labels)`, labels in {-1, 0, +1}.

Losses are computed in the precision of the logits: hand them `at_least_float32`, for autocast gives bfloat16.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .labels import NEGATIVE, POSITIVE, UNKNOWN

Reduction = Literal["micro", "image_mean", "image_sum"]
Unknown = Literal["negative", "ignore", "select"]
PairSampling = Literal["published", "all"]
UnknownInSimilarity = Literal["ignore", "absent"]

COSINE_EPS = 1e-9  # authors' code of SST

_SMALL = 1e-12  # a power of 0 has no gradient for exponents below 1


def at_least_float32(tensor: Tensor) -> Tensor:
    """`tensor` in float32 where it is shorter; float64 stays."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def known_bce(logits: Tensor, labels: Tensor, margin: float = 0.0) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy of every entry, 0 where unknown, and the mask of the known entries.

    Soft positive labels in (0, 1] are soft targets, through which gradients flow as in the published SARB code.

    Args:
        margin: labels above it count as present, labels below minus it as absent, the rest as unknown.

    Returns:
        Two `(batch_size, num_labels)` tensors: losses, and booleans.
    """
    labels = labels.to(logits.dtype)
    positive, negative = labels > margin, labels < -margin
    targets = torch.where(positive, labels, 1 + labels)  # a label of -1 has the target 0
    known = positive | negative
    losses = F.binary_cross_entropy_with_logits(logits, targets.where(known, 0.5), reduction="none")
    return losses.where(known, 0.0), known


def partial_bce(logits: Tensor, labels: Tensor, reduction: Reduction = "micro", margin: float = 0.0) -> Tensor:
    """Binary cross-entropy over the known labels (SST Eq. 9).

    Args:
        reduction: "micro" averages over the known entries of the batch (the authors' code), "image_mean" averages
            the means of the images, "image_sum" sums them (the paper). Without any known label the loss is 0.
    """
    losses, known = known_bce(logits, labels, margin)
    if reduction == "micro":
        return losses.sum() / known.sum().clamp(min=1)
    if reduction not in ("image_mean", "image_sum"):
        raise ValueError(f"`reduction` must be one of micro, image_mean, image_sum, got {reduction!r}.")
    per_image = losses.sum(dim=1) / known.sum(dim=1).clamp(min=1)
    return per_image.mean() if reduction == "image_mean" else per_image.sum()


def normalized_partial_bce(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: float = -4.45,
    beta: float = 5.45,
    gamma: float = 1.0,
    proportion: float | None = None,
    denominator: Literal["labels", "known"] = "labels",
) -> Tensor:
    """Partial BCE of each image, weighted by its known proportion `p` with `g(p) = alpha * p^gamma + beta`.

    Durand et al., "Learning a Deep ConvNet for Multi-label Classification with Partial Labels", CVPR 2019. An image
    without known labels has the loss 0.

    Args:
        proportion: the same `p` for all images; by default the proportion of each image.
        denominator: divisor of the sum, the number of labels (the paper) or of known labels.

    Returns:
        `(batch_size,)` losses.
    """
    losses, known = known_bce(logits, labels)
    num_known = known.sum(dim=1).to(losses.dtype)
    known_proportion = num_known / logits.shape[1] if proportion is None else torch.full_like(num_known, proportion)
    weight = alpha * known_proportion.where(num_known > 0, 1.0) ** gamma + beta
    total = num_known.clamp(min=1) if denominator == "known" else logits.shape[1]
    return weight * losses.sum(dim=1) / total


def asymmetric_loss(
    logits: Tensor,
    positive: Tensor,
    *,
    gamma_positive: float,
    gamma_negative: float | Tensor,
    clip: float = 0.05,
    eps: float = 1e-8,
    detach_focus: bool = False,
) -> Tensor:
    """Asymmetric loss of every entry (ASL, Ridnik et al., ICCV 2021).

    Absent entries see the probability `max(p - clip, 0)`; powers with the exponent 0 are 1.

    Args:
        positive: booleans of the shape of `logits`.
        gamma_negative: one exponent, or one for each entry.
        detach_focus: no gradient through the power (the published code of ASL; that of SST lets it through).
    """
    # 1 - sigmoid(x) is sigmoid(-x), which keeps its digits where x is large.
    p_right = torch.where(positive, logits.sigmoid(), ((-logits).sigmoid() + clip).clamp(max=1))
    p_wrong = (1 - p_right).clamp(min=torch.finfo(logits.dtype).tiny)  # at 0, a power below 1 has an infinite slope
    if detach_focus:
        p_wrong = p_wrong.detach()
    gamma = torch.where(positive, gamma_positive, gamma_negative).to(logits.dtype)
    return -(p_wrong**gamma) * p_right.clamp(min=eps).log()


def bounded_log_loss(logits: Tensor, eps: float = 1e-5) -> Tensor:
    """`-log(sigmoid(logits) + eps)` of every entry, which ends at 11.5 by default (Cole et al., CVPR 2021)."""
    return -(logits.sigmoid() + eps).log()


def bounded_cross_entropy(logits: Tensor, targets: Tensor, eps: float = 1e-5) -> Tensor:
    """Cross-entropy of every entry with `bounded_log_loss` for both outcomes; with its own scores it is the entropy.

    Args:
        targets: probabilities that the labels are present, in [0, 1].
    """
    return targets * bounded_log_loss(logits, eps) + (1 - targets) * bounded_log_loss(-logits, eps)


def generalized_cross_entropy(logits: Tensor, exponent: float) -> Tensor:
    """`(1 - p^exponent) / exponent` of every entry, for the probability `p` that the label is present.

    Zhang and Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels", NeurIPS
    2018. Towards an exponent of 0 it is cross-entropy, at 1 the absolute error. The power is made from the logits,
    whose gradient is bounded, also where `p` is 0.
    """
    return -torch.expm1(exponent * F.logsigmoid(logits)) / exponent


def expected_positives_penalty(logits: Tensor, expected_positives: float) -> Tensor:
    """Squared distance of the mean number of present labels in an image to the expected one, over `num_labels ** 2`.

    The regulariser of EPR and ROLE (Cole et al., CVPR 2021). The number is a mean over the batch, the square is not.

    Raises:
        ValueError: if more labels are expected than there are.
    """
    if expected_positives > logits.shape[1]:
        raise ValueError(
            f"`expected_positives` must be at most the number of labels, {logits.shape[1]}, got {expected_positives}. "
            "It is the mean number of labels that an image shows."
        )
    return ((logits.sigmoid().sum(dim=1).mean() - expected_positives) / logits.shape[1]).square()


def focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma_positive: float,
    gamma_negative: float,
    clip: float = 0.0,
    detach_focus: bool = True,
) -> Tensor:
    """Focal loss of every entry (Lin et al., ICCV 2017), with the two exponents and the clip of the asymmetric loss.

    With exponents of 0 it is cross-entropy. Computed from logits, so no probability needs a floor, as it does in
    `asymmetric_loss`.

    Args:
        targets: `(batch_size, num_labels)` in [0, 1]; between 0 and 1, both sides count by their share.
        clip: absent entries see the probability `max(p - clip, 0)`.
        detach_focus: no gradient through the focusing factor, as in the published code of the asymmetric loss.
    """
    miss, alarm = logits.neg().sigmoid(), logits.sigmoid()  # wrong probabilities of positives and negatives
    log_hit, log_reject = F.logsigmoid(logits), F.logsigmoid(-logits)
    if clip:
        alarm = (alarm - clip).clamp(min=0)
        log_reject = torch.log1p(-alarm)
    if detach_focus:
        miss, alarm = miss.detach(), alarm.detach()
    positive = miss.clamp(min=_SMALL) ** gamma_positive * log_hit
    negative = alarm.clamp(min=_SMALL) ** gamma_negative * log_reject
    return -targets * positive - (1 - targets) * negative


def corrected_labels(logits: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """`labels` in which unknown ones with a score above `threshold` are present (SPLC, Zhang et al., 2021)."""
    return labels.masked_fill(labels.eq(UNKNOWN) & (logits.sigmoid() > threshold), POSITIVE)


def focal_margin_loss(logits: Tensor, labels: Tensor, corrected: Tensor, margin: float, gamma: float) -> Tensor:
    """Focal loss of every entry of SPLC, with the focusing factor differentiated; unknown counts as absent.

    Args:
        labels: `(batch_size, num_labels)` in {-1, 0, +1}; those that are present get the margin.
        corrected: `labels` with corrections, which get none.
    """
    logits = torch.where(labels.eq(POSITIVE), logits - margin, logits)
    right = torch.where(corrected.eq(POSITIVE), logits, -logits)  # logit of the label that is taken for right
    # (1 - sigmoid(right)) ** gamma, whose gradient is finite for every exponent
    focus = (-gamma * F.softplus(right)).exp()
    return focus * F.softplus(-right)


@torch.no_grad()
def unknown_weights(
    logits: Tensor,
    labels: Tensor,
    unknown: Unknown,
    *,
    likely_per_image: int = 5,
    priors: Tensor | None = None,
    prior_threshold: float = 0.05,
) -> Tensor:
    """Weights of the entries in a loss that takes unknown labels for absent: 0 or 1, and always 1 where known.

    Args:
        unknown: 1 for all unknown labels ("negative"), or for none ("ignore"), or for those that are probably absent
            ("select", Ben-Baruch et al., CVPR 2022): not for the `likely_per_image` times batch size most likely ones
            of the batch, and not for labels with a prior above `prior_threshold`.
        priors: `(num_labels,)` shares of the images that show a label, where they are known or estimated.
    """
    is_unknown = labels.eq(UNKNOWN)
    if unknown == "negative":
        return torch.ones_like(logits)
    if unknown == "ignore":
        return (~is_unknown).to(logits.dtype)
    keys = logits.masked_fill(~is_unknown, -torch.inf).flatten()
    likely = keys.argsort(descending=True, stable=True)[: likely_per_image * len(logits)]
    left_out = torch.zeros_like(keys, dtype=torch.bool).index_fill(0, likely, True).view_as(is_unknown)
    if priors is not None:
        left_out = left_out | (priors > prior_threshold)
    return (~(is_unknown & left_out)).to(logits.dtype)


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
        labels = labels.masked_fill(labels.eq(UNKNOWN), NEGATIVE)
    first, second = torch.triu_indices(len(labels), len(labels), offset=1, device=labels.device)
    similarity = image_similarities(representations)[first, second]  # (image pairs, C)
    one, other = labels[first], labels[second]
    known = one.ne(UNKNOWN) & other.ne(UNKNOWN)
    attract = one.eq(POSITIVE) & other.eq(POSITIVE)
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
    """Number of times that each entry of `group` counts: as one of 2n random ones, and as one of the n largest."""
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
