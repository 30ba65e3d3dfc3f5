"""The strictly proper asymmetric loss, SPA (Cheng and Vasconcelos, CVPR 2024)."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..labels import POSITIVE, UNKNOWN
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import Objective, ObjectiveOutput, logits_of, sum_of_terms
from ..ranges import number
from ..schedules import Progress


@dataclass(frozen=True, kw_only=True)
class SpaObjectiveConfig:
    """Shape of the SPA loss.

    positive_scale, negative_scale: divisors of the losses of present and absent labels, zeta.
    positive_slope, negative_slope: k.
    positive_shift, negative_shift: b, in units of logits.
    argument: the loss of the "logit", or, as in mlcpl, of the "probability" of `spa_probability`, which is not proper.
    """

    positive_scale: float = number("(0, 1e6]", 1.0)
    positive_slope: float = number("(0, 1e6]", 1.0)
    positive_shift: float = number("[-1e3, 1e3]", 0.0)
    negative_scale: float = number("(0, 1e6]", 5.0)
    negative_slope: float = number("(0, 1e6]", 3.0)
    negative_shift: float = number("[-1e3, 1e3]", 1.0)
    argument: Literal["logit", "probability"] = "logit"

    needs_negatives: ClassVar[bool] = True


def spa_losses(x: Tensor, positive: Tensor, config: SpaObjectiveConfig) -> Tensor:
    """`softplus(-k (x - b)) / zeta` of present labels and `softplus(k (x - b)) / zeta` of absent ones."""
    present = F.softplus(-config.positive_slope * (x - config.positive_shift)) / config.positive_scale
    absent = F.softplus(config.negative_slope * (x - config.negative_shift)) / config.negative_scale
    return torch.where(positive, present, absent)


def spa_probability(logits: Tensor, config: SpaObjectiveConfig) -> Tensor:
    """The probability for which a logit is the best answer: where the expected loss has the derivative 0.

    It is the sigmoid of the logarithm of (slope of the loss of absent labels / minus slope of that of present ones).
    """
    absent = F.logsigmoid(config.negative_slope * (logits - config.negative_shift))
    present = F.logsigmoid(-config.positive_slope * (logits - config.positive_shift))
    ratio = config.negative_slope * config.positive_scale / (config.positive_slope * config.negative_scale)
    return (absent - present + math.log(ratio)).sigmoid()


class SpaObjective(Objective):
    """Mean of the SPA loss over the known labels."""

    config_class = SpaObjectiveConfig
    config: SpaObjectiveConfig

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        labels = batch["labels"]
        logits = logits_of(model, batch["pixel_values"])  # (B, C)
        x = spa_probability(logits, self.config) if self.config.argument == "probability" else logits
        unknown = labels.eq(UNKNOWN)
        losses = spa_losses(x, labels.eq(POSITIVE), self.config).masked_fill(unknown, 0)
        loss = losses.sum() / unknown.logical_not().sum().clamp(min=1)
        return sum_of_terms({"known": loss}, logits=logits)
