"""Objective of IMCL: labels and features of an image shall be combinations of those of a few other images."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...data.images.training_images import TrainingImages
from ...distributed import gather_rows
from ...labels import UNKNOWN
from ...losses import Reduction, at_least_float32, partial_bce
from ...objective import Objective, ObjectiveOutput, sum_of_terms
from ...ranges import number
from ...schedules import Progress
from .configuration_imcl import ImclConfig
from .modeling_imcl import ImclForMultiLabelClassification
from .sparse_coding import Pursuit, SparseCode, combine, sparse_code

LARGEST_LABEL = 10.0  # authors' code
SMALLEST_DISTANCE = 1e-3  # authors' code: what is nearer is the image itself


@dataclass(frozen=True, kw_only=True)
class ImclObjectiveConfig:
    """Weights and rules.

    label_weight, feature_weight: weights of the losses on how well labels and features are combinations of those of
        other images.
    relative_weights: multiply both by the size that the known-label loss had beside them in the first step that has
        them (published), or not.
    start_epoch: first epoch with these losses; before, the classifier learns alone and the dictionary fills.
    dictionary_size: images that others are combinations of, drawn from the training set; a larger one has all of it.
    num_neighbours: images that one is a combination of, at most.
    absent_share: a label that is absent is this many times smaller than one that is present: 1 over `c`.
    threshold: smallest score of a neighbour.
    balance: each similarity is divided by its largest value before the two are added.
    first_item_ends: the first image of the dictionary, found as a further neighbour, ends the search (authors'
        code, whose list of neighbours begins as zeros).
    weight_penalty: weight of the squared weights of the classifier.
    reduction: of partial BCE, see `hf_mlrpl.losses.partial_bce`.
    """

    label_weight: float = 2.0  # CUB
    feature_weight: float = 0.5
    relative_weights: bool = True
    start_epoch: int = 1
    dictionary_size: int = number("[1, 1e9]", 10_000)  # COCO
    num_neighbours: int = number("[1, 100]", 3)
    absent_share: float = number("(0, 1]", 0.5)
    threshold: float = 1e-6
    balance: bool = False
    first_item_ends: bool = False
    weight_penalty: float = 0.0
    reduction: Reduction = "micro"

    needs_negatives: ClassVar[bool] = True

    @property
    def begins(self) -> dict[str, tuple[int, str]]:
        return {"start_epoch": (self.start_epoch, "losses on combinations of other images")}


def activation(logits: Tensor, absent_share: float) -> Tensor:
    """Logits as labels in (-absent_share, 1), 0 at 0."""
    return (1 + absent_share) * (2 * logits + math.log(absent_share)).sigmoid() - absent_share


def completed(values: Tensor, labels: Tensor, absent_share: float) -> Tensor:
    """`values` where labels are unknown; elsewhere 1 where they are present and `-absent_share` where absent."""
    known = labels.to(values.dtype).clamp(-absent_share, LARGEST_LABEL)
    return torch.where(labels.eq(UNKNOWN), values, known)


class ImclObjective(Objective):
    """Partial BCE, and two losses on combinations of other images; remembers a dictionary of features.

    A feature is remembered when its image is in a batch, so none is older than an epoch.

    Attributes:
        dictionary: `(num_items + 1, representation_dim)`; the last one takes what is not to be remembered and stays 0.
        is_filled: `(num_items + 1,)` booleans; the last one stays false.
        rows: `(num_items,)`, the training images of the dictionary.
        their_labels: `(num_items, num_labels)` int8.
        slots: `(num_images,)`, the place of each image in the dictionary; the last one for those that are not in it.
        factors: of the two losses, `(2,)`; NaN until they are measured.
    """

    config_class = ImclObjectiveConfig
    config: ImclObjectiveConfig
    dictionary: Tensor
    is_filled: Tensor
    rows: Tensor
    their_labels: Tensor
    slots: Tensor
    factors: Tensor

    def __init__(self, config: ImclObjectiveConfig, model_config: ImclConfig):
        super().__init__(config, model_config)
        self.dim = model_config.representation_dim
        self.register_buffer("factors", torch.full((2,), math.nan))

    def prepare(self, images: TrainingImages) -> None:
        generator = torch.Generator().manual_seed(images.seed)
        size = min(self.config.dictionary_size, len(images))
        rows = torch.randperm(len(images), generator=generator)[:size].sort().values
        slots = torch.full((len(images),), size).index_copy_(0, rows, torch.arange(size))
        self.register_buffer("dictionary", torch.zeros(size + 1, self.dim))
        self.register_buffer("is_filled", torch.zeros(size + 1, dtype=torch.bool))
        self.register_buffer("rows", rows)
        self.register_buffer("their_labels", images.labels[rows].to(torch.int8))
        self.register_buffer("slots", slots)

    def forward(
        self, model: ImclForMultiLabelClassification, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        config, labels = self.config, batch["labels"]
        self.remembered("dictionary")
        representations, _ = model.represent(model.encode(batch["pixel_values"]))  # (B, 1, D)
        logits = at_least_float32(model.classify(representations))
        terms = {"known": partial_bce(logits, labels, config.reduction)}
        if config.weight_penalty:
            terms["weights"] = config.weight_penalty * model.classifier.weight.square().sum()
        logs: dict[str, Tensor | float] = {}
        with torch.autocast(logits.device.type, enabled=False):
            features = at_least_float32(representations.squeeze(1))
            if progress.epoch >= config.start_epoch:
                dictionary, is_filled = self.dictionary[:-1].to(features), self.is_filled[:-1]
                allowed = is_filled & (self.rows != batch["index"].unsqueeze(1))  # (B, N)
                losses, code = self.combination_losses(
                    model, features, logits, labels, dictionary, self.their_labels, allowed
                )
                terms |= self.weighted(losses, terms["known"])
                logs["neighbours"] = code.is_used.sum(dim=1).float().mean()
        self.remember(features, batch["index"])
        return sum_of_terms(terms, logits=logits, logs=logs)

    def combination_losses(
        self,
        model: ImclForMultiLabelClassification,
        features: Tensor,
        logits: Tensor,
        labels: Tensor,
        dictionary: Tensor,
        their_labels: Tensor,
        allowed: Tensor,
    ) -> tuple[dict[str, Tensor], SparseCode]:
        """How far labels and features are from combinations of those of dictionary images; means over the images.

        Args:
            features: `(batch_size, dim)`. logits, labels: `(batch_size, num_labels)`.
            dictionary: `(num_items, dim)`. their_labels: `(num_items, num_labels)`.
            allowed: `(batch_size, num_items)` booleans.

        Returns:
            The losses, scalars called "label" and "feature", and which images were combined.
        """
        config, share = self.config, self.config.absent_share
        own = completed(activation(logits, share), labels, share)  # (B, C)
        own_features, items = (torch.cat([x, x.new_ones(len(x), 1)], dim=1) for x in (features, dictionary))

        def complete(some_features: Tensor, some_labels: Tensor) -> Tensor:
            """Labels of dictionary images, completed by their scores and the class graph."""
            scores = some_features @ model.classifier.weight.t() + model.classifier.bias
            return completed(model.class_graph(activation(scores, share)), some_labels, share)

        with torch.no_grad():
            distance = torch.cdist(own_features, items, compute_mode="donot_use_mm_for_euclid_dist")
            pursuit = Pursuit(
                config.num_neighbours,
                config.label_weight,
                config.feature_weight,
                config.threshold,
                config.balance,
                config.first_item_ends,
            )
            found = complete(dictionary, their_labels)
            code = sparse_code(own, own_features, found, items, allowed & (distance >= SMALLEST_DISTANCE), pursuit)
        chosen = code.neighbours
        theirs = complete(dictionary[chosen], their_labels[chosen])  # (B, K, C), with gradients
        losses = {
            "label": own - combine(theirs, code.label_coefficients),
            "feature": own_features - combine(items[chosen], code.feature_coefficients),
        }
        return {name: loss.square().sum(dim=1).mean() for name, loss in losses.items()}, code

    def weighted(self, losses: dict[str, Tensor], known: Tensor) -> dict[str, Tensor]:
        """The losses that have a weight, times that and, if it is relative, their factor; measures the factors where
        this has not happened."""
        config = self.config
        if config.relative_weights:
            sizes = torch.stack([known, losses["label"], losses["feature"]]).detach()
            sizes = gather_rows(sizes.unsqueeze(0)).mean(dim=0)
            measured = (sizes[0] / sizes[1:]).where((sizes > 0).all(), math.nan)
            self.factors.copy_(self.factors.where(~self.factors.isnan(), measured))
        weights = {"label": config.label_weight, "feature": config.feature_weight}
        return {
            name: weight * (factor if config.relative_weights else 1.0) * losses[name]
            for (name, weight), factor in zip(weights.items(), self.factors.nan_to_num().unbind(), strict=True)
            if weight
        }

    @torch.no_grad()
    def remember(self, features: Tensor, index: Tensor) -> None:
        """Put the features of the images of all processes that are in the dictionary into their places."""
        slots = gather_rows(self.slots[index])
        features = gather_rows(features.detach().to(self.dictionary.dtype))
        is_again = (slots.unsqueeze(0) == slots.unsqueeze(1)).tril(-1).any(dim=1)  # an image may stand twice
        slots = slots.masked_fill(is_again, len(self.dictionary) - 1)
        is_there = slots < len(self.dictionary) - 1
        self.dictionary[slots] = features.where(is_there.unsqueeze(1), 0.0)
        self.is_filled[slots] = is_there
