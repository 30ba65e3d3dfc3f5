"""Simple and Robust Loss Design for Multi-Label Learning with Missing Labels (Zhang et al., 2021), the Hill loss.

https://arxiv.org/abs/2112.07368
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..labels import NEGATIVE, POSITIVE
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import Objective, ObjectiveOutput, logits_of, sum_of_terms
from ..ranges import number
from ..schedules import Progress


@dataclass(frozen=True, kw_only=True)
class HillObjectiveConfig:
    """Settings of Hill.

    peak: `lambda` of the loss `(lambda - p) p^2` of absent labels; at 1.5 its slope is 0 for p = 1.
    margin, gamma: shift of the logit, and exponent of the focusing factor, of present labels.
    known_negatives: labels that are known to be absent have the "hill" loss, as unknown ones, or "bce".
    """

    peak: float = number("[1, 1e6]", 1.5)  # authors' code
    margin: float = number("[-100, 100]", 1.0)
    gamma: float = number("[0, 100]", 2.0)
    known_negatives: Literal["hill", "bce"] = "hill"


def hill_loss(logits: Tensor, positive: Tensor, peak: float = 1.5, margin: float = 1.0, gamma: float = 2.0) -> Tensor:
    """Hill loss of every entry; what is not positive is absent, or missing and then likely to have a high score.

    Args:
        positive: booleans of the shape of `logits`.
    """
    shifted = logits - margin
    # (1 - sigmoid(shifted)) ** gamma, whose gradient is finite for every exponent
    focus = (-gamma * F.softplus(shifted)).exp()
    p = logits.sigmoid()
    return torch.where(positive, focus * F.softplus(-shifted), (peak - p) * p.square())


class HillObjective(Objective):
    """Hill loss, a mean over images of the sum over labels."""

    config_class = HillObjectiveConfig
    config: HillObjectiveConfig

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        logits = logits_of(model, batch["pixel_values"])  # (B, C)
        config, labels = self.config, batch["labels"]
        losses = hill_loss(logits, labels.eq(POSITIVE), config.peak, config.margin, config.gamma)
        if config.known_negatives == "bce":
            losses = torch.where(labels.eq(NEGATIVE), F.softplus(logits), losses)
        return sum_of_terms({"hill": losses.sum(dim=1).mean()}, logits=logits)
