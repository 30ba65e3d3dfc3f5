"""Asymmetric Loss For Multi-Label Classification (Ridnik et al., ICCV 2021), https://arxiv.org/abs/2009.14119."""

from dataclasses import dataclass

from .asymmetric_objective import AsymmetricObjective, AsymmetricObjectiveConfig


@dataclass(frozen=True, kw_only=True)
class AslObjectiveConfig(AsymmetricObjectiveConfig):
    """Settings of the asymmetric loss, those of the authors' script for COCO."""


class AslObjective(AsymmetricObjective):
    """Asymmetric loss, a mean over images of the sum over labels."""

    config_class = AslObjectiveConfig
