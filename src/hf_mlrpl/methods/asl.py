"""Asymmetric Loss For Multi-Label Classification (Ridnik et al., ICCV 2021), https://arxiv.org/abs/2009.14119."""

from dataclasses import dataclass

from torch import Tensor

from ..labels import POSITIVE
from ..losses import Unknown, asymmetric_loss, unknown_weights
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import Objective, ObjectiveOutput, logits_of, sum_of_terms
from ..ranges import number
from ..schedules import Progress


@dataclass(frozen=True, kw_only=True)
class AslObjectiveConfig:
    """Settings of the asymmetric loss.

    gamma_positive, gamma_negative: exponents of the focusing factors of present and absent labels.
    clip: probabilities of absent labels are lowered by it, not below 0.
    unknown: unknown labels count as absent ("negative"), or are left out ("ignore"), or count as absent but for those
        that are likely to be present ("select", see `hf_mlrpl.losses.unknown_weights`).
    likely_per_image: with "select", this many unknown labels per image are left out, on average over a batch.
    detach_focus: no gradient through the focusing factors, as in the authors' training.
    """

    gamma_positive: float = number("[0, 100]", 0.0)  # authors' script for COCO
    gamma_negative: float = number("[0, 100]", 4.0)
    clip: float = number("[0, 1)", 0.05)
    unknown: Unknown = "negative"
    likely_per_image: int = 5
    detach_focus: bool = True

    @property
    def needs_negatives(self) -> bool:
        return self.unknown == "ignore"


class AslObjective(Objective):
    """Asymmetric loss, a mean over images of the sum over labels."""

    config_class = AslObjectiveConfig
    config: AslObjectiveConfig

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        logits = logits_of(model, batch["pixel_values"])  # (B, C)
        config, labels = self.config, batch["labels"]
        losses = asymmetric_loss(
            logits,
            labels.eq(POSITIVE),
            gamma_positive=config.gamma_positive,
            gamma_negative=config.gamma_negative,
            clip=config.clip,
            detach_focus=config.detach_focus,
        )
        losses = losses * unknown_weights(logits, labels, config.unknown, likely_per_image=config.likely_per_image)
        return sum_of_terms({"asymmetric": losses.sum(dim=1).mean()}, logits=logits)
