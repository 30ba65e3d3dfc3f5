from typing import ClassVar

from huggingface_hub.dataclasses import strict

from ...clip.configuration_clip import ClipConfig
from ...ranges import number


@strict
class ClipLinearConfig(ClipConfig):
    """The frozen image tower of CLIP, and two linear classifiers for each label.

    backbone: a CLIP ResNet, for the regions are the places of its attention pool.
    scale: factor of what the classifiers say.
    include_mean_token: the mean of the image counts as one more region, as in DualCoOp's code.
    shared_weights: the regions of both classifiers are weighed by the positive one, as in DualCoOp; in the authors'
        code each weighs its own.
    """

    model_type = "mlrpl-clip-linear"

    has_text_tower: ClassVar[bool] = False
    needs_regions: ClassVar[bool] = True

    backbone: str = "resnet101_clip"
    image_size: int | list[int] | tuple[int, ...] = 448
    trainable_backbone: list[str] | tuple[str, ...] | None = ()
    scale: float | int = number("(0, 1e4]", 5.0)
    include_mean_token: bool = True
    shared_weights: bool = False
