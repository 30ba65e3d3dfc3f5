"""Temperatures over distances, as figure 2 of the paper of Soft Exposure shows them."""

from typing import TYPE_CHECKING, Any

import torch

from ...visualization.figures import plot_curves
from .objective_soft_exposure import SoftExposureObjective
from .temperatures import signed_temperatures

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def temperatures(objective: SoftExposureObjective, **others: Any) -> "Figure":
    """Where what is known to be present is nearer, and where what is known to be absent is."""
    config = objective.config
    distance, far = torch.linspace(0, 1, 101), torch.full((101,), torch.inf)
    lines = {}
    for nearer, near in (("present", (distance, far)), ("absent", (far, distance))):
        values = signed_temperatures(*near, config.beta, config.gamma, config.temperature_fn)
        lines[f"{nearer} is nearer"] = list(zip(distance.tolist(), values.tolist(), strict=True))
    number = f"temperature, beta {config.beta:g}, gamma {config.gamma:g}"
    return plot_curves({number: lines}, "distance, over the largest one", y_scale="symlog")
