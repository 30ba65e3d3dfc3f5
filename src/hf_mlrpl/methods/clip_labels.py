"""What VLPL and GPR share: labels that CLIP gives to all training images, once and for good."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers.utils import logging

from ..clip.sources import read_clip
from ..data.images.torch_dataset import PIXELS
from ..data.images.training_images import TrainingImages
from ..data.images.views import View
from ..labels import UNKNOWN
from ..models.configuration_utils import MultiLabelConfig
from ..models.image_processing import evaluation_view
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..models.warm_start import find_tagger
from ..objective import CompletedLabels, Objective
from ..ranges import number
from ..schedules import Progress
from .zero_shot_clip.configuration_zero_shot_clip import ZeroShotClipConfig, check_templates
from .zero_shot_clip.modeling_zero_shot_clip import ZeroShotClipForMultiLabelClassification

logger = logging.get_logger(__name__)

_TOWERS = ("backbone", "vision_sizes", "text_sizes", "embed_dim", "hidden_act")
_PIXELS = ("image_size", "image_mean", "image_std")


@dataclass(frozen=True, kw_only=True)
class ClipLabelsConfig:
    """Settings of what CLIP is asked.

    clip: where CLIP comes from, see `hf_mlrpl.clip.sources.read_clip`; or a tagger of zero_shot_clip, by its folder or
        by its name on the Hub.
    templates: texts with one "{}" for the name of a label; of several, the mean of their vectors counts.
    clip_resize: how an image gets the size that CLIP wants: "crop" cuts out the centre, as CLIP does, "stretch"
        ignores its proportions (authors' code).
    temperature: of the softmax of the cosines over the labels, `T`.
    """

    clip: str
    templates: tuple[str, ...] = ("a photo of a {}.",)
    clip_resize: Literal["crop", "stretch"] = "crop"
    temperature: float = number("(0, 100]", 0.01)

    def __post_init__(self):
        check_templates(self.templates)


class ClipLabelsObjective(Objective):
    """Base of the objectives that remember what CLIP said of each training image.

    A subclass defines `label_images`, and `views` where it looks at more than the whole image.

    Attributes:
        pseudo_labels: `(num_images, num_labels)` int8 in {-1, 0, +1}; 0 for an image that could not be read.
        made: whether CLIP was asked. Then it is not needed again, even if the run is resumed elsewhere.
    """

    config: ClipLabelsConfig
    pseudo_labels: Tensor
    made: Tensor

    def __init__(self, config: ClipLabelsConfig, model_config: MultiLabelConfig):
        super().__init__(config, model_config)
        self.label_names = model_config.label_names
        if len(self.label_names) == 1:
            raise ValueError(
                f"CLIP's scores say which of the labels an image shows, and a single one, {self.label_names[0]!r}, "
                "always has the score 1. Have at least two labels, or take a method that asks no CLIP, such as `em`."
            )
        self.is_prepared = False
        self.register_buffer("made", torch.tensor(False))

    def prepare(self, images: TrainingImages) -> None:
        self.register_buffer("pseudo_labels", torch.zeros(images.labels.shape, dtype=torch.int8))

    def before_epoch(self, model: MultiLabelPreTrainedModel, images: TrainingImages, progress: Progress) -> None:
        """Ask CLIP about all images, in float32, if no run has done so yet."""
        if not self.is_prepared and not self.made:
            self.ask_clip(images)
        self.is_prepared = True

    @torch.no_grad()
    def ask_clip(self, images: TrainingImages) -> None:
        """Fill `pseudo_labels`."""
        clip: Any = zero_shot_clip(self.label_names, self.config)
        clip.to(self.made.device).eval()
        views = self.views(evaluation_view(clip.config))

        def label(batch: dict[str, Tensor]) -> Tensor:
            with torch.autocast(self.made.device.type, enabled=False):
                scores = [clip(batch[name]).logits.softmax(dim=1) for name in views]
            return self.label_images(torch.stack(scores, dim=1), batch["labels"])

        seen = images.in_views(views, clip.config.height_and_width, clip.normalize)
        for rows, labels in seen.map(label, "Labels from CLIP"):
            self.pseudo_labels[rows] = labels
        self.made.fill_(True)
        if not (count := int(self.pseudo_labels.count_nonzero())):
            logger.warning("CLIP is sure of no label: are `clip`, `templates`, `temperature` and `threshold` right?")
        logger.info("CLIP: labels of %d entries", count)

    def views(self, whole: View) -> dict[str, View]:
        """What CLIP sees of an image; the first view is called `pixel_values`.

        Args:
            whole: the view of the whole image.
        """
        return {PIXELS: whole}

    def label_images(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Pseudo-labels of images, `(batch_size, num_labels)` int8 in {-1, 0, +1}.

        Args:
            scores: of CLIP, `(batch_size, num_views, num_labels)`, those of a view add up to 1.
            labels: `(batch_size, num_labels)` in {-1, 0, +1}, the known ones.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `label_images`.")

    def pseudo_labels_of(self, batch: dict[str, Tensor]) -> Tensor:
        """Those of a batch, 0 where a label is known."""
        found = self.remembered("pseudo_labels")[batch["index"]]
        return found.masked_fill(batch["labels"].ne(UNKNOWN), UNKNOWN)

    def completed_labels(self, labels: Tensor) -> CompletedLabels | None:
        """The known labels and those of CLIP; `None` before it was asked."""
        if not self.made:
            return None
        return CompletedLabels(labels.where(labels.ne(UNKNOWN), self.pseudo_labels.to(labels)))


def terms_by_origin(losses: Tensor, labels: Tensor, pseudo_labels: Tensor) -> dict[str, Tensor]:
    """The mean of the losses of all entries as three terms: of known, of completed, and of undecided labels.

    Args:
        pseudo_labels: `(batch_size, num_labels)` in {-1, 0, +1}, 0 where a label is known.
    """
    known, completed = labels.ne(UNKNOWN), pseudo_labels.ne(UNKNOWN)
    groups = {"known": known, "completed": completed, "undecided": ~(known | completed)}
    return {name: losses.where(group, 0).mean() for name, group in groups.items()}


@torch.no_grad()
def zero_shot_clip(names: list[str], config: ClipLabelsConfig) -> ZeroShotClipForMultiLabelClassification:
    """CLIP whose logits for the labels `names` are cosines over the temperature.

    Raises:
        OSError: if `config.clip` names nothing, or cannot be read or fetched.
        ValueError: if it names something else, or cannot be asked about these labels.
    """
    try:
        tagger = find_tagger(config.clip, ZeroShotClipConfig.earlier_model_type)
        clip = _of_published(config.clip, names) if tagger is None else _of_tagger(tagger)
    except (OSError, ValueError) as error:
        raise type(error)(f"`objective.clip`: {error}") from error
    clip.config.resize, clip.config.templates = config.clip_resize, config.templates
    clip.set_labels(names)
    clip.logit_scale.fill_(-math.log(config.temperature))
    clip.logit_bias.zero_()
    return clip


def _of_published(source: str, names: list[str]) -> ZeroShotClipForMultiLabelClassification:
    published = read_clip(source)
    sizes = {name: getattr(published.weights.config, name) for name in _TOWERS + _PIXELS}
    clip = ZeroShotClipForMultiLabelClassification(ZeroShotClipConfig.for_labels(names, **sizes))
    clip.load_clip(published, source)
    return clip


def _of_tagger(folder: Path) -> ZeroShotClipForMultiLabelClassification:
    kind = MultiLabelConfig.get_config_dict(folder)[0]["model_type"]
    if kind != ZeroShotClipConfig.model_type:
        raise ValueError(
            f"{folder} is a tagger of the type {kind!r}, and only one of the type {ZeroShotClipConfig.model_type!r} "
            "can be asked as CLIP. Name one, or a folder with CLIP, such as `hf-mlrpl convert clip` makes."
        )
    return ZeroShotClipForMultiLabelClassification.from_pretrained(folder)
