from typing import ClassVar, Literal

from huggingface_hub.dataclasses import strict

from ...clip.configuration_clip import ClipPromptConfig
from ...ranges import number


@strict
class TaiDptConfig(ClipPromptConfig):
    """Frozen CLIP, and two learned contexts: of prompts for whole images or captions, and of prompts for their parts.

    backbone: a CLIP ResNet, for the parts of an image are the places of its attention pool.
    image_sharpness, text_sharpness: factors of the cosines whose softmax weighs the places of an image, and the tokens
        of a caption. The authors have 4 for the images of NUS-WIDE.
    scale: factor of the cosines that gives the logits.
    local_weight: share of the parts in a logit, beside the whole; 0 is "TaI".
    positional_embedding: whether the places of an image, and what is pooled of them, know where they are. The
        authors leave it out.
    """

    model_type = "mlrpl-tai-dpt"

    needs_regions: ClassVar[bool] = True

    resize: Literal["stretch", "crop"] = "crop"
    trainable_backbone: list[str] | tuple[str, ...] | None = ()
    image_sharpness: float | int = number("(0, 1e4]", 40.0)
    text_sharpness: float | int = number("(0, 1e4]", 50.0)
    scale: float | int = number("(0, 1e4]", 4.0)
    local_weight: float | int = number("[0, 1]", 0.5)
    positional_embedding: bool = False
