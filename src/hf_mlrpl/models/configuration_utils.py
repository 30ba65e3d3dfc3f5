"""The settings that all models share."""

from typing import TYPE_CHECKING, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@strict
class MultiLabelConfig(PreTrainedConfig):
    """Base of all model configs; everything that inference needs.

    backbone: name of a timm model that gives a feature map.
    image_size: side of a square image, or [height, width], in pixels.
    resize: how an image gets that size, in evaluation and at inference: "stretch" ignores its proportions, "crop" cuts
        out the centre (SCPNet), and attention maps are of that part.
    output_stride: pixels per feature-map cell, where the backbone can dilate (ResNets: 8, 16, 32); `None` is its own.
    feature_pool: side of the average pooling behind the backbone; the published SSGRL and SST pool 2x2.
    trainable_backbone: parts of the backbone that are trained; the others are frozen with their batch norms. `None`
        trains all. The published methods train "layer4" ("all but the first 91 layers").
    image_mean, image_std: normalisation of pixels in [0, 1], per channel.
    thresholds: score from which a label counts as present: one number, or one per label.
    """

    if TYPE_CHECKING:  # never `None` here
        num_labels: int
        id2label: dict[int, str]
        label2id: dict[str, int]

    keys_to_ignore_at_inference = ["representations", "attention_maps"]

    backbone: str = "resnet101.tv_in1k"
    image_size: int | list[int] | tuple[int, ...] = 448
    resize: Literal["stretch", "crop"] = "stretch"
    output_stride: int | None = None
    feature_pool: int = 1
    trainable_backbone: list[str] | tuple[str, ...] | None = None
    image_mean: list[float] | tuple[float, ...] = IMAGENET_MEAN
    image_std: list[float] | tuple[float, ...] = IMAGENET_STD
    thresholds: float | int | list[float] | tuple[float, ...] = 0.5

    def __post_init__(self, **kwargs):
        kwargs.setdefault("problem_type", "multi_label_classification")
        super().__post_init__(**kwargs)

    @property
    def height_and_width(self) -> tuple[int, int]:
        """`image_size` as `(height, width)`."""
        if isinstance(self.image_size, int):
            return self.image_size, self.image_size
        height, width = self.image_size
        return height, width

    @property
    def label_names(self) -> list[str]:
        """Names in the order of the logits."""
        return [self.id2label[i] for i in range(self.num_labels)]

    def validate_image_size(self):
        sizes = [self.image_size] * 2 if isinstance(self.image_size, int) else self.image_size
        if len(sizes) != 2 or min(sizes) < 1:
            raise ValueError(f"`image_size` must be a side or [height, width] in pixels, got {self.image_size}.")
