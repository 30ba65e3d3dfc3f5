from typing import ClassVar

from huggingface_hub.dataclasses import strict

from ...clip.configuration_clip import ClipPromptConfig
from ...ranges import number


@strict
class DualCoOpConfig(ClipPromptConfig):
    """Frozen CLIP, and two learned contexts for each label.

    backbone: a CLIP ResNet, for the regions are the places of its attention pool.
    region_scale: factor of the cosines whose softmax weighs the regions.
    scale: factor of the cosines that gives the logits; 5 times `region_scale` in the authors' code.
    learn_scales: whether both factors are trained, from these values on, as in TaI-DPT's code of DualCoOp.
    include_mean_token: the mean of the image counts as one more region (authors' code, not in the paper).
    positional_embedding: whether regions know where they are; not in TaI-DPT's code.
    """

    model_type = "mlrpl-dualcoop"
    earlier_model_type = "dualcoop"

    needs_regions: ClassVar[bool] = True

    backbone: str = "resnet101_clip"
    image_size: int | list[int] | tuple[int, ...] = 448
    trainable_backbone: list[str] | tuple[str, ...] | None = ()
    num_context: int = 16
    context_per_label: bool = True
    region_scale: float | int = number("(0, 1e4]", 20.0)
    scale: float | int = number("(0, 1e4]", 100.0)
    learn_scales: bool = False
    include_mean_token: bool = True
    positional_embedding: bool = True
