"""Whether a training runs on stored features, and what it needs for that."""

from typing import Any

import torch
from transformers.utils import logging

from ..data.images.feature_files import StoredFeatures
from ..data.images.stored_images import StoredImages, StoredViews
from ..data.images.storing import Storing
from ..data.images.torch_dataset import PIXELS, PartialLabelImages
from ..models.parts.partly_frozen import PartlyFrozen
from ..models.parts.pooling import mean_of_map, reads_mean
from ..objective import Objective
from .training_args import MultiLabelTrainingArguments

logger = logging.get_logger(__name__)

SHARE_OF_DISK = 0.5  # of what is free, that features may take without being asked for
_OFF = "Set `training.store_features=false`"


def stored_training_images(
    args: MultiLabelTrainingArguments, model: Any, objective: Objective, images: Any
) -> tuple[Any, Storing | None]:
    """The training `images` with features in the place of pixels, and how further images get features; the `images`
    as they are, and `None`, where the model shall see pixels.

    Raises:
        ValueError: where `store_features` asks for what cannot be.
    """
    is_asked_for = args.store_features or (args.store_features is None and args.views_per_image is not None)
    is_frozen = isinstance(model.backbone, PartlyFrozen) and model.backbone.is_frozen
    if images is None or not (is_asked_for or (args.store_features is None and is_frozen)):
        return images, None
    try:
        views = _storable_views(args, model, objective, images)
    except ValueError:
        if is_asked_for:
            raise
        return images, None
    storing = _storing(args, model)
    stored = StoredImages(images, views, storing)
    if not is_asked_for and (lack := stored.lack_of_room(SHARE_OF_DISK)):
        logger.warning(
            "%s So the backbone sees all photos in each epoch; `training.store_features=true` insists.", lack
        )
        return images, None
    return stored, storing


def _storable_views(args: MultiLabelTrainingArguments, model: Any, objective: Objective, images: Any) -> StoredViews:
    name = type(objective).__name__
    if not isinstance(images, PartialLabelImages):
        raise ValueError(f"`store_features` needs images with their photos, got {type(images).__name__}. {_OFF}.")
    if objective.needs_pixels:
        raise ValueError(f"{name} mixes the pixels of images, so their features cannot be computed once. {_OFF}.")
    if len(images.views) > 1:
        raise ValueError(
            f"{name} compares several random views of an image ({', '.join(images.views)}), which are others in each "
            f"epoch, so their features cannot be computed once. {_OFF}."
        )
    if not model.backbone.frozen_parts:
        raise ValueError(
            "`store_features` needs a frozen backbone: set `model.trainable_backbone=[]`, or let it name the last "
            f"parts only. {_OFF} to train all of it."
        )
    model.backbone.frozen_state()  # raises where it cannot be cut
    view, count = images.views[PIXELS], args.views_per_image
    if count is None:
        stored = StoredViews.of(view)
        problem = "`data.view` has too many different results to store them all"
    else:
        stored = StoredViews.with_number(count, view, images.plain_view)
        problem = f"`data.view` gives fewer different images than `views_per_image={count}`"
    if stored is None:
        raise ValueError(
            f"{problem}. Choose `data.view=plain` or `data.view=flip` and leave `training.views_per_image` out; or "
            "`training.views_per_image=2`, the photo and its mirror image in the place of that view; or, where it "
            f"crops, more, which are random. {_OFF} to compute new views in each epoch."
        )
    return stored


def _storing(args: MultiLabelTrainingArguments, model: Any) -> Storing:
    """How the features of `model` are stored."""

    def encode(pixel_values: torch.Tensor) -> torch.Tensor:
        was_training = model.training
        model.eval()
        try:
            return model.encode_frozen(pixel_values)
        finally:
            model.train(was_training)

    def mean_of_stored(features: torch.Tensor) -> torch.Tensor:
        return mean_of_map(model.backbone.from_stored(StoredFeatures(features)))

    return Storing(
        encode=encode,
        normalize=model.normalize,
        settings=lambda: model.frozen_settings() | {"dtype": args.feature_dtype},
        dtype=getattr(torch, args.feature_dtype),
        batch_size=args.per_device_eval_batch_size,
        num_workers=args.dataloader_num_workers,
        show_progress=not args.disable_tqdm,
        mean=mean_of_stored if model.backbone.is_frozen and reads_mean(model) else None,
    )


def with_stored_features(images: Any, storing: Storing | None) -> Any:
    """Images to evaluate with, with features in the place of pixels where `storing` says how."""
    if storing is None or not isinstance(images, PartialLabelImages) or isinstance(images, StoredImages):
        return images
    views = StoredViews.of(images.views[PIXELS])
    return images if views is None else StoredImages(images, views, storing)


def make_ready(images: Any) -> None:
    """Compute what is missing, on all processes."""
    if isinstance(images, PartialLabelImages):
        images.make_ready()
