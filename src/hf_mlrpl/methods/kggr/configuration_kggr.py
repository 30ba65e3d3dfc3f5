from typing import Literal

from huggingface_hub.dataclasses import strict

from ..ssgrl.configuration_ssgrl import SsgrlConfig


@strict
class KggrConfig(SsgrlConfig):
    """Settings of SSGRL, and of the second graph network.

    classifier_form: the logit is the product of a label's vector with its "refined" weights, or also with the weights
        that they came from ("product", the only public code, which is not by the authors).
    """

    model_type = "mlrpl-kggr"
    earlier_model_type = ""

    classifier_form: Literal["refined", "product"] = "refined"
