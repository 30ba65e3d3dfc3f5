"""Objective of SARB: unknown labels are blended with images that show them, and become soft positives."""

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ...data.images.training_images import TrainingImages
from ...labels import POSITIVE, UNKNOWN
from ...losses import PairSampling, Reduction, UnknownInSimilarity, at_least_float32, partial_bce, similarity_loss
from ...objective import Objective, ObjectiveOutput, sum_of_terms
from ...ranges import number
from ...schedules import Progress, Ramp
from .configuration_sarb import SarbConfig
from .modeling_sarb import SarbForMultiLabelClassification
from .prototypes import label_prototypes


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
    prototype_memory: GiB of representations that a process keeps in memory for k-means; more go to a temporary file.
    partner: each image is blended with its mirror place in the batch ("flip", authors' code) or with a "random" one.
    prototype_index: one random number says which prototype the whole batch takes ("shared", authors' code), or there
        is one "per_label" or "per_image".
    relabel_complete_images: PLRB blends the first label of an image without unknown labels, too, and overwrites what
        is known of it (authors' code, an error).
    detach_targets: the soft labels give no gradient to the coefficients.
    pair_sampling, unknown_in_similarity: of the similarity loss, see `hf_mlrpl.losses.similarity_loss`.
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
    prototype_memory: float = 8.0
    partner: Literal["flip", "random"] = "flip"
    prototype_index: Literal["shared", "per_label", "per_image"] = "shared"
    relabel_complete_images: bool = False
    detach_targets: bool = False
    pair_sampling: PairSampling = "published"
    unknown_in_similarity: UnknownInSimilarity = "ignore"
    reduction: Reduction = "micro"


class Blend(NamedTuple):
    """A batch after blending.

    representations: `(batch_size, num_labels, dim)`.
    targets: `(batch_size, num_labels)`, the labels, and soft positives in [0, 1] where something was blended.
    chosen: `(batch_size, num_labels)` booleans, what was blended.
    """

    representations: Tensor
    targets: Tensor
    chosen: Tensor


def blend(representations: Tensor, labels: Tensor, others: Tensor, chosen: Tensor, coefficient: Tensor) -> Blend:
    """Mix `others` into the chosen representations, whose labels become positive by the share of the others.

    Gradients reach the coefficient through the representations and through the targets, as in the authors' code.

    Args:
        representations: `(batch_size, num_labels, dim)`.
        labels: `(batch_size, num_labels)` in {-1, 0, +1}.
        others: of the shape of `representations`, or `(batch_size, 1, dim)`.
        chosen: `(batch_size, num_labels)` booleans.
        coefficient: scalar in [0, 1], the share of an image's own representation.
    """
    share = 1 - coefficient
    weight = torch.where(chosen, share, 0.0).to(representations.dtype)
    mixed = representations.lerp(others.to(representations.dtype), weight.unsqueeze(-1))
    return Blend(mixed, torch.where(chosen, share, labels.to(share.dtype)), chosen)


def choose_unknown_labels(
    labels: Tensor, has_prototypes: Tensor, relabel_complete_images: bool = False
) -> tuple[Tensor, Tensor]:
    """A random unknown label of each image, among those with prototypes.

    Args:
        labels: `(batch_size, num_labels)` in {-1, 0, +1}.
        has_prototypes: `(num_labels,)` booleans.
        relabel_complete_images: choose the first label where none is unknown, an error of the authors' code.

    Returns:
        The columns of the labels, `(batch_size,)`, 0 where none is chosen; and what is chosen, booleans of the shape
        of `labels`.
    """
    candidates = labels.eq(UNKNOWN) & has_prototypes
    columns = random_scores(labels).masked_fill(~candidates, -1).argmax(dim=1)  # (B,); of equal ones the first
    is_chosen = candidates.any(dim=1)
    if relabel_complete_images:
        is_chosen |= labels.ne(UNKNOWN).all(dim=1) & has_prototypes[0]
    chosen = torch.zeros_like(candidates).scatter_(1, columns.unsqueeze(1), is_chosen.unsqueeze(1))
    return columns, chosen


def random_partners(batch_size: int, device: torch.device) -> Tensor:
    """For each image the place of another one in the batch, `(batch_size,)`; some may meet themselves."""
    return torch.randperm(batch_size, device=device)


def random_prototypes(num_prototypes: int, count: int, device: torch.device) -> Tensor:
    """`(count,)` numbers of prototypes."""
    return torch.randint(num_prototypes, (count,), device=device)


def random_scores(labels: Tensor) -> Tensor:
    """Numbers in [0, 1) of the shape of `labels`; the largest of an image chooses."""
    return torch.rand(labels.shape, device=labels.device)


class SarbObjective(Objective):
    """Partial BCE before and after blending, and a loss on similarities; remembers prototypes of each label.

    Attributes:
        prototypes: `(num_labels, num_prototypes, dim)`.
        counts: known positives that the prototypes of each label come from, `(num_labels,)`; 0 means that it has none.
        prototype_epoch: in which epoch they were made; -1 before that.
    """

    config_class = SarbObjectiveConfig
    config: SarbObjectiveConfig
    prototypes: Tensor
    counts: Tensor
    prototype_epoch: Tensor

    def __init__(self, config: SarbObjectiveConfig, model_config: SarbConfig):
        super().__init__(config, model_config)
        self.is_prepared = not config.prototype_weight
        if config.prototype_weight:
            num_labels, dim = model_config.num_labels, model_config.representation_dim
            self.register_buffer("prototypes", torch.zeros(num_labels, config.num_prototypes, dim))
            self.register_buffer("counts", torch.zeros(num_labels, dtype=torch.int64))
            self.register_buffer("prototype_epoch", torch.tensor(-1))

    def before_epoch(self, model: SarbForMultiLabelClassification, images: TrainingImages, progress: Progress) -> None:
        """Make the prototypes where they are due."""
        self.is_prepared = True
        config, epoch = self.config, math.floor(progress.epoch)
        blended_epochs = epoch - config.start_epoch
        if not config.prototype_weight or blended_epochs < 0:
            return
        due = epoch - blended_epochs % config.prototype_interval
        if self.prototype_epoch.item() < due:  # else they were made before an interruption, with other weights
            made = label_prototypes(
                model,
                images,
                config.num_prototypes,
                seed=images.seed + epoch,
                num_starts=config.kmeans_starts,
                memory_limit=config.prototype_memory,
            )
            self.prototypes.copy_(made.centers)
            self.counts.copy_(made.counts)
            self.prototype_epoch.fill_(epoch)

    def forward(
        self, model: SarbForMultiLabelClassification, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        config, labels = self.config, batch["labels"]
        if config.prototype_weight:
            self.remembered("prototypes")  # else the lack of them would show when blending begins
        representations, _ = model.represent(model.encode(batch["pixel_values"]))  # (B, C, D)
        blends = self.blend(model, representations, labels) if progress.epoch >= config.start_epoch else {}
        # One batch of up to 3B: the images are independent of each other from here on.
        stacked = torch.cat([representations, *(blended.representations for blended in blends.values())])
        logits, *blended_logits = at_least_float32(model.classify(stacked)).split(len(labels))

        terms = {"known": partial_bce(logits, labels, config.reduction)}
        for (name, blended), its_logits in zip(blends.items(), blended_logits, strict=True):
            targets = blended.targets.detach() if config.detach_targets else blended.targets
            weight = getattr(config, f"{name}_weight")
            terms[name] = weight * partial_bce(its_logits, targets, config.reduction)
        if config.similarity_weight:
            with torch.autocast(logits.device.type, enabled=False):
                loss = similarity_loss(
                    at_least_float32(representations), labels, config.pair_sampling, config.unknown_in_similarity
                )
            terms["similarity"] = config.similarity_weight * config.ramp(progress) * loss

        logs = {f"blended_labels_{name}": blended.chosen.sum() for name, blended in blends.items()}
        if blends:
            logs |= {name: value.detach().clone() for name, value in model.coefficients.named_parameters()}
        return sum_of_terms(terms, logits=logits, logs=logs)

    def blend(
        self, model: SarbForMultiLabelClassification, representations: Tensor, labels: Tensor
    ) -> dict[str, Blend]:
        """The batch as blended by each rule that is switched on."""
        model.coefficients.clamp_()
        blends = {}
        if self.config.instance_weight:
            blends["instance"] = self.blend_with_images(representations, labels, model.coefficients.alpha)
        if self.config.prototype_weight:
            blends["prototype"] = self.blend_with_prototypes(representations, labels, model.coefficients.beta)
        return blends

    def blend_with_images(self, representations: Tensor, labels: Tensor, alpha: Tensor) -> Blend:
        """Instance-level blending (ILRB): wherever a label is unknown, and the partner of the image shows it."""
        if self.config.partner == "random":
            partners = random_partners(len(labels), labels.device)
        else:
            partners = torch.arange(len(labels) - 1, -1, -1, device=labels.device)
        chosen = labels.eq(UNKNOWN) & labels[partners].eq(POSITIVE)
        return blend(representations, labels, representations.index_select(0, partners), chosen, alpha)

    def blend_with_prototypes(self, representations: Tensor, labels: Tensor, beta: Tensor) -> Blend:
        """Prototype-level blending (PLRB): one unknown label of each image, with a prototype of that label."""
        config, (batch_size, num_labels) = self.config, labels.shape
        count = {"shared": 1, "per_label": num_labels, "per_image": batch_size}[config.prototype_index]
        drawn = random_prototypes(config.num_prototypes, count, labels.device)
        columns, chosen = choose_unknown_labels(labels, self.counts > 0, config.relabel_complete_images)
        index = drawn[columns] if config.prototype_index == "per_label" else drawn.expand(batch_size)
        others = self.prototypes[columns, index].unsqueeze(1)  # (B, 1, D): a label of each image, no (B, C, D)
        return blend(representations, labels, others, chosen, beta)
