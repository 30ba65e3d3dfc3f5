import math
from typing import ClassVar, Literal

from huggingface_hub.dataclasses import strict

from ...clip.configuration_clip import ClipPromptConfig
from ...ranges import number


@strict
class DualCoOpPpConfig(ClipPromptConfig):
    """Frozen CLIP, and three learned contexts for each label.

    backbone: a CLIP ResNet, for the regions are the places of its attention pool.
    region_scale: factor of the cosines whose softmax weighs the regions; with `learn_region_scale`, where it starts.
    scale: factor of the cosines that gives the logits.
    competition: how a label keeps a region in its positive logit, from its share `u` in a softmax over the labels:
        "normalized" is `u / max u`, "plain" is `u`, "added" is `1 + u`; with "none" labels do not compete.
    competition_scale: factor in this softmax of the cosine of a label, times the highest cosine in the region.
    competing_negatives: labels compete in their negative logit, too, with the lowest cosine in the region.
    competition_in_evaluation: labels compete in evaluation, too (the code), or in training alone (the paper).
    """

    model_type = "mlrpl-dualcoop-pp"

    needs_regions: ClassVar[bool] = True

    backbone: str = "resnet101_clip"
    image_size: int | list[int] | tuple[int, ...] = 448
    trainable_backbone: list[str] | tuple[str, ...] | None = ()
    num_context: int = 21
    context_per_label: bool = True
    region_scale: float | int = number("(0, 1e4]", math.exp(3))
    learn_region_scale: bool = True
    scale: float | int = number("(0, 1e4]", math.exp(3))
    competition: Literal["normalized", "plain", "added", "none"] = "normalized"
    competition_scale: float | int = number("[0, 1e4]", 200.0)
    competing_negatives: bool = False
    competition_in_evaluation: bool = True

    def validate_competition(self):
        if self.competing_negatives and self.competition == "none":
            raise ValueError(
                "`competing_negatives` needs labels that compete: choose a `competition` other than none."
            )
