"""Boosting Single Positive Multi-label Classification with Generalized Robust Loss (Chen et al., IJCAI 2024).

https://arxiv.org/abs/2405.03501
"""

from dataclasses import dataclass

from torch import Tensor

from ..labels import UNKNOWN
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import Objective, ObjectiveOutput, logits_of, sum_of_terms
from ..schedules import Progress
from .robust_risk import RobustRiskConfig, gr_losses


@dataclass(frozen=True, kw_only=True)
class GrObjectiveConfig(RobustRiskConfig):
    """Settings of GR: those of the risk of unknown labels."""


class GrObjective(Objective):
    """Cross-entropy of known labels, and a robust risk of unknown ones that follows what the model says of them."""

    config_class = GrObjectiveConfig
    config: GrObjectiveConfig

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        logits = logits_of(model, batch["pixel_values"])  # (B, C)
        unknown, belief = batch["labels"].eq(UNKNOWN), self.config.belief(progress)
        losses = gr_losses(logits, batch["labels"], belief, self.config)
        terms = {"known": losses.masked_fill(unknown, 0).mean(), "unknown": losses.masked_fill(~unknown, 0).mean()}
        return sum_of_terms(terms, logits=logits, logs=vars(belief))
