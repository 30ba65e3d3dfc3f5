from huggingface_hub.dataclasses import strict

from ...ranges import number
from ..ssgrl.configuration_ssgrl import SsgrlConfig


@strict
class SarbConfig(SsgrlConfig):
    """SSGRL, and the two coefficients that training blends with.

    initial_alpha, initial_beta: share of an image's own representation when it is blended with that of another image,
        and with a prototype, before training; in [0, 1].
    train_alpha, train_beta: whether the coefficients are learned, or keep their first values (rows "fixed alpha" and
        "fixed beta").
    """

    model_type = "mlrpl-sarb"
    earlier_model_type = "sarb"

    initial_alpha: float = number("[0, 1]", 0.5)
    initial_beta: float = number("[0, 1]", 0.5)
    train_alpha: bool = True
    train_beta: bool = True
