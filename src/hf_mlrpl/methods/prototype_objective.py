"""Objectives that make prototypes of each label before some epochs, and remember them: SARB, HST, DSRB."""

import math
from typing import Any

import torch
from torch import Tensor

from ..data.images.training_images import TrainingImages
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import Objective
from ..schedules import Progress
from .prototypes import Prototypes, label_prototypes


class PrototypeObjective(Objective):
    """Base of the objectives with prototypes.

    Its config has `start_epoch`, the first epoch with prototypes, and `prototype_interval`, the epochs after which
    they are made again; for clusters, also `num_prototypes`, `kmeans_starts` and `prototype_memory`.

    Attributes:
        prototypes: `(num_labels, num_prototypes, dim)`.
        counts: known positives that the prototypes of each label come from, `(num_labels,)`; 0 means that it has none.
        prototype_epoch: in which epoch they were made; -1 before that.
    """

    prototypes: Tensor
    counts: Tensor
    prototype_epoch: Tensor

    def __init__(self, config: Any, model_config: Any, num_prototypes: int):
        """Make an objective without prototypes.

        Args:
            num_prototypes: of each label; with 0 nothing is made and remembered.
        """
        super().__init__(config, model_config)
        self.is_prepared = not num_prototypes
        num_labels, dim = model_config.num_labels, model_config.label_vector_dim()
        if num_prototypes:
            self.register_buffer("prototypes", torch.zeros(num_labels, num_prototypes, dim))
            self.register_buffer("counts", torch.zeros(num_labels, dtype=torch.int64))
            self.register_buffer("prototype_epoch", torch.tensor(-1))

    def before_epoch(self, model: MultiLabelPreTrainedModel, images: TrainingImages, progress: Progress) -> None:
        """Make the prototypes where they are due."""
        needs_prototypes = "prototypes" in self._buffers
        self.is_prepared = True
        epoch = math.floor(progress.epoch)
        epochs_since_start = epoch - self.config.start_epoch
        if not needs_prototypes or epochs_since_start < 0:
            return
        due = epoch - epochs_since_start % self.config.prototype_interval
        if self.prototype_epoch.item() < due:  # else they were made before an interruption, with other weights
            made = self.make_prototypes(model, images, seed=images.seed + epoch)
            self.prototypes.copy_(made.centers)
            self.counts.copy_(made.counts)
            self.prototype_epoch.fill_(epoch)

    def make_prototypes(self, model: Any, images: TrainingImages, seed: int) -> Prototypes:
        """Cluster centres of the representations of the known positives of each label."""
        return label_prototypes(
            model,
            images,
            self.config.num_prototypes,
            seed=seed,
            num_starts=self.config.kmeans_starts,
            memory_limit=self.config.prototype_memory,
        )
