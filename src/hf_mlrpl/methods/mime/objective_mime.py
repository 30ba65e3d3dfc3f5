"""Objective of MIME: unknown labels are absent until the network is sure of them, through a bottleneck of noise."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.utils import logging

from ...data.images.training_images import TrainingImages
from ...labels import POSITIVE, UNKNOWN
from ...losses import at_least_float32, bounded_log_loss
from ...objective import CompletedLabels, Objective, ObjectiveOutput, logits_of, sum_of_terms
from ...ranges import number
from ...schedules import Progress
from .modeling_mime import MimeForMultiLabelClassification

logger = logging.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class MimeObjectiveConfig:
    """Settings of MIME.

    threshold: score above which an unknown label is present from then on, `theta`.
    warmup_epochs: epochs after which labels are completed for the first time; then after each epoch. 5 for CUB.
    divergence_weight: of the divergence of the latent vectors from the normal distribution, `beta`.
    temperature: logits are divided by it in the loss, but not where labels are completed.
    """

    threshold: float = number("[0, 1]", 0.95)
    warmup_epochs: int = number("[1, 1e6]", 2)
    divergence_weight: float = 1e-4
    temperature: float = number("(0, 1e3]", 1.0)

    @property
    def begins(self) -> dict[str, tuple[int, str]]:
        return {"warmup_epochs": (self.warmup_epochs, "completed labels")}

    def rounds_due(self, progress: Progress) -> int:
        return math.floor(progress.epoch + 1e-6) + 1 - self.warmup_epochs


def completed(labels: Tensor, found: Tensor) -> Tensor:
    """`labels` in which unknown ones are present where `found`."""
    return labels.masked_fill(labels.eq(UNKNOWN) & found, POSITIVE)


def divergence(mean: Tensor, std: Tensor) -> Tensor:
    """Kullback-Leibler divergence of normal distributions from that of mean 0 and deviation 1, of every entry."""
    return (mean.square() + std.square() - 1) / 2 - std.log()


class MimeObjective(Objective):
    """Cross-entropy with unknown labels as absent, and a divergence; remembers which labels were completed.

    Attributes:
        found: `(num_images, num_labels)` booleans, where a score was above the threshold.
        rounds_done: how often labels were completed.
    """

    config_class = MimeObjectiveConfig
    config: MimeObjectiveConfig
    found: Tensor
    rounds_done: Tensor

    def prepare(self, images: TrainingImages) -> None:
        self.register_buffer("found", torch.zeros(images.labels.shape, dtype=torch.bool))
        self.register_buffer("rounds_done", torch.tensor(0))

    def before_epoch(self, model: MimeForMultiLabelClassification, images: TrainingImages, progress: Progress) -> None:
        """Complete the labels that the network is sure of, if this is due and has not been done yet."""
        due = self.config.rounds_due(progress)
        if due <= int(self.rounds_done):
            return
        for rows, scores in images.map(lambda batch: logits_of(model, batch["pixel_values"]).sigmoid(), "MIME"):
            self.found[rows] |= scores > self.config.threshold
        self.rounds_done.fill_(due)
        logger.info("MIME: %d labels are present after round %d", self.found.count_nonzero(), due)

    def reached_beside_logits(self) -> tuple[str, ...]:
        return ()

    def forward(
        self, model: MimeForMultiLabelClassification, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        config = self.config
        mean, std, _ = model.latents(model.encode(batch["pixel_values"]))  # (B, C, D)
        logits = at_least_float32(model.classify(model.sample(mean, std)))  # (B, C)
        labels = completed(batch["labels"], self.remembered("found")[batch["index"]])
        right = torch.where(labels.eq(POSITIVE), logits, -logits) / config.temperature
        terms = {
            "classification": bounded_log_loss(right).mean(),
            "divergence": config.divergence_weight * divergence(mean, std).mean(),
        }
        return sum_of_terms(terms, logits=logits, pseudo_labels={"found": labels})

    def completed_labels(self, labels: Tensor) -> CompletedLabels:
        """The known labels and those that were found."""
        return CompletedLabels(completed(labels, self.remembered("found").to(labels.device)))
