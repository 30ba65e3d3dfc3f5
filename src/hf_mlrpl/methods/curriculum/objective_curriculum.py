"""Curriculum labeling (Durand et al., CVPR 2019, https://arxiv.org/abs/1902.09720).

Training goes in rounds. After each of them the model looks at all training images, and unknown labels that it is sure
of are completed for the next round.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.utils import logging

from ...data.images.training_images import TrainingImages
from ...labels import UNKNOWN
from ...losses import at_least_float32, normalized_partial_bce
from ...models.modeling_utils import MultiLabelPreTrainedModel
from ...objective import CompletedLabels, Objective, ObjectiveOutput, sum_of_terms
from ...schedules import Progress
from .selection import CurriculumObjectiveConfig, select_labels

logger = logging.get_logger(__name__)


class CurriculumObjective(Objective):
    """Partial BCE against the known and the completed labels; remembers the completed ones of every image."""

    config_class = CurriculumObjectiveConfig
    config: CurriculumObjectiveConfig
    pseudo_labels: Tensor
    rounds_done: Tensor

    def __init__(self, config: CurriculumObjectiveConfig, model_config: Any):
        super().__init__(config, model_config)
        self.num_labels = model_config.num_labels
        self.register_buffer("rounds_done", torch.tensor(0))

    def prepare(self, images: TrainingImages) -> None:
        self.register_buffer("pseudo_labels", torch.zeros(len(images), self.num_labels, dtype=torch.int8))

    def before_epoch(self, model: MultiLabelPreTrainedModel, images: TrainingImages, progress: Progress) -> None:
        """Complete labels, if a round has just ended and this has not been done yet."""
        due = self.rounds_due(progress)
        if due <= int(self.rounds_done):
            return
        if self.config.relabel == "from_observed":
            self.pseudo_labels.zero_()
        predictions: Iterable[tuple[Tensor, ...]] = self.predictions(model, images, due)
        if self.config.scope == "dataset":
            predictions = [tuple(torch.cat(parts) for parts in zip(*predictions, strict=True))]
        for index, samples, unknown in predictions:
            self.pseudo_labels[index] += select_labels(samples, unknown, self.config)
        self.rounds_done.fill_(due)
        logger.info("Curriculum: %d completed labels after round %d", self.pseudo_labels.count_nonzero(), due)

    def completed_labels(self, labels: Tensor) -> CompletedLabels:
        return CompletedLabels(labels.where(labels.ne(UNKNOWN), self.remembered("pseudo_labels").to(labels)))

    def rounds_due(self, progress: Progress) -> int:
        return sum(progress.epoch + 1e-6 >= epoch for epoch in self.config.relabel_after)

    def predictions(self, model: Any, images: TrainingImages, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """One pass over the training images.

        Yields:
            By batch of all processes: rows of the images, logits `(batch_size, num_samples, num_labels)`, and which
            labels are unknown and not completed yet.
        """

        def sample(batch: dict[str, Tensor]) -> Tensor:
            return self.sample(model, batch["pixel_values"], images.seed * 1000 + seed)

        for rows, samples in images.map(sample, "Curriculum"):
            is_known = images.labels[rows].ne(UNKNOWN).to(samples.device)
            yield rows, samples, ~is_known & self.pseudo_labels[rows].eq(UNKNOWN)

    def sample(self, model: Any, pixel_values: Tensor, seed: int) -> Tensor:
        """Logits `(batch_size, num_samples, num_labels)`; several with "uncertainty", each without some features.

        A sample leaves out the same features of all images: it is one member of an ensemble of thinned classifiers.
        """
        representations, _ = model.represent(model.encode(pixel_values))  # (B, C, D)
        if self.config.strategy != "uncertainty":
            return at_least_float32(model.classify(representations)).unsqueeze(1)
        generator = torch.Generator().manual_seed(seed)
        keep = torch.full((self.config.num_samples, representations.shape[-1]), 1 - self.config.dropout)
        masks = (torch.bernoulli(keep, generator=generator) / keep).to(representations.device)
        return torch.stack([at_least_float32(model.classify(representations * mask)) for mask in masks], dim=1)

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        config, labels = self.config, batch["labels"]
        representations, _ = model.represent(model.encode(batch["pixel_values"]))  # (B, C, D)
        if config.strategy == "uncertainty":  # the same features are left out for all labels of an image
            representations = representations * F.dropout(torch.ones_like(representations[:, :1]), config.dropout)
        logits = at_least_float32(model.classify(representations))  # (B, C)
        pseudo_labels = self.remembered("pseudo_labels")[batch["index"]]
        completed = torch.where(labels.ne(UNKNOWN), labels, pseudo_labels.to(labels.dtype))
        losses = normalized_partial_bce(logits, completed, alpha=config.alpha, beta=config.beta, gamma=config.gamma)
        return sum_of_terms(
            {"completed": losses.mean()},
            logits=logits,
            pseudo_labels={"curriculum": completed},
            logs={"round": float(self.rounds_due(progress))},
        )
