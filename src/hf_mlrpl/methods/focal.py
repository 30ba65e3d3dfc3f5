"""Focal loss (Lin et al., ICCV 2017, https://arxiv.org/abs/1708.02002) with three ways to treat unknown labels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..labels import POSITIVE, UNKNOWN
from ..losses import Unknown, focal_loss, unknown_weights
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import Objective, ObjectiveOutput, logits_of, sum_of_terms
from ..ranges import number
from ..schedules import Progress


@dataclass(frozen=True, kw_only=True)
class FocalObjectiveConfig:
    """Settings of the focal loss.

    gamma: exponent of the wrong probability.
    positive_weight, negative_weight: weights of labels that are present, and of those that are or count as absent.
    unknown: unknown labels count as absent ("negative"), or are left out ("ignore"), or count as absent but for those
        that are likely to be present ("select").
    likely_per_image: with "select", this many unknown labels per image are left out, on average over a batch.
    detach_focus: no gradient through the focusing factor.
    """

    gamma: float = number("[0, 100]", 2.0)
    positive_weight: float = 1.0
    negative_weight: float = 1.0
    unknown: Unknown = "ignore"
    likely_per_image: int = 5
    detach_focus: bool = False

    @property
    def needs_negatives(self) -> bool:
        return self.unknown == "ignore"


class FocalObjective(Objective):
    """Mean of the focal loss over the labels that count."""

    config_class = FocalObjectiveConfig
    config: FocalObjectiveConfig

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        config, labels = self.config, batch["labels"]
        logits = logits_of(model, batch["pixel_values"])  # (B, C)
        positive, unknown = labels.eq(POSITIVE), labels.eq(UNKNOWN)
        losses = focal_loss(
            logits,
            positive.to(logits.dtype),
            gamma_positive=config.gamma,
            gamma_negative=config.gamma,
            detach_focus=config.detach_focus,
        )
        losses = losses * torch.where(positive, config.positive_weight, config.negative_weight)
        weights = unknown_weights(logits, labels, config.unknown, likely_per_image=config.likely_per_image)
        losses = losses * weights / weights.sum().clamp(min=1)
        terms = {"known": losses.masked_fill(unknown, 0).sum()}
        if config.unknown != "ignore":
            terms["unknown"] = losses.masked_fill(~unknown, 0).sum()
        return sum_of_terms(terms, logits=logits)
