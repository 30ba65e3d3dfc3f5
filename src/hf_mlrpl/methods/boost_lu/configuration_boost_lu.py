from typing import Literal

from huggingface_hub.dataclasses import strict

from ...models.baseline.configuration_baseline import BaselineConfig
from ...ranges import number


@strict
class BoostLuConfig(BaselineConfig):
    """The baseline, which scores every position of the feature map before it takes their mean.

    boost: positive scores of positions are multiplied by it, `alpha`; with 1 the network is the baseline.
    boost_in: training and evaluation ("both", authors' code), or "evaluation" alone, of a model that was trained like
        the baseline.
    """

    model_type = "mlrpl-boost-lu"
    earlier_model_type = ""

    boost: float = number("(0, 1e3]", 5.0)
    boost_in: Literal["both", "evaluation"] = "both"
