from huggingface_hub.dataclasses import strict

from ...ranges import number
from ..dualcoop.configuration_dualcoop import DualCoOpConfig


@strict
class PositiveCoOpConfig(DualCoOpConfig):
    """Frozen CLIP, a learned context for each label, and a free vector in the place of its negative prompt.

    residual_std: standard deviation of what is drawn for a further free vector, which is added to the text feature;
        `None` is without (the paper), 1 is the authors' code.
    """

    model_type = "mlrpl-positivecoop"
    earlier_model_type = ""

    residual_std: float | int | None = number("[0, 1e3]", None)


@strict
class NegativeCoOpConfig(PositiveCoOpConfig):
    """PositiveCoOp with the two sides exchanged: the free vector is in the place of the positive prompt."""

    model_type = "mlrpl-negativecoop"
