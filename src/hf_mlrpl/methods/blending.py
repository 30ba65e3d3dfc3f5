"""Blending of representations: unknown labels meet images that show them, and prototypes. What SARB and DSRB share."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..data.images.training_images import TrainingImages
from ..labels import POSITIVE, UNKNOWN
from ..losses import at_least_float32, partial_bce, similarity_loss
from ..objective import ObjectiveOutput, sum_of_terms
from ..schedules import Progress
from .prototype_objective import PrototypeObjective
from .sarb.modeling_sarb import SarbForMultiLabelClassification

_FEW = 4  # at most one of so many labels differs where sharing the first time step of the graph network pays


class Blend(NamedTuple):
    """A batch after blending.

    representations: `(batch_size, num_labels, dim)`.
    targets: `(batch_size, num_labels)`, the labels, and soft positives in [0, 1] where something was blended.
    chosen: `(batch_size, num_labels)` booleans, what was blended.
    columns: `(batch_size, K)`, where few labels of an image are blended: those that may be chosen.
    """

    representations: Tensor
    targets: Tensor
    chosen: Tensor
    columns: Tensor | None = None


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
    labels: Tensor, has_prototypes: Tensor, count: int = 1, relabel: bool = False
) -> tuple[Tensor, Tensor]:
    """Random unknown labels of each image, among those with prototypes.

    Args:
        labels: `(batch_size, num_labels)` in {-1, 0, +1}.
        has_prototypes: `(num_labels,)` booleans.
        count: labels to choose of each image, K; fewer where fewer are unknown.
        relabel: where fewer labels of an image are unknown, choose known ones, too: the first ones. An error of the
            authors' code.

    Returns:
        The columns of the labels, `(batch_size, K)`, some other columns where fewer are chosen; and what is chosen,
        booleans of the shape of `labels`.
    """
    candidates = labels.eq(UNKNOWN) & has_prototypes
    keys = random_scores(labels).masked_fill(~candidates, -1)
    columns = keys.argsort(dim=1, descending=True, stable=True)[:, :count]  # of equal ones the first
    is_chosen = candidates.gather(1, columns)
    if relabel:
        is_chosen |= (labels.ne(UNKNOWN) & has_prototypes).gather(1, columns)
    return columns, torch.zeros_like(candidates).scatter_(1, columns, is_chosen)


def random_partners(batch_size: int, device: torch.device) -> Tensor:
    """For each image the place of another one in the batch, `(batch_size,)`; some may meet themselves."""
    return torch.randperm(batch_size, device=device)


def random_scores(labels: Tensor) -> Tensor:
    """Numbers in [0, 1) of the shape of `labels`; the largest of an image chooses."""
    return torch.rand(labels.shape, device=labels.device)


class BlendingObjective(PrototypeObjective):
    """Base of the objectives that blend: partial BCE before and after blending, and a loss on similarities.

    Its config has the settings of `SarbObjectiveConfig` that do not speak of clusters.

    Attributes:
        most_positives: no training image is known to show more labels.
    """

    def __init__(self, config: Any, model_config: Any, num_prototypes: int):
        super().__init__(config, model_config, num_prototypes)
        self.most_positives = model_config.num_labels

    def prepare(self, images: TrainingImages) -> None:
        self.most_positives = int(images.labels.eq(POSITIVE).sum(dim=1).max())

    def forward(
        self, model: SarbForMultiLabelClassification, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        config, labels = self.config, batch["labels"]
        if config.prototype_weight:
            self.remembered("prototypes")  # else the lack of them would show when blending begins
        representations, places = self.represent(model, model.encode(batch["pixel_values"]))  # (B, C, D)
        blends = self.blend(model, representations, labels, places) if progress.epoch >= config.start_epoch else {}
        # One batch of up to 3B: the images are independent of each other from here on.
        stacked = torch.cat([representations, *(blended.representations for blended in blends.values())])
        differing = [blended.columns for blended in blends.values() if blended.columns is not None]
        shared = {"differing": differing} if differing else {}  # networks without blending know of none
        logits, *blended_logits = at_least_float32(model.classify(stacked, **shared)).split(len(labels))

        terms = {"known": partial_bce(logits, labels, config.reduction)}
        for (name, blended), its_logits in zip(blends.items(), blended_logits, strict=True):
            targets = blended.targets.detach() if config.detach_targets else blended.targets
            weight = getattr(config, f"{name}_weight")
            terms[name] = weight * partial_bce(its_logits, targets, config.reduction)
        if config.similarity_weight:
            with torch.autocast(logits.device.type, enabled=False):
                rules = config.pair_sampling, config.unknown_in_similarity, config.similarity_reduction
                loss = similarity_loss(at_least_float32(representations), labels, *rules)
            terms["similarity"] = config.similarity_weight * config.ramp(progress) * loss

        logs = {f"blended_labels_{name}": blended.chosen.sum() for name, blended in blends.items()}
        if blends:
            logs |= {name: value.detach().clone() for name, value in model.coefficients.named_parameters()}
        return sum_of_terms(terms, logits=logits, logs=logs)

    def represent(self, model: Any, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Representations, `(batch_size, num_labels, dim)`, and what else blending with prototypes depends on."""
        return model.represent(features)[0], None

    def blend(
        self,
        model: SarbForMultiLabelClassification,
        representations: Tensor,
        labels: Tensor,
        places: Tensor | None = None,
    ) -> dict[str, Blend]:
        """The batch as blended by each rule that is switched on; those that name their `columns` come last."""
        blends: dict[str, Blend] = {}
        if not (self.config.instance_weight or self.config.prototype_weight):
            return blends  # the network may be one without coefficients
        model.coefficients.clamp_()
        if self.config.instance_weight:
            blends["instance"] = self.blend_with_images(representations, labels, model.coefficients.alpha)
        if self.config.prototype_weight:
            blends["prototype"] = self.blend_with_prototypes(representations, labels, model.coefficients.beta, places)
        return blends

    def blend_with_images(self, representations: Tensor, labels: Tensor, alpha: Tensor) -> Blend:
        """Instance-level blending (ILRB): wherever a label is unknown, and the partner of the image shows it.

        Names the `columns` where images show so few labels that it pays.
        """
        if self.config.partner == "random":
            partners = random_partners(len(labels), labels.device)
        else:
            partners = torch.arange(len(labels) - 1, -1, -1, device=labels.device)
        shown = labels[partners].eq(POSITIVE)
        chosen = labels.eq(UNKNOWN) & shown
        blended = blend(representations, labels, representations.index_select(0, partners), chosen, alpha)
        if self.most_positives * _FEW > labels.shape[1]:
            return blended
        return blended._replace(columns=shown.to(torch.uint8).topk(self.most_positives, dim=1).indices)

    def blend_with_prototypes(
        self, representations: Tensor, labels: Tensor, beta: Tensor, places: Tensor | None = None
    ) -> Blend:
        """Unknown labels of each image, blended with prototypes of these labels; names their `columns`."""
        raise NotImplementedError(f"{type(self).__name__} must define `blend_with_prototypes`.")
