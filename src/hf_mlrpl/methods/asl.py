"""Asymmetric Loss For Multi-Label Classification (Ridnik et al., ICCV 2021), https://arxiv.org/abs/2009.14119."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..losses import asymmetric_loss, at_least_float32
from ..modeling_utils import MultiLabelPreTrainedModel
from ..objective import Objective, ObjectiveOutput, sum_of_terms
from ..schedules import Progress


@dataclass(frozen=True, kw_only=True)
class AslObjectiveConfig:
    """
    gamma_positive, gamma_negative: exponents of the focusing factors of present and absent labels.
    clip: probabilities of absent labels are lowered by it, not below 0.
    unknown: an unknown label counts as "negative" or is "ignore"d.
    differentiate_focus: gradients flow through the focusing factors, too; not so in the authors' training.
    """

    gamma_positive: float = 0.0  # authors' script for COCO
    gamma_negative: float = 4.0
    clip: float = 0.05
    unknown: Literal["negative", "ignore"] = "negative"
    differentiate_focus: bool = False


class AslObjective(Objective):
    """Asymmetric loss, a mean over images of the sum over labels."""

    config_class = AslObjectiveConfig
    config: AslObjectiveConfig

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        representations, _ = model.represent(batch["pixel_values"])
        logits = at_least_float32(model.classify(representations))  # (B, C)
        config, labels = self.config, batch["labels"]
        losses = asymmetric_loss(
            logits,
            labels.eq(1),
            gamma_positive=config.gamma_positive,
            gamma_negative=config.gamma_negative,
            clip=config.clip,
            differentiate_focus=config.differentiate_focus,
        )
        if config.unknown == "ignore":
            losses = losses.masked_fill(labels.eq(0), 0)
        return sum_of_terms({"asymmetric": losses.sum(dim=1).mean()}, logits=logits)
