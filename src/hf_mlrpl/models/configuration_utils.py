"""The settings that all models share."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ..data.files import read_json
from ..ranges import check_ranges, number
from ..settings import check_keys, field_types, shown

TAGGING_TASK = "image-tagging"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class _InstalledTasks(dict[str, dict]):
    """Tasks that `pipeline` infers from a config, and that it looks up with `in` among those whose code lies in the
    repository: they do not, they are registered."""

    def __contains__(self, task: object) -> bool:
        return False


def _check_names(id2label: Any, label2id: Any) -> None:
    """Raise `ValueError` unless `id2label` maps 0, 1, 2, ... to different names, and `label2id` these back."""
    if id2label is None:
        return
    numbers = [str(number) for number in id2label] if isinstance(id2label, Mapping) else ["?"]
    if sorted(numbers) != sorted(map(str, range(len(numbers)))):
        raise ValueError(
            f"`id2label` must map 0, 1, 2, ... to the names of the labels, without gaps, got {shown(id2label)}."
        )
    names = list(id2label.values())
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(f"`id2label` must name every label with a text, got {shown(id2label)}.")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"`id2label` names {shown(twice[0])} twice; every label needs a name of its own.")
    numbered = {name: str(number) for number, name in id2label.items()}
    back = {name: str(i) for name, i in label2id.items()} if isinstance(label2id, Mapping) else label2id
    if back not in (None, numbered):
        raise ValueError(
            f"`label2id` must map the names of `id2label` back to their numbers, got {shown(label2id)} for "
            f"{shown(id2label)}. Leave `label2id` out if `id2label` is right."
        )


@strict
class MultiLabelConfig(PreTrainedConfig):
    """Base of all model configs; everything that inference needs.

    backbone: name of a timm model that gives a feature map.
    image_size: side of a square image, or [height, width], in pixels.
    resize: how an image gets that size, in evaluation and at inference: "stretch" ignores its proportions, "crop" cuts
        out the centre (SCPNet), and attention maps are of that part.
    resize_to: with "stretch", the side in pixels to which an image is brought first; the centre of `image_size` is cut
        out of it. SSGRL (ICCV 2019): 640, and 576.
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
    earlier_model_type: ClassVar[str] = ""  # what `model_type` was in the first version

    backbone: str = "resnet101.tv_in1k"
    image_size: int | list[int] | tuple[int, ...] = number("[2, 8192]", 448)  # torch cannot resize to one pixel
    resize: Literal["stretch", "crop"] = "stretch"
    resize_to: int | None = number("[1, 8192]", None)
    output_stride: int | None = number("[1, 1024]", None)
    feature_pool: int = number("[1, 1024]", 1)
    trainable_backbone: list[str] | tuple[str, ...] | None = None
    image_mean: list[float] | tuple[float, ...] = number("[-1e3, 1e3]", IMAGENET_MEAN)
    image_std: list[float] | tuple[float, ...] = number("(0, 1e3]", IMAGENET_STD)
    thresholds: float | int | list[float] | tuple[float, ...] = number("[0, 1]", 0.5)

    def __post_init__(self, **kwargs):
        for key in ("auto_map", "custom_pipelines"):  # the way to this class, for those who have not imported it
            kwargs.pop(key, None)
        _check_names(self.id2label, self.label2id)
        kwargs.setdefault("problem_type", "multi_label_classification")
        super().__post_init__(**kwargs)

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        content, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if cls.earlier_model_type and content.get("model_type") == cls.earlier_model_type:
            content["model_type"] = cls.model_type
        return content, kwargs

    @classmethod
    def _dict_from_json_file(cls, json_file):
        read_json(Path(json_file))  # transformers takes the last of repeated keys
        return super()._dict_from_json_file(json_file)

    @classmethod
    def register_for_auto_class(cls, auto_class="AutoConfig"):
        """Nothing: where the code of a repository imports this class, a later save must not copy its modules."""

    @property
    def custom_pipelines(self) -> dict[str, dict]:
        """The task of `transformers.pipeline(model=...)` when none is named."""
        return _InstalledTasks({TAGGING_TASK: {}})

    @classmethod
    def own_settings(cls) -> dict[str, Any]:
        """Settings without those of transformers, by name, with their types."""
        inherited = field_types(PreTrainedConfig)
        return {name: kind for name, kind in field_types(cls).items() if name not in inherited}

    @classmethod
    def for_labels(cls, names: Sequence[str], **settings: Any) -> Self:
        """A config for the labels `names`, in their order.

        Args:
            settings: some of `own_settings`; the constructor would keep a misspelt one without a word.
        """
        check_keys(settings, cls.own_settings(), cls.__name__)
        return cls(**settings, id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)})

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

    def label_vector_dim(self) -> int:
        """Length of the vector that a network gives each label of its own, for objectives that compare these.

        Raises:
            ValueError: where labels share vectors.
        """
        raise ValueError(
            f"The objective compares vectors of labels, and a network of the type {self.model_type} gives labels none "
            "of their own. Take another one as `model.name`, such as query2label or ssgrl."
        )

    def validate_ranges(self):
        """Every number lies in the range of its field."""
        check_ranges(type(self), {name: getattr(self, name) for name in self.own_settings()})

    def validate_image_size(self):
        if not isinstance(self.image_size, int) and len(self.image_size) != 2:
            raise ValueError(f"`image_size` must be a side or [height, width] in pixels, got {self.image_size}.")
        side = max(self.height_and_width)
        if self.resize_to is not None and (self.resize != "stretch" or self.resize_to < side):
            raise ValueError(
                f"`resize_to` must be at least `image_size`, {side}, which is cut out of it, and goes with `resize: "
                f"stretch`; got {self.resize_to} and {self.resize}."
            )

    def validate_thresholds(self):
        if not isinstance(self.thresholds, int | float) and self.num_labels not in (0, len(self.thresholds)):
            raise ValueError(
                f"`thresholds` must be one number, or one for each of the {self.num_labels} labels, got "
                f"{len(self.thresholds)}."
            )

    def validate_channels(self):
        for name in ("image_mean", "image_std"):
            if len(getattr(self, name)) != 3:
                raise ValueError(
                    f"`{name}` must be three numbers, one for each channel, got {list(getattr(self, name))}."
                )
