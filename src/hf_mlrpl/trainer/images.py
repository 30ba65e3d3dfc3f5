"""From a data set to the images that a model is trained on or evaluated with."""

from collections.abc import Mapping, Sized
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from ..data.captions.caption_tokens import CaptionTokens
from ..data.images.torch_dataset import PartialLabelImages
from ..data.images.views import View
from ..data.label_kinds import kind_of_labels
from ..data.labelled_items import LabelledItems
from ..data.tables.from_dataset import in_our_columns
from ..labels import NEGATIVE, check_labels, describe_difference
from ..models.configuration_utils import MultiLabelConfig
from ..models.image_processing import evaluation_view
from ..objective import Objective, check_learns_from_captions
from ..registry import VIEWS, load, lookup

if TYPE_CHECKING:
    from datasets import Dataset

    from .training_args import MultiLabelTrainingArguments

DEFAULT_VIEW = "crop_flip"


def prepare_images(
    dataset: "Dataset",
    config: MultiLabelConfig,
    *,
    view: str | None = None,
    further_views: Mapping[str, str] | None = None,
    seed: int = 0,
    on_bad_image: Literal["error", "skip"] = "error",
    draft: bool = False,
) -> PartialLabelImages:
    """The images of `dataset` as a model sees them, with their labels in its order.

    Args:
        dataset: a data set with the labels of the model; one without the columns of this library is read as
            `load_from_dataset` does.
        config: that of the model.
        view: to train on: what happens to an image, one of `hf-mlrpl list views`. Without one the images are those of
            evaluation, with nothing random and without the hidden labels.
        further_views: other views of the same image, for objectives that compare them: from the name that the
            objective knows it by to a view.
        seed: of the random views.
        on_bad_image: "error" stops at an unreadable image, "skip" goes on without it and counts it: another one takes
            its place in training.
        draft: decode large JPEG photos at a part of their size, faster and a little differently.
    """

    @cache
    def make(name: str) -> View:
        return load(lookup(VIEWS, name, "view").target)(config.height_and_width)

    plain, is_training = evaluation_view(config), view is not None
    return PartialLabelImages(
        in_our_columns(dataset, config.label_names),
        plain if view is None else make(view),
        plain_view=plain,
        further_views={name: make(its_view) for name, its_view in (further_views or {}).items()},
        image_size=config.height_and_width,
        seed=seed,
        on_bad_image="replace" if is_training and on_bad_image == "skip" else on_bad_image,
        draft=draft,
        with_full_labels=is_training,
    )


def prepare_captions(dataset: "Dataset", model: Any, objective: Objective) -> CaptionTokens:
    """The captions of `dataset`, see `load_captions`, as the text tower of `model` reads them."""
    check_learns_from_captions(type(objective))
    if not model.backbone.is_frozen:
        raise ValueError(
            "Captions teach the image tower nothing, so it must be frozen: set `model.trainable_backbone=[]`."
        )
    return CaptionTokens(dataset, model.tokenizer, model.text_encoder.context_length)


def check_labels_of_items(items: LabelledItems, config: MultiLabelConfig, *, is_training: bool) -> None:
    """Raise `ValueError` if `items` have other labels than the model, or none that could teach it."""
    names, expected = items.label_names, config.label_names
    kind = "training" if is_training else "evaluation"
    if names != expected:
        raise ValueError(
            f"The {kind} {items.things} have other labels than the model: "
            f"{describe_difference(names, expected, f'the {items.things}', 'the model')}."
        )
    check_labels(items.labels)
    if is_training and not items.labels.any():
        raise ValueError("All training labels are unknown: there is nothing to learn from. Check the data.")


def check_negatives(labels: Any, objective: Objective) -> None:
    """Raise `ValueError` if no label is known to be absent, and `objective` would find every label on every image.

    Args:
        labels: `(num_images, num_labels)` in {-1, 0, +1}.
    """
    if not getattr(objective.config, "needs_negatives", False) or (labels == NEGATIVE).any():
        return
    kind = kind_of_labels(np.asarray(labels))
    raise ValueError(
        f"{type(objective).__name__} learns from labels that are known to be absent, and the training images have "
        f"none: it would find every label on every image. The labels are {kind} To train all the same, as a "
        "comparison: `training.allow_no_negatives=true`."
    )


def check_batches(images: Any, model: Any, args: "MultiLabelTrainingArguments") -> None:
    """Raise `ValueError` if there is no batch to train on, or one of a single image where `model` needs several.

    Batch norms behind a map of one place need two images. Only where a batch has one, such a batch is tried out.
    """
    if not isinstance(images, Sized):
        return
    size, rest = args.per_device_train_batch_size, len(images) % args.per_device_train_batch_size
    if args.dataloader_drop_last and len(images) < size * args.world_size:
        raise ValueError(
            f"`dataloader_drop_last` leaves out all {len(images)} training images, for no batch of "
            f"{size * args.world_size} is full. Lower `per_device_train_batch_size`, or leave `dataloader_drop_last` "
            "out."
        )
    is_last = rest == 1 and args.world_size == 1 and not args.dataloader_drop_last
    if size > 1 and not is_last:
        return
    if (reason := _fault_of_one_image(model)) is not None:
        way_out = "`per_device_train_batch_size` must be at least 2 with this model"
        if size > 1:
            way_out = (
                f"The last of {len(images)} images is a batch of its own with `per_device_train_batch_size={size}`: "
                f"give another size, or `dataloader_drop_last=true`, which leaves out a random image of each epoch"
            )
        raise ValueError(f"{way_out}. It cannot be trained on a single image: {reason}.")


@torch.no_grad()
def _fault_of_one_image(model: Any) -> str | None:
    """The reason why `model` cannot be trained on a batch of one image; its batch statistics stay as they are."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    is_training, device = model.training, next(model.parameters()).device
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            model.train()(torch.zeros(1, 3, *model.config.height_and_width, device=device))
    except ValueError as error:
        return str(error)
    finally:
        model.train(is_training)
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return None
