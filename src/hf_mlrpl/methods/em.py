"""Acknowledging the Unknown for Multi-label Learning with Single Positive Labels (Zhou et al., ECCV 2022).

https://arxiv.org/abs/2203.16219. Entropy maximisation (EM), and asymmetric pseudo-labelling (APL) on top of it.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from transformers.utils import logging

from ..data.images.training_images import TrainingImages
from ..labels import NEGATIVE, UNKNOWN
from ..losses import bounded_cross_entropy, bounded_log_loss
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import CompletedLabels, Objective, ObjectiveOutput, logits_of, sum_of_terms
from ..ranges import number
from ..schedules import Progress

logger = logging.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class EmObjectiveConfig:
    """Settings of EM.

    entropy_weight: of the entropy of unknown labels, `alpha`. Published: 0.2 for VOC 2012, 0.1 for COCO and NUS-WIDE,
        0.01 for CUB.
    """

    entropy_weight: float = 0.1

    @property
    def needs_negatives(self) -> bool:
        return self.entropy_weight == 0


@dataclass(frozen=True, kw_only=True)
class EmAplObjectiveConfig(EmObjectiveConfig):
    """Settings of EM, and of asymmetric pseudo-labelling.

    pseudo_weight: of labels that are taken for absent, `beta`. Published: 0.9 for COCO, 0.02 for VOC 2012, 0.2 for
        NUS-WIDE, 0.4 for CUB.
    proportion: part of the unknown labels of each kind that are taken for absent at the end of training, `theta`.
    warmup_epochs: epochs after which labels are taken for absent for the first time; then after each epoch. Published:
        5 for COCO and VOC 2012, 4 for NUS-WIDE, 3 for CUB.
    scored_view: the images are seen as at inference ("plain"), or with the random choices of training ("training",
        authors' code).
    """

    pseudo_weight: float = 0.9
    proportion: float = number("[0, 1]", 0.9)
    warmup_epochs: int = number("[1, 1e6]", 5)
    scored_view: Literal["plain", "training"] = "plain"

    needs_num_epochs: ClassVar[bool] = True

    @property
    def needs_negatives(self) -> bool:
        return self.entropy_weight == self.pseudo_weight * self.proportion == 0

    def num_rounds(self, progress: Progress) -> int:
        """How often labels are taken for absent in the whole run.

        Raises:
            ValueError: if the run ends with the warm-up.
        """
        num_epochs = progress.known_num_epochs()
        if num_epochs <= self.warmup_epochs:
            raise ValueError(
                f"`warmup_epochs` must be less than the epochs of the run, got {self.warmup_epochs} and {num_epochs}: "
                "no label would ever be taken for absent. Lower it, train longer, or take the method `em`."
            )
        return num_epochs - self.warmup_epochs

    def rounds_due(self, progress: Progress) -> int:
        return math.floor(progress.epoch + 1e-6) + 1 - self.warmup_epochs


def em_losses(logits: Tensor, labels: Tensor, entropy_weight: float) -> Tensor:
    """Loss of every entry: cross-entropy where the label is known, and minus its weighted entropy where it is not."""
    entropy = bounded_cross_entropy(logits, logits.sigmoid())
    return torch.where(labels.eq(UNKNOWN), -entropy_weight * entropy, bounded_log_loss(labels * logits))


def em_apl_losses(
    logits: Tensor, labels: Tensor, soft_labels: Tensor, is_soft: Tensor, config: EmAplObjectiveConfig
) -> Tensor:
    """Losses of EM, and the weighted cross-entropy with `soft_labels` where `is_soft`."""
    soft = config.pseudo_weight * bounded_cross_entropy(logits, soft_labels)
    return torch.where(is_soft, soft, em_losses(logits, labels, config.entropy_weight))


def least_likely(scores: Tensor, candidates: Tensor, counts: Tensor) -> Tensor:
    """The `counts` lowest scores of each label among the candidates, those of the first images where scores are equal.

    Args:
        scores: `(num_images, num_labels)`, infinite for images without scores.
        candidates: booleans of the same shape.
        counts: `(num_labels,)`.

    Returns:
        Booleans of the shape of `scores`.
    """
    scores = scores.masked_fill(~candidates, torch.inf)
    is_first = torch.arange(len(scores), device=scores.device).unsqueeze(1) < counts  # (N, C), in the order of scores
    order = scores.argsort(dim=0, stable=True)
    return torch.zeros_like(candidates).scatter_(0, order, is_first) & scores.isfinite()


class EmObjective(Objective):
    """Cross-entropy of known labels, and as much entropy of unknown ones as possible: they stay undecided."""

    config_class: type = EmObjectiveConfig
    config: EmObjectiveConfig

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        logits, unknown = logits_of(model, batch["pixel_values"]), batch["labels"].eq(UNKNOWN)  # (B, C)
        losses = em_losses(logits, batch["labels"], self.config.entropy_weight)
        terms = {"known": losses.masked_fill(unknown, 0).mean(), "entropy": losses.masked_fill(~unknown, 0).mean()}
        return sum_of_terms(terms, logits=logits)


class EmAplObjective(EmObjective):
    """EM, where more and more of the least likely unknown labels keep the low score that they had; remembers it."""

    config_class = EmAplObjectiveConfig
    config: EmAplObjectiveConfig
    soft_labels: Tensor
    is_soft: Tensor
    rounds_done: Tensor

    def prepare(self, images: TrainingImages) -> None:
        self.register_buffer("soft_labels", torch.zeros(images.labels.shape))  # (N, C)
        self.register_buffer("is_soft", torch.zeros(images.labels.shape, dtype=torch.bool))
        self.register_buffer("rounds_done", torch.tensor(0))

    def before_epoch(self, model: MultiLabelPreTrainedModel, images: TrainingImages, progress: Progress) -> None:
        """Take the least likely unknown labels for absent, if this is due and has not been done yet."""
        num_rounds, due = self.config.num_rounds(progress), self.config.rounds_due(progress)
        if due <= int(self.rounds_done):
            return
        unknown = images.labels.eq(UNKNOWN)
        counts = (self.config.proportion * unknown.sum(dim=0).double() / num_rounds).long()  # rounded down
        scores = self.scores(model, images)
        chosen = least_likely(scores, unknown.to(scores.device) & ~self.is_soft, counts.to(scores.device))
        self.soft_labels.copy_(torch.where(chosen, scores, self.soft_labels))
        self.is_soft |= chosen
        self.rounds_done.fill_(due)
        logger.info("APL: %d labels taken for absent after round %d", self.is_soft.count_nonzero(), due)

    def scores(self, model: MultiLabelPreTrainedModel, images: TrainingImages) -> Tensor:
        """Scores of all training images, `(num_images, num_labels)`; infinite where one cannot be read."""
        scores = torch.full_like(self.soft_labels, torch.inf)
        seen = images if self.config.scored_view == "plain" else images.augmented()
        for rows, values in seen.map(lambda batch: logits_of(model, batch["pixel_values"]).sigmoid(), "APL"):
            scores[rows] = values
        return scores

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        logits, labels = logits_of(model, batch["pixel_values"]), batch["labels"]  # (B, C)
        unknown, soft_labels = labels.eq(UNKNOWN), self.remembered("soft_labels")[batch["index"]]
        is_soft = unknown & self.is_soft[batch["index"]]
        losses = em_apl_losses(logits, labels, soft_labels, is_soft, self.config)
        groups = {"known": ~unknown, "entropy": unknown & ~is_soft, "pseudo": is_soft}
        terms = {name: losses.masked_fill(~group, 0).mean() for name, group in groups.items()}
        return sum_of_terms(terms, logits=logits, pseudo_labels={"apl": labels.masked_fill(is_soft, NEGATIVE)})

    def completed_labels(self, labels: Tensor) -> CompletedLabels:
        """The known labels, and those taken for absent."""
        is_soft = self.remembered("is_soft").to(labels.device)
        return CompletedLabels(labels.masked_fill(labels.eq(UNKNOWN) & is_soft, NEGATIVE))
