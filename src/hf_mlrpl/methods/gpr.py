"""More Reliable Pseudo-labels, Better Performance (Tran et al., ICCV 2025): the loss GPR on pseudo-labels of DAMP.

https://arxiv.org/abs/2508.20381. The framework is called AEVLP there.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..data.images.views import View, views_of_tiles
from ..labels import NEGATIVE, POSITIVE, UNKNOWN
from ..losses import bounded_cross_entropy, bounded_log_loss, expected_positives_penalty
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import ObjectiveOutput, logits_of, sum_of_terms
from ..ranges import number
from ..schedules import Progress
from .clip_labels import ClipLabelsConfig, ClipLabelsObjective, terms_by_origin
from .robust_risk import EPS, Belief, Pair, RobustRiskConfig, gr_losses


@dataclass(frozen=True, kw_only=True)
class GprObjectiveConfig(ClipLabelsConfig, RobustRiskConfig):
    """Settings of GPR and of DAMP, its pseudo-labels; defaults are those of COCO.

    clip, templates, clip_resize, temperature: see `hf_mlrpl.methods.clip_labels.ClipLabelsConfig`.
    grid: CLIP also looks at so many rows and columns of tiles, `G`.
    tile_threshold: a label counts with its best tile where that scores above this, or above the known present label in
        the whole image if that is less, `eta`; and else with its worst tile.
    num_candidates: so many labels of an image, those with the highest scores, may be taken for present.
    threshold: the score that they need for it, `tau`.
    lowest_fraction: part of the labels of an image that are not, those with the lowest mean scores, `r`.
    lowest: they are left "unknown" (authors' code, against its comments), or are taken for "absent".
    confidence: target of a label that is taken for present, `rho`.
    least_weight, largest_weight: of such a label, `lambda_2` and `lambda_1`; between them, less where an unknown label
        would have more.
    expected_positives: present labels of an image, on average. Published: 1.5 for VOC 2012, 2.9 for COCO, 1.9 for
        NUS-WIDE, 31.4 for CUB.
    expected_positives_weight: of the penalty for another number.
    slope, offset, centre, width, present_exponent, absent_exponent, start_epoch, ramp: of the loss of unknown labels,
        see `hf_mlrpl.methods.robust_risk.RobustRiskConfig`.
    """

    clip: str = "openai/clip-vit-base-patch16"
    clip_resize: Literal["crop", "stretch"] = "stretch"
    grid: int = number("[1, 32]", 4)
    tile_threshold: float = number("[0, 1]", 0.3)
    num_candidates: int = number("[1, 1e6]", 3)
    threshold: float = number("[0, 1]", 0.5)
    lowest_fraction: float = number("[0, 1]", 0.3)
    lowest: Literal["unknown", "absent"] = "unknown"
    confidence: float = number("[0, 1]", 0.9)
    least_weight: float = number("[0, 1]", 0.5)
    largest_weight: float = number("[0, 1]", 0.7)
    expected_positives: float
    expected_positives_weight: float = 0.001
    slope: Pair = (0.0, 10.0)
    offset: Pair = (-2.0, -8.0)

    def __post_init__(self):
        ClipLabelsConfig.__post_init__(self)
        RobustRiskConfig.__post_init__(self)
        if self.least_weight > self.largest_weight:
            raise ValueError(
                f"`least_weight` must not lie above `largest_weight`, got {self.least_weight} and "
                f"{self.largest_weight}. Exchange them."
            )


def damp_scores(scores: Tensor, labels: Tensor, tile_threshold: float) -> tuple[Tensor, Tensor]:
    """Scores of the labels of an image, from the whole and its tiles.

    Args:
        scores: of CLIP, `(batch_size, 1 + num_tiles, num_labels)`, those of the whole image first.
        labels: `(batch_size, num_labels)` in {-1, 0, +1}.

    Returns:
        Two `(batch_size, num_labels)` tensors: the mean of the whole image and of the best or the worst tile, and the
        mean of the whole image and of the mean tile.
    """
    whole, tiles = scores[:, 0], scores[:, 1:]
    of_known = whole.where(labels.eq(POSITIVE), 0).amax(dim=1, keepdim=True)
    best, worst = tiles.amax(dim=1), tiles.amin(dim=1)
    tile = torch.where(best > of_known.clamp(max=tile_threshold), best, worst)
    return (whole + tile) / 2, (whole + tiles.mean(dim=1)) / 2


def damp_pseudo_labels(scores: Tensor, labels: Tensor, config: GprObjectiveConfig) -> Tensor:
    """Dynamic augmented multi-focus pseudo-labels (DAMP), int8 in {-1, 0, +1}, from what `damp_scores` takes."""
    scores, means = damp_scores(scores, labels, config.tile_threshold)
    highest = scores.argsort(dim=1, descending=True, stable=True)[:, : config.num_candidates]
    lowest = means.argsort(dim=1, stable=True)[:, : int(config.lowest_fraction * scores.shape[1])]
    found = torch.zeros_like(scores, dtype=torch.int8).scatter(1, highest, POSITIVE) * scores.ge(config.threshold)
    return found.scatter(1, lowest, NEGATIVE if config.lowest == "absent" else UNKNOWN)


def gpr_losses(
    logits: Tensor, labels: Tensor, pseudo_labels: Tensor, belief: Belief, config: GprObjectiveConfig
) -> Tensor:
    """Loss of every entry: cross-entropy where the label is known, the robust risk where it is not, and a weighted
    cross-entropy where it was completed.

    Args:
        pseudo_labels: `(batch_size, num_labels)` in {-1, 0, +1}, 0 where a label is known.
    """
    weights = belief.weights(logits.detach().sigmoid())
    target = torch.full_like(logits, config.confidence)
    present = (1 - weights).clamp(config.least_weight, config.largest_weight)
    losses = gr_losses(logits, labels, belief, config)
    losses = torch.where(pseudo_labels.eq(POSITIVE), present * bounded_cross_entropy(logits, target, EPS), losses)
    return torch.where(pseudo_labels.eq(NEGATIVE), weights * bounded_log_loss(-logits, EPS), losses)


class GprObjective(ClipLabelsObjective):
    """The robust risk of GR with labels that CLIP finds in an image and its tiles."""

    config_class = GprObjectiveConfig
    config: GprObjectiveConfig

    def views(self, whole: View) -> dict[str, View]:
        """The whole image and its tiles."""
        tiles = views_of_tiles(whole, self.config.grid)
        return super().views(whole) | {f"tile_{place}": view for place, view in enumerate(tiles)}

    def label_images(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Pseudo-labels from the whole image and its tiles."""
        return damp_pseudo_labels(scores, labels, self.config)

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        logits, labels = logits_of(model, batch["pixel_values"]), batch["labels"]  # (B, C)
        config, pseudo_labels, belief = self.config, self.pseudo_labels_of(batch), self.config.belief(progress)
        losses = gpr_losses(logits, labels, pseudo_labels, belief, config)
        penalty = expected_positives_penalty(logits, config.expected_positives)
        terms = terms_by_origin(losses, labels, pseudo_labels)
        terms["expected_positives"] = config.expected_positives_weight * penalty
        return sum_of_terms(terms, logits=logits, logs=vars(belief), pseudo_labels={"clip": labels + pseudo_labels})
