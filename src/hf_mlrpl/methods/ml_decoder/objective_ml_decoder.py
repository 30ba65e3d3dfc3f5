from dataclasses import dataclass

from ...losses import Unknown
from ..asymmetric_objective import AsymmetricObjective, AsymmetricObjectiveConfig


@dataclass(frozen=True, kw_only=True)
class MlDecoderObjectiveConfig(AsymmetricObjectiveConfig):
    """Settings of the asymmetric loss, those of the authors' script for COCO; unknown labels are left out."""

    unknown: Unknown = "ignore"


class MlDecoderObjective(AsymmetricObjective):
    """Asymmetric loss over the known labels, as ASL has it over all."""

    config_class = MlDecoderObjectiveConfig
