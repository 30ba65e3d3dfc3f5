"""Vision-Language Pseudo-Labels for Single-Positive Multi-Label Learning (Xing et al., CVPR Workshops 2024).

https://arxiv.org/abs/2310.15985
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..labels import NEGATIVE, POSITIVE, UNKNOWN
from ..losses import bounded_cross_entropy, bounded_log_loss
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import ObjectiveOutput, logits_of, sum_of_terms
from ..ranges import number
from ..schedules import Progress
from .clip_labels import ClipLabelsConfig, ClipLabelsObjective, terms_by_origin


@dataclass(frozen=True, kw_only=True)
class VlplObjectiveConfig(ClipLabelsConfig):
    """Settings of VLPL.

    clip, templates, clip_resize, temperature: see `hf_mlrpl.methods.clip_labels.ClipLabelsConfig`.
    threshold: score of CLIP above which an unknown label is taken for present, `tau`.
    negative_fraction: part of the labels of an image, those with the lowest scores of CLIP, that are taken for absent.
    start_epoch: index of the first epoch with labels from CLIP; before it, all unknown labels stay undecided.
    loss: of the unknown labels, that of EM ("em"), or with the focusing factors of the asymmetric loss ("asl"), which
        knows no weights.
    entropy_weight: of the entropy of labels that stay undecided, `alpha`. Published: 0.2 for VOC 2012, 0.1 for COCO
        and NUS-WIDE, 0.01 for CUB.
    positive_weight, negative_weight: of the labels that are taken for present, `beta`, and for absent.
    confidence: target of a label that is taken for present; that of one that is taken for absent is the rest.
    gamma_positive, gamma_negative, gamma_unknown: of "asl", exponents of the focusing factors of labels that are
        present, are taken for absent, and stay undecided.
    """

    clip: str = "openai/clip-vit-large-patch14-336"
    templates: tuple[str, ...] = ("{}",)
    threshold: float = number("[0, 1]", 0.3)
    negative_fraction: float = number("[0, 1]", 0.0)
    start_epoch: int = 0
    loss: Literal["em", "asl"] = "em"
    entropy_weight: float = 0.1
    positive_weight: float = 0.7
    negative_weight: float = 0.0
    confidence: float = number("[0, 1]", 0.9)
    gamma_positive: float = number("[1, 100]", 2.0)
    gamma_negative: float = number("[1, 100]", 4.0)
    gamma_unknown: float = number("[1, 100]", 4.0)

    @property
    def begins(self) -> dict[str, tuple[int, str]]:
        return {"start_epoch": (self.start_epoch, "labels from CLIP")}

    @property
    def needs_negatives(self) -> bool:
        return self.loss == "em" and self.entropy_weight == self.negative_weight * self.negative_fraction == 0


def clip_pseudo_labels(scores: Tensor, threshold: float, negative_fraction: float) -> Tensor:
    """Present where CLIP's score is above the threshold, absent where it is among the lowest of the image.

    Args:
        scores: `(batch_size, num_labels)`.

    Returns:
        int8 of the same shape, 0 where neither is so.
    """
    lowest = scores.argsort(dim=1, stable=True)[:, : int(negative_fraction * scores.shape[1])]
    return scores.gt(threshold).to(torch.int8).scatter(1, lowest, NEGATIVE)


def soft_losses(logits: Tensor, pseudo_labels: Tensor, config: VlplObjectiveConfig) -> Tensor:
    """Losses of unknown labels: cross-entropy with those from CLIP, and minus the entropy of the others."""
    present, absent = pseudo_labels.eq(POSITIVE), pseudo_labels.eq(NEGATIVE)
    targets = logits.sigmoid().masked_fill(present, config.confidence).masked_fill(absent, 1 - config.confidence)
    weights = torch.where(present, config.positive_weight, -config.entropy_weight)
    return weights.where(~absent, config.negative_weight) * bounded_cross_entropy(logits, targets)


def focused_losses(logits: Tensor, pseudo_labels: Tensor, config: VlplObjectiveConfig) -> Tensor:
    """The same with hard targets, weighted as in the asymmetric loss, with the weights differentiated."""
    scores, rest = logits.sigmoid(), logits.neg().sigmoid()
    present = rest**config.gamma_positive * bounded_log_loss(logits)
    absent = scores**config.gamma_negative * bounded_log_loss(-logits)
    undecided = -(rest**config.gamma_unknown) * bounded_cross_entropy(logits, scores)
    return torch.where(pseudo_labels.eq(POSITIVE), present, absent.where(pseudo_labels.eq(NEGATIVE), undecided))


def vlpl_losses(logits: Tensor, labels: Tensor, pseudo_labels: Tensor, config: VlplObjectiveConfig) -> Tensor:
    """Loss of every entry.

    Args:
        pseudo_labels: `(batch_size, num_labels)` in {-1, 0, +1}, 0 where a label is known.
    """
    known = bounded_log_loss(labels * logits)
    if config.loss == "em":
        return torch.where(labels.eq(UNKNOWN), soft_losses(logits, pseudo_labels, config), known)
    hard = torch.where(labels.eq(POSITIVE), labels, pseudo_labels)
    return torch.where(labels.eq(NEGATIVE), known, focused_losses(logits, hard, config))


class VlplObjective(ClipLabelsObjective):
    """EM with labels that CLIP finds in an image."""

    config_class = VlplObjectiveConfig
    config: VlplObjectiveConfig

    def label_images(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Pseudo-labels from the whole image."""
        return clip_pseudo_labels(scores[:, 0], self.config.threshold, self.config.negative_fraction)

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        logits, labels = logits_of(model, batch["pixel_values"]), batch["labels"]  # (B, C)
        pseudo_labels = self.pseudo_labels_of(batch)
        if progress.epoch < self.config.start_epoch:
            pseudo_labels = torch.zeros_like(pseudo_labels)
        losses = vlpl_losses(logits, labels, pseudo_labels, self.config)
        terms = terms_by_origin(losses, labels, pseudo_labels)
        return sum_of_terms(terms, logits=logits, pseudo_labels={"clip": labels + pseudo_labels})
