from huggingface_hub.dataclasses import strict

from ...ranges import number
from ..sst.configuration_sst import SstConfig


@strict
class HstConfig(SstConfig):
    """SST, and the two thresholds that training learns.

    initial_threshold: what both thresholds are before training. At 1 nothing is completed, and only weight decay
        lowers them: the losses reach a threshold once some evidence exceeds it.
    """

    model_type = "mlrpl-hst"
    earlier_model_type = ""

    initial_threshold: float = number("[0, 1]", 1.0)
