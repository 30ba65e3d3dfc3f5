"""Multi-Label Learning from Single Positive Labels (Cole et al., CVPR 2021), https://arxiv.org/abs/2106.09708.

Its losses AN, WAN, LSAN and EPR are one loss with four settings; ROLE has a file of its own.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..labels import POSITIVE, UNKNOWN
from ..losses import bounded_log_loss, expected_positives_penalty
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import Objective, ObjectiveOutput, logits_of, sum_of_terms
from ..ranges import number
from ..schedules import Progress


@dataclass(frozen=True, kw_only=True)
class AnObjectiveConfig:
    """Settings of AN, and of WAN, LSAN and EPR, which have other defaults.

    loss: "bce", or "ranking" of present labels above all others, which knows no weights and no smoothing.
    unknown_weight: weight of an unknown label, which counts as absent; `null` is 1 / (number of labels - 1), so that
        all of them weigh as much as the one present label.
    smoothing: a present label has the target 1 - smoothing, an absent one the target smoothing.
    expected_positives: present labels of an image, on average, which the scores shall add up to; `null` asks nothing.
    """

    loss: Literal["bce", "ranking"] = "bce"
    unknown_weight: float | None = 1.0
    smoothing: float = number("[0, 1]", 0.0)
    expected_positives: float | None = None

    @property
    def needs_negatives(self) -> bool:
        return self.loss == "bce" and self.unknown_weight == 0 and not self.expected_positives


@dataclass(frozen=True, kw_only=True)
class WanObjectiveConfig(AnObjectiveConfig):
    """Settings of AN, with another weight."""

    unknown_weight: float | None = None


@dataclass(frozen=True, kw_only=True)
class LsanObjectiveConfig(AnObjectiveConfig):
    """Settings of AN, with other targets."""

    smoothing: float = number("[0, 1]", 0.1)  # authors' code


@dataclass(frozen=True, kw_only=True)
class EprObjectiveConfig(AnObjectiveConfig):
    """Settings of AN; `expected_positives` is a property of the data and has no default."""

    unknown_weight: float | None = 0.0
    expected_positives: float = dataclasses.field()


def assumed_negative_loss(
    logits: Tensor, labels: Tensor, unknown_weight: float = 1.0, smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy of every entry, where unknown labels count as absent, with `unknown_weight`."""
    right = torch.where(labels.eq(POSITIVE), logits, -logits)
    losses = (1 - smoothing) * bounded_log_loss(right) + smoothing * bounded_log_loss(-right)
    return torch.where(labels.eq(UNKNOWN), unknown_weight * losses, losses)


def ranking_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of `1 - p_present + p_other` over the pairs of a present and another label, over `num_labels`.

    The published hinge at 0 is left out, for the difference of two probabilities does not exceed 1. So no pair is
    made.

    Returns:
        `(batch_size,)`.
    """
    present = labels.eq(POSITIVE).to(logits.dtype)
    other = 1 - present
    wrongly_low = other.sum(dim=1) * (present * (-logits).sigmoid()).sum(dim=1)
    wrongly_high = present.sum(dim=1) * (other * logits.sigmoid()).sum(dim=1)
    return (wrongly_low + wrongly_high) / logits.shape[1]


class AnObjective(Objective):
    """Assume negative: unknown labels are absent."""

    config_class: type = AnObjectiveConfig
    config: AnObjectiveConfig

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        logits = logits_of(model, batch["pixel_values"])  # (B, C)
        config, labels = self.config, batch["labels"]
        if config.loss == "ranking":
            losses = ranking_loss(logits, labels)
        else:
            weight = config.unknown_weight
            if weight is None:
                weight = 1 / max(1, logits.shape[1] - 1)
            losses = assumed_negative_loss(logits, labels, weight, config.smoothing)
        terms: dict[str, Tensor] = {config.loss: losses.mean()}
        if config.expected_positives is not None:
            terms["expected_positives"] = expected_positives_penalty(logits, config.expected_positives)
        return sum_of_terms(terms, logits=logits)


class WanObjective(AnObjective):
    """Weak assume negative: unknown labels are absent, with a small weight."""

    config_class = WanObjectiveConfig


class LsanObjective(AnObjective):
    """Assume negative with label smoothing."""

    config_class = LsanObjectiveConfig


class EprObjective(AnObjective):
    """Expected positive regularisation: unknown labels are ignored, but the number of present ones is given."""

    config_class = EprObjectiveConfig
