"""From a data set to the images that a model is trained on or evaluated with."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Literal

from ..data.images.torch_dataset import PartialLabelImages
from ..data.images.views import View
from ..data.tables.from_dataset import in_our_columns
from ..labels import check_labels, describe_difference
from ..models.configuration_utils import MultiLabelConfig
from ..models.image_processing import evaluation_view
from ..registry import VIEWS, load, lookup

if TYPE_CHECKING:
    from datasets import Dataset

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


def check_labels_of_images(images: PartialLabelImages, config: MultiLabelConfig, *, is_training: bool) -> None:
    """Raise `ValueError` if `images` have other labels than the model, or none that could teach it."""
    names, expected = images.label_names, config.label_names
    kind = "training" if is_training else "evaluation"
    if names != expected:
        raise ValueError(
            f"The {kind} images have other labels than the model: "
            f"{describe_difference(names, expected, 'the images', 'the model')}."
        )
    check_labels(images.labels)
    if is_training and not images.labels.any():
        raise ValueError("All training labels are unknown: there is nothing to learn from. Check the data.")
