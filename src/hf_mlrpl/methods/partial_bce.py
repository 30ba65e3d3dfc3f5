"""Learning a Deep ConvNet for Multi-label Classification with Partial Labels (Durand et al., CVPR 2019)."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..losses import normalized_partial_bce
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import Objective, ObjectiveOutput, logits_of, sum_of_terms
from ..schedules import Progress


@dataclass(frozen=True, kw_only=True)
class PartialBceObjectiveConfig:
    """Settings of partial BCE: the weight of an image by its known proportion, and the mean.

    alpha, beta, gamma: of the weight `g(p) = alpha * p^gamma + beta` of an image with the known proportion p.
    proportion: one p for all images; by default that of each image.
    denominator: the loss of an image is divided by the number of "labels" (the paper) or of "known" ones.
    """

    alpha: float = -4.45  # g(0.1) = 5, g(1) = 1
    beta: float = 5.45
    gamma: float = 1.0
    proportion: float | None = None
    denominator: Literal["labels", "known"] = "labels"

    def __post_init__(self):
        if self.proportion is not None and not 0 < self.proportion <= 1:
            raise ValueError(f"`proportion` must lie in (0, 1], got {self.proportion}. Ten percent is 0.1.")


class PartialBceObjective(Objective):
    """BCE over the known labels of each image, weighted by their proportion."""

    config_class = PartialBceObjectiveConfig

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
