"""Objective of SARB: unknown labels are blended with images that show them, and become soft positives."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ...data.images.training_images import TrainingImages
from ...losses import PairSampling, Reduction, UnknownInSimilarity
from ...ranges import number
from ...schedules import Ramp
from ..blending import Blend, BlendingObjective, blend, choose_unknown_labels
from ..prototypes import Prototypes
from .configuration_sarb import SarbConfig


@dataclass(frozen=True, kw_only=True)
class SarbObjectiveConfig:
    """Weights and rules; a weight of 0 switches a term off.

    Whether the coefficients alpha and beta are learned is a setting of the model, `SarbConfig`.

    instance_weight, prototype_weight: weights of partial BCE on representations that are blended with those of other
        images (ILRB), and with prototypes (PLRB).
    similarity_weight: weight of the loss on similarities across images, `lambda` of the paper.
    ramp: factor of the similarity loss in the first epochs (authors' code, not in the paper).
    start_epoch: first epoch that blends; epochs count from 0.
    num_prototypes: prototypes of each label.
    prototype_interval: epochs after which the prototypes are made again.
    kmeans_starts: how often k-means starts for each label; the tightest clusters count. Authors' code: 10.
    prototype_view: the images behind the prototypes are seen as at inference ("plain"), or with the random choices of
        training ("training", authors' code).
    prototype_memory: GiB of representations that a process keeps in memory for k-means; more go to a temporary file.
    partner: each image is blended with its mirror place in the batch ("flip", authors' code) or with a "random" one.
    prototype_index: one random number says which prototype the whole batch takes ("shared", authors' code), or there
        is one "per_label" or "per_image".
    relabel_complete_images: PLRB blends the first label of an image without unknown labels, too, and overwrites what
        is known of it (authors' code, an error).
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
    num_prototypes: int = number("[1, 1e6]", 10)  # authors' code
    prototype_interval: int = number("[1, 1e6]", 5)
    kmeans_starts: int = number("[1, 1e6]", 1)
    prototype_view: Literal["plain", "training"] = "plain"
    prototype_memory: float = 8.0
    partner: Literal["flip", "random"] = "flip"
    prototype_index: Literal["shared", "per_label", "per_image"] = "shared"
    relabel_complete_images: bool = False
    detach_targets: bool = False
    pair_sampling: PairSampling = "published"
    unknown_in_similarity: UnknownInSimilarity = "ignore"
    similarity_reduction: Literal["mean", "sum"] = "mean"
    reduction: Reduction = "micro"

    needs_negatives: ClassVar[bool] = True
    own_network_settings: ClassVar[tuple[str, ...]] = ("instance_weight", "prototype_weight")

    @property
    def begins(self) -> dict[str, tuple[int, str]]:
        return {"start_epoch": (self.start_epoch, "blended representations")}


def random_prototypes(num_prototypes: int, count: int, device: torch.device) -> Tensor:
    """`(count,)` numbers of prototypes."""
    return torch.randint(num_prototypes, (count,), device=device)


class SarbObjective(BlendingObjective):
    """Partial BCE before and after blending, and a loss on similarities; remembers prototypes of each label."""

    config_class = SarbObjectiveConfig
    config: SarbObjectiveConfig

    def __init__(self, config: SarbObjectiveConfig, model_config: SarbConfig):
        super().__init__(config, model_config, config.num_prototypes if config.prototype_weight else 0)

    def make_prototypes(self, model: Any, images: TrainingImages, seed: int) -> Prototypes:
        return super().make_prototypes(
            model, images if self.config.prototype_view == "plain" else images.augmented(), seed
        )

    def blend_with_prototypes(
        self, representations: Tensor, labels: Tensor, beta: Tensor, places: Tensor | None = None
    ) -> Blend:
        """Prototype-level blending (PLRB): one unknown label of each image, with a prototype of that label."""
        config, (batch_size, num_labels) = self.config, labels.shape
        count = {"shared": 1, "per_label": num_labels, "per_image": batch_size}[config.prototype_index]
        drawn = random_prototypes(config.num_prototypes, count, labels.device)
        columns, chosen = choose_unknown_labels(labels, self.counts > 0, relabel=config.relabel_complete_images)
        index = drawn[columns] if config.prototype_index == "per_label" else drawn.expand(batch_size).unsqueeze(1)
        others = self.prototypes[columns, index]  # (B, 1, D): a label of each image, no (B, C, D)
        return blend(representations, labels, others, chosen, beta)._replace(columns=columns)
