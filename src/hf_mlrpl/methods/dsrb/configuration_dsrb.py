from huggingface_hub.dataclasses import strict

from ..sarb.configuration_sarb import SarbConfig


@strict
class DsrbConfig(SarbConfig):
    """SARB."""

    model_type = "mlrpl-dsrb"
    earlier_model_type = ""
