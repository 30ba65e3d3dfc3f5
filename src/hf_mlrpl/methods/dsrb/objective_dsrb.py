"""Objective of DSRB: SARB whose prototypes come from another quadrant of the image than the label."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ...data.images.training_images import TrainingImages
from ...losses import PairSampling, Reduction, UnknownInSimilarity
from ...ranges import number
from ...schedules import Ramp
from ..blending import Blend, BlendingObjective, blend, choose_unknown_labels
from ..prototypes import Prototypes
from .configuration_dsrb import DsrbConfig
from .modeling_dsrb import DsrbForMultiLabelClassification
from .quadrants import NUM_QUADRANTS, locate, quadrant_prototypes


@dataclass(frozen=True, kw_only=True)
class DsrbObjectiveConfig:
    """Weights and rules; a weight of 0 switches a term off.

    Whether the coefficients alpha and beta are learned is a setting of the model, see `SarbConfig`.

    instance_weight, prototype_weight: weights of partial BCE on representations that are blended with those of other
        images, and with prototypes.
    similarity_weight: weight of the loss on similarities across images.
    ramp: factor of the similarity loss in the first epochs.
    start_epoch: first epoch that blends; epochs count from 0.
    prototype_interval: epochs after which the prototypes are made again.
    images_per_prototype: images that a prototype is the mean of; with fewer, all of them.
    peak: a label is where its "contribution" to the sum of the channels is largest (authors' code), or its
        "attention".
    blended_labels: unknown labels of each image that meet a prototype; fewer where fewer are unknown.
    partner: each image is blended with its mirror place in the batch ("flip", authors' code) or with a "random" one.
    count_zero: the mean of a quadrant counts a vector of zeros, too (authors' code, an error).
    relabel_complete_images: where fewer labels are unknown, known ones are blended, too, and overwritten (authors'
        code, an error).
    detach_targets: the soft labels give no gradient to the coefficients.
    pair_sampling, unknown_in_similarity, similarity_reduction: of the similarity loss, see
        `hf_mlrpl.losses.similarity_loss`.
    reduction: of partial BCE, see `hf_mlrpl.losses.partial_bce`.
    """

    instance_weight: float = 1.0
    prototype_weight: float = 1.0
    similarity_weight: float = 0.05
    ramp: Ramp = field(default_factory=Ramp)
    start_epoch: int = 5
    prototype_interval: int = number("[1, 1e6]", 5)
    images_per_prototype: int = number("[1, 1e6]", 100)
    peak: Literal["contribution", "attention"] = "contribution"
    blended_labels: int = number("[1, 1e6]", 1)
    partner: Literal["flip", "random"] = "flip"
    count_zero: bool = False
    relabel_complete_images: bool = False
    detach_targets: bool = False
    pair_sampling: PairSampling = "published"
    unknown_in_similarity: UnknownInSimilarity = "ignore"
    similarity_reduction: Literal["mean", "sum"] = "mean"
    reduction: Reduction = "micro"

    needs_negatives: ClassVar[bool] = True

    @property
    def begins(self) -> dict[str, tuple[int, str]]:
        return {"start_epoch": (self.start_epoch, "blended representations")}


def random_turns(shape: torch.Size, device: torch.device) -> Tensor:
    """1, 2 or 3 for each image and label: how far its quadrant is turned."""
    return torch.randint(1, NUM_QUADRANTS, shape, device=device)


class DsrbObjective(BlendingObjective):
    """Partial BCE before and after blending, and a loss on similarities; remembers a prototype of each label and
    quadrant."""

    config_class = DsrbObjectiveConfig
    config: DsrbObjectiveConfig

    def __init__(self, config: DsrbObjectiveConfig, model_config: DsrbConfig):
        super().__init__(config, model_config, NUM_QUADRANTS if config.prototype_weight else 0)

    def make_prototypes(self, model: DsrbForMultiLabelClassification, images: TrainingImages, seed: int) -> Prototypes:
        """Mean representations of the known positives, by label and quadrant; nothing is random."""
        config = self.config
        return quadrant_prototypes(
            model, images, peak=config.peak, most=config.images_per_prototype, count_zero=config.count_zero
        )

    def represent(self, model: DsrbForMultiLabelClassification, features: Tensor) -> tuple[Tensor, Tensor]:
        """Representations and the quadrant of each label."""
        return locate(model, features, self.config.peak)

    def blend_with_prototypes(
        self, representations: Tensor, labels: Tensor, beta: Tensor, places: Tensor | None = None
    ) -> Blend:
        """Prototype perspective: unknown labels meet the prototype of another quadrant than that of their peak.

        Args:
            places: `(batch_size, num_labels)`, the quadrant of each label.
        """
        assert places is not None
        config = self.config
        turned = (places - random_turns(labels.shape, labels.device)) % NUM_QUADRANTS
        columns, chosen = choose_unknown_labels(
            labels, self.counts > 0, config.blended_labels, relabel=config.relabel_complete_images
        )
        found = self.prototypes[columns, turned.gather(1, columns)]  # (B, K, D): those of the chosen labels alone
        index = columns.unsqueeze(2).expand_as(found)
        others = representations.detach().scatter(1, index, found.to(representations.dtype))
        return blend(representations, labels, others, chosen, beta)._replace(columns=columns)
