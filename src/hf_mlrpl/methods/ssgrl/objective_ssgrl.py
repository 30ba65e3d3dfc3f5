from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...losses import Reduction, partial_bce
from ...models.modeling_utils import MultiLabelPreTrainedModel
from ...objective import Objective, ObjectiveOutput, logits_of, sum_of_terms
from ...schedules import Progress


@dataclass(frozen=True, kw_only=True)
class SsgrlObjectiveConfig:
    """Settings of SSGRL's loss.

    reduction: how partial BCE is averaged, see `hf_mlrpl.losses.partial_bce`.
    """

    reduction: Reduction = "micro"

    needs_negatives: ClassVar[bool] = True


class SsgrlObjective(Objective):
    """Partial BCE over the known labels (SST Eq. 9): SSGRL as the baseline of the partial-label tables."""

    config_class = SsgrlObjectiveConfig

    def reached_beside_logits(self) -> tuple[str, ...]:
        return ()

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        logits = logits_of(model, batch["pixel_values"])  # (B, C)
        loss = partial_bce(logits, batch["labels"], self.config.reduction)
        return sum_of_terms({"known": loss}, logits=logits)
