"""Sizes of the CLIP towers: those of OpenAI's published models by name, and any others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from huggingface_hub.dataclasses import strict

from ..models.configuration_utils import MultiLabelConfig
from ..ranges import number
from ..settings import did_you_mean, shown

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
ACTIVATIONS = ("quick_gelu", "gelu")
HEAD_DIM = 64  # channels of an attention head, in every tower that OpenAI published


@dataclass(frozen=True)
class ClipSizes:
    """Sizes of a published model.

    vision, text: those of its towers, see `ClipConfig`.
    embed_dim: length of the vectors that both towers give.
    hub_name: where its weights are on the Hub.
    """

    vision: dict[str, Any]
    text: dict[str, Any]
    embed_dim: int
    hub_name: str

    def are_those_of(self, config: "ClipConfig") -> bool:
        return (self.vision, self.text, self.embed_dim) == (config.vision_sizes, config.text_sizes, config.embed_dim)


def _resnet(layers: tuple[int, ...], width: int, embed_dim: int, text_width: int, name: str) -> ClipSizes:
    return ClipSizes({"layers": list(layers), "width": width}, _text(text_width), embed_dim, f"timm/{name}.openai")


def _vit(layers: int, width: int, patch_size: int, text_width: int, name: str) -> ClipSizes:
    vision = {"layers": layers, "width": width, "patch_size": patch_size, "heads": width // HEAD_DIM}
    return ClipSizes(vision, _text(text_width), text_width, f"openai/{name}")


def _text(width: int) -> dict[str, int]:
    return {"layers": 12, "width": width, "vocab_size": 49408, "context_length": 77, "heads": width // HEAD_DIM}


PUBLISHED: dict[str, ClipSizes] = {
    "resnet50_clip": _resnet((3, 4, 6, 3), 64, 1024, 512, "resnet50_clip"),
    "resnet101_clip": _resnet((3, 4, 23, 3), 64, 512, 512, "resnet101_clip"),
    "resnet50x4_clip": _resnet((4, 6, 10, 6), 80, 640, 640, "resnet50x4_clip"),
    "resnet50x16_clip": _resnet((6, 8, 18, 8), 96, 768, 768, "resnet50x16_clip"),
    "resnet50x64_clip": _resnet((3, 15, 36, 10), 128, 1024, 1024, "resnet50x64_clip"),
    "vit_base_patch32_clip": _vit(12, 768, 32, 512, "clip-vit-base-patch32"),
    "vit_base_patch16_clip": _vit(12, 768, 16, 512, "clip-vit-base-patch16"),
    "vit_large_patch14_clip": _vit(24, 1024, 14, 768, "clip-vit-large-patch14"),
}
RESNET, VIT = "resnet_clip", "vit_clip"  # towers of other sizes, which a config then gives in full
BACKBONES = (*PUBLISHED, RESNET, VIT)

MAX_SIZE = 1_000_000  # of a tower
_VISION_KEYS = {RESNET: ("layers", "width"), VIT: ("layers", "width", "patch_size", "heads")}
_TEXT_KEYS = ("layers", "width", "vocab_size", "context_length", "heads")


@strict
class ClipConfig(MultiLabelConfig):
    """Settings of the two CLIP towers; base of the configs of all models that have them.

    backbone: one of OpenAI's published image towers ("resnet50_clip", "vit_base_patch16_clip", ...), which sets all
        sizes; or "resnet_clip" or "vit_clip", whose sizes are given here.
    vision_sizes: of a ResNet `layers` (blocks of its four stages) and `width`; of a ViT `layers`, `width`,
        `patch_size` and `heads`. What is left out is that of `backbone`; heads have 64 channels.
    text_sizes: `layers`, `width`, `vocab_size`, `context_length` and `heads`, in the same way.
    embed_dim: length of the vectors that both towers give.
    hidden_act: activation of the transformers; "quick_gelu" in OpenAI's weights, "gelu" in most of open_clip's own.
    image_size: a multiple of 32 for ResNets and of the patch for ViTs, which need squares. Weights for another size
        are brought to this one while they are loaded.
    trainable_backbone: as everywhere; the parts are `stem`, `layer1` to `layer4` and `head` in a ResNet.
    trainable_text_encoder: whether the text tower is trained, too; the published methods freeze it.
    """

    model_type = "mlrpl-clip"

    has_text_tower: ClassVar[bool] = True
    needs_regions: ClassVar[bool] = False  # which ResNets alone have

    if TYPE_CHECKING:  # never `None` once it is made
        vision_sizes: dict[str, Any] = {}
        text_sizes: dict[str, Any] = {}
        embed_dim: int = 0
    else:
        vision_sizes: dict[str, Any] | None = None
        text_sizes: dict[str, Any] | None = None
        embed_dim: int | None = number("[1, 65536]", None)

    backbone: str = "resnet50_clip"
    hidden_act: str = "quick_gelu"
    image_size: int | list[int] | tuple[int, ...] = 224
    image_mean: list[float] | tuple[float, ...] = CLIP_MEAN
    image_std: list[float] | tuple[float, ...] = CLIP_STD
    trainable_text_encoder: bool = False

    def __post_init__(self, **kwargs):
        """Write out all sizes, so that a saved config is complete."""
        if self.backbone not in BACKBONES:
            hint = did_you_mean(self.backbone.partition(".")[0], BACKBONES)
            raise ValueError(f"`backbone` must name a CLIP image tower, got {self.backbone!r}. {hint}")
        published = PUBLISHED.get(self.backbone)
        vision, text = (published.vision, published.text) if published else ({}, {})
        vision_keys = _VISION_KEYS[RESNET if self.is_resnet else VIT]
        self.vision_sizes = _complete("vision_sizes", self.vision_sizes, vision, vision_keys, self.backbone)
        self.text_sizes = self.text_sizes or {}
        if self.has_text_tower:
            self.text_sizes = _complete("text_sizes", self.text_sizes, text, _TEXT_KEYS, self.backbone)
        if self.embed_dim is None:
            if published is None:
                raise ValueError(f"The backbone {self.backbone!r} needs `embed_dim`, for it names no sizes.")
            self.embed_dim = published.embed_dim
        super().__post_init__(**kwargs)

    @property
    def is_resnet(self) -> bool:
        """Whether the image tower is a ResNet; otherwise it is a ViT."""
        return self.backbone.startswith("resnet")

    @property
    def stride(self) -> int:
        """Pixels per position of the image tower."""
        return 32 if self.is_resnet else self.vision_sizes["patch_size"]

    @property
    def grid(self) -> tuple[int, int]:
        """Positions of the image tower, `(height, width)`."""
        height, width = self.height_and_width
        return height // self.stride, width // self.stride

    def validate_backbone(self):
        if self.needs_regions and not self.is_resnet:
            raise ValueError(f"`backbone` must be a CLIP ResNet, which has regions, got {self.backbone!r}.")

    def validate_text_tower(self):
        if not self.has_text_tower and (self.text_sizes or self.trainable_text_encoder):
            raise ValueError("This model has no text tower: leave out `text_sizes` and `trainable_text_encoder`.")

    def validate_towers(self):
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"`hidden_act` must be one of {', '.join(ACTIVATIONS)}, got {self.hidden_act!r}.")
        for name in ("vision_sizes", "text_sizes"):
            sizes = getattr(self, name)
            if "heads" in sizes and sizes["width"] % sizes["heads"]:
                raise ValueError(
                    f"`{name}`: a width of {sizes['width']} cannot be shared by {sizes['heads']} heads. Give a "
                    f"multiple, such as {HEAD_DIM * sizes['heads']}."
                )
        if self.is_resnet and self.vision_sizes["width"] % 2:
            raise ValueError(f"`vision_sizes`: a ResNet needs an even `width`, got {self.vision_sizes['width']}.")
        if self.output_stride is not None or self.feature_pool != 1:
            raise ValueError(
                "CLIP towers have no `output_stride` and no `feature_pool`; leave both out. A larger `image_size` "
                "gives a finer feature map."
            )

    def validate_image_size_of_towers(self):
        height, width = self.height_and_width
        if height % self.stride or width % self.stride:
            raise ValueError(
                f"`image_size` must be a multiple of {self.stride} with the backbone {self.backbone!r}, got "
                f"{self.image_size}."
            )
        if not self.is_resnet and height != width:
            raise ValueError(f"A ViT needs square images: `image_size` must be a side, got {self.image_size}.")


@strict
class ClipPromptConfig(ClipConfig):
    """Base of the configs of models that know their labels by prompts, "<learned context> traffic light.".

    num_context: tokens of the learned context.
    context_words: words that it starts from, of just so many tokens; `None` draws it from N(0, 0.02).
    context_per_label: whether each label learns a context of its own; then it cannot be asked about other labels.
    """

    num_context: int = 16
    context_words: str | None = None
    context_per_label: bool = False

    def validate_context(self):
        most = self.text_sizes["context_length"] - 4  # start, one word, period, end
        if not 0 <= self.num_context <= most:
            raise ValueError(f"`num_context` must lie in [0, {most}] with this text tower, got {self.num_context}.")


def _complete(
    field: str, given: dict[str, Any] | None, published: Mapping[str, Any], keys: tuple[str, ...], backbone: str
) -> dict[str, Any]:
    """`given` with what it lacks, in the order of `keys`."""
    given = given or {}
    if unknown := sorted(set(given) - set(keys)):
        raise ValueError(f"`{field}` of the backbone {backbone!r} has no {unknown[0]!r}, only {', '.join(keys)}.")
    sizes = {**published, **given}
    for key, value in sizes.items():
        if key == "layers" and keys == _VISION_KEYS[RESNET]:
            if not (isinstance(value, list | tuple) and len(value) == 4 and all(map(_is_size, value))):
                raise ValueError(f"`{field}`: `layers` of a ResNet must be the blocks of its 4 stages, got {value!r}.")
        elif not _is_size(value):
            raise ValueError(f"`{field}`: `{key}` must be a whole number from 1 to {MAX_SIZE:,}, got {shown(value)}.")
    if "heads" in keys and "width" in given and "heads" not in given:
        sizes["heads"] = max(1, sizes["width"] // HEAD_DIM)
    if missing := [key for key in keys if key not in sizes]:
        raise ValueError(f"The backbone {backbone!r} names no sizes: `{field}` needs {', '.join(missing)}, too.")
    return {key: list(sizes[key]) if isinstance(sizes[key], tuple) else sizes[key] for key in keys}


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_SIZE
