import string
from collections.abc import Sequence
from typing import Literal

from huggingface_hub.dataclasses import strict

from ...clip.configuration_clip import ClipPromptConfig
from ...ranges import number


@strict
class ZeroShotClipConfig(ClipPromptConfig):
    """CLIP as it is, and the texts that it is asked with.

    templates: texts with one "{}" for the name of a label; of several, the mean of their vectors counts.
    initial_scale: factor of the cosines, the inverse of CLIP's temperature.
    initial_bias: what is added to them: with -20, a cosine of 0.2 has the score 0.5. Neither changes how the images
        of a label are ranked, so mAP is the same with any.
    dense_weight: share of the best regions in a score, beside the vector of the whole image; ResNets only. 0 is CLIP,
        0.5 is the "CLIP-DPT" of TaI-DPT.
    """

    model_type = "mlrpl-zero-shot-clip"
    earlier_model_type = ""

    resize: Literal["stretch", "crop"] = "crop"
    trainable_backbone: list[str] | tuple[str, ...] | None = ()
    num_context: int = 0
    templates: list[str] | tuple[str, ...] = ("a photo of a {}.",)
    initial_scale: float | int = number("(0, 1e4]", 100.0)
    initial_bias: float | int = number("[-1e4, 1e4]", -20.0)
    dense_weight: float | int = number("[0, 1]", 0.0)

    def validate_texts(self):
        check_templates(self.templates)
        if self.num_context or self.context_per_label or self.context_words is not None:
            raise ValueError(
                "Zero-shot CLIP learns no context: leave out `num_context`, `context_words` and `context_per_label`, "
                "and put words into `templates`."
            )

    def validate_regions(self):
        if self.dense_weight and not self.is_resnet:
            raise ValueError(f"`dense_weight` needs a CLIP ResNet, which has regions, got {self.backbone!r}.")


def check_templates(templates: Sequence[str]) -> None:
    """Raise `ValueError` unless `templates` are texts with one place each for the name of a label."""
    if not templates:
        raise ValueError('`templates` must have at least one text, such as "a photo of a {}.".')
    for template in templates:
        try:
            fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
        except ValueError:
            fields = []
        if fields != [""]:
            raise ValueError(f"Each of `templates` must have one {{}} for the name of a label, got {template!r}.")
