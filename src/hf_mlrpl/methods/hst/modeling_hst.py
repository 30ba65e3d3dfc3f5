import torch
from torch import nn
from transformers import initialization as init

from ..sst.modeling_sst import SstForMultiLabelClassification
from .configuration_hst import HstConfig


class LearnedThresholds(nn.Module):
    """The evidence from which an unknown label counts as present; scalars, which gradients move.

    Training only: inference never looks at them. They stay among the parameters with weight decay, which alone moves
    them away from 1.

    Attributes:
        intra: for evidence from the known labels of the same image.
        cross: for evidence from the prototypes of the label.
    """

    def __init__(self, initial_value: float):
        super().__init__()
        self.initial_value = initial_value
        self.intra = nn.Parameter(torch.empty(()))
        self.cross = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for threshold in (self.intra, self.cross):
            init.constant_(threshold, self.initial_value)


class HstForMultiLabelClassification(SstForMultiLabelClassification):
    """SST with two learned thresholds; at inference it is SSGRL."""

    config_class = HstConfig
    config: HstConfig

    def __init__(self, config: HstConfig):
        super().__init__(config)
        self.thresholds = LearnedThresholds(config.initial_threshold)
        self.post_init()
