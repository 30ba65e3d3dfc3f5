from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ...losses import Unknown
from ..asymmetric_objective import AsymmetricObjective, AsymmetricObjectiveConfig

SCALE = 1000  # authors' code


@dataclass(frozen=True, kw_only=True)
class Query2LabelObjectiveConfig(AsymmetricObjectiveConfig):
    """Settings of the asymmetric loss, those of the authors' command for COCO; unknown labels are left out.

    loss_scale: the mean over images of the "sum" over labels, as ASL has it, or 1000 times the mean over all entries
        ("published", authors' code).
    """

    gamma_negative: float = 2.0
    clip: float = 0.0
    eps: float = 1e-5
    unknown: Unknown = "ignore"
    loss_scale: Literal["sum", "published"] = "sum"


class Query2LabelObjective(AsymmetricObjective):
    """Asymmetric loss over the known labels."""

    config_class = Query2LabelObjectiveConfig
    config: Query2LabelObjectiveConfig

    def reduce(self, losses: Tensor) -> Tensor:
        return SCALE * losses.mean() if self.config.loss_scale == "published" else super().reduce(losses)
