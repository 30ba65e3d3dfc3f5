"""Learning a Deep ConvNet for Multi-label Classification with Partial Labels (Durand et al., CVPR 2019)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from ..losses import normalized_partial_bce
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import Objective, ObjectiveOutput, logits_of, sum_of_terms
from ..ranges import number
from ..schedules import Progress


@dataclass(frozen=True, kw_only=True)
class PartialBceObjectiveConfig:
    """Settings of partial BCE: the weight of an image by its known proportion, and the mean.

    alpha, beta, gamma: of the weight `g(p) = alpha * p^gamma + beta` of an image with the known proportion p.
    proportion: one p for all images; by default that of each image.
    denominator: the loss of an image is divided by the number of "labels" (the paper) or of "known" ones.
    """

    alpha: float = number("[-1e6, 1e6]", -4.45)  # g(0.1) = 5, g(1) = 1
    beta: float = number("[-1e6, 1e6]", 5.45)
    gamma: float = number("[-100, 100]", 1.0)
    proportion: float | None = number("(0, 1]", None)
    denominator: Literal["labels", "known"] = "labels"

    needs_negatives: ClassVar[bool] = True


class PartialBceObjective(Objective):
    """BCE over the known labels of each image, weighted by their proportion."""

    config_class = PartialBceObjectiveConfig

    def reached_beside_logits(self) -> tuple[str, ...]:
        return ()

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        logits = logits_of(model, batch["pixel_values"])
        config = self.config
        losses = normalized_partial_bce(
            logits,
            batch["labels"],
            alpha=config.alpha,
            beta=config.beta,
            gamma=config.gamma,
            proportion=config.proportion,
            denominator=config.denominator,
        )
        return sum_of_terms({"known": losses.mean()}, logits=logits)
