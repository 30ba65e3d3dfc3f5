"""Objectives: losses of methods, and what they remember of training. They visit a model inside its forward pass."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from .data.images.training_images import TrainingImages
from .losses import at_least_float32
from .ranges import check_ranges
from .schedules import Progress

ShortBatches = Literal["published", "mean"]
OBJECTIVE_NAME = "objective.safetensors"  # what an objective remembers, in a checkpoint


@dataclass
class ObjectiveOutput(ModelOutput):
    """Result of one training step of a method.

    loss: scalar to minimise, a mean over the micro-batch.
    logits: `(batch_size, num_labels)` of the plain classification.
    terms: the summands of the loss, detached, each logged by its name.
    logs: further numbers to log, for example thresholds; means over the steps are shown. Tensors are scalars.
    pseudo_labels: labels completed by each rule, `(batch_size, num_labels)` in {-1, 0, +1}; the trainer counts those
        that were unknown.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    terms: dict[str, Tensor] | None = None
    logs: dict[str, Tensor | float] | None = None
    pseudo_labels: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class CompletedLabels:
    """The labels of all training images, as far as they are known or a method has completed them.

    labels: `(num_images, num_labels)` int8 in {-1, 0, +1}; known labels are as they were.
    confidence: probability that each of them is right, in [0, 1] and 1 for known labels, where a method has one.
    """

    labels: Tensor
    confidence: Tensor | None = None


class Objective(nn.Module):
    """Base of all objectives.

    An objective has no parameters (what is trained belongs to the model, where DDP averages it); what it remembers
    are persistent buffers, which the trainer saves beside the optimizer and restores.

    Attributes:
        config_class: frozen dataclass with the settings; a recipe's section `objective` fills it. Where the objective
            compares views of an image, its `needed_views` names them, see `check_views`; where it looks at what it
            stores of all images, its `needs_neighbours` is true, see `find_neighbours`. Where it takes no label for
            absent that is not known to be, its `needs_negatives` is true; where it depends on `Progress.num_epochs`,
            its `needs_num_epochs` is, and a run with another number of epochs is another one. What it begins in a
            later epoch stands in its `begins`, see `what_never_begins`. Where it compares vectors of labels, its
            `own_network_settings` must be 0 for another network than that of the method, see `check_network`.
        needs_pixels: whether it does more with `pixel_values` than give them to `encode`, so that features of a frozen
            backbone cannot be computed beforehand.
        learns_from_captions: whether it reads `input_ids` where a batch has captions in the place of images.
        pictures: targets of figures of its own by the kind of `hf-mlrpl picture`, functions of the objective and, for
            those of a photo, of the model, a `LabelledPhoto` and the labels to show.
        is_prepared: whether the memory is filled; false until `before_epoch`, where an objective fills it there.
        averaged_model: the trainer's answer to `teacher`.
        full_batch: images of a full batch on this process, which the trainer sets.
    """

    config_class: type
    needs_pixels = False
    learns_from_captions = False
    pictures: ClassVar[Mapping[str, str]] = {}

    def __init__(self, config: Any, model_config: Any):
        """Make an objective without memory of any image.

        Args:
            config: an instance of `config_class`.
            model_config: config of the model to train, for sizes such as `num_labels`.
        """
        super().__init__()
        if is_dataclass(config):
            check_ranges(type(config), vars(config))
        self.config = config
        self.is_prepared = True
        self.averaged_model: Callable[[], Any] | None = None
        self.full_batch: int | None = None

    def prepare(self, images: TrainingImages) -> None:
        """Register the buffers whose size depends on the training set, and load what is computed once from it.

        The trainer calls it once, on every process, before it restores a checkpoint.
        """

    def before_epoch(self, model: Any, images: TrainingImages, progress: Progress) -> None:
        """Look through the training set before an epoch, for example to make prototypes.

        The trainer calls it on every process, with `model` in evaluation mode, without gradients, and with the
        precision of training; afterwards torch's random numbers go on as if nothing had happened. After resuming in
        mid-epoch it is called again for the same epoch: a buffer with the epoch in which memory was made tells that
        there is nothing to do.
        """

    def find_neighbours(self, model: Any, images: TrainingImages) -> Path:
        """Find the neighbours of all training images, or take those that an earlier run has stored.

        `hf-mlrpl neighbours` calls it after `prepare`, on every process; in training the objective does so by itself.

        Returns:
            The folder where they stay for other runs.
        """
        raise NotImplementedError(f"{type(self).__name__} looks at no neighbours.")

    def remembered(self, name: str) -> Tensor:
        """The buffer `name`, which `prepare` registers and, in some objectives, `before_epoch` fills.

        Raises:
            RuntimeError: if this has not happened.
        """
        if name not in self._buffers or not self.is_prepared:
            raise RuntimeError(
                f"{type(self).__name__} was not prepared, so it has no `{name}`. The trainer calls `prepare`, and "
                "`before_epoch` at the beginning of each epoch, where the training data are `PartialLabelImages`. "
                "With other data call both yourself."
            )
        return self.get_buffer(name)

    def completed_labels(self, labels: Tensor) -> CompletedLabels | None:
        """The known labels of all training images, `(num_images, num_labels)` in {-1, 0, +1}, and those that the
        objective has completed and remembers.

        `None` where it remembers none. Many methods complete the labels of a batch for one step and forget them: those
        are counted in the logs, see `ObjectiveOutput.pseudo_labels`.
        """
        return None

    def weigh_short_batch(
        self, terms: dict[str, Tensor], num_images: int, short_batches: ShortBatches
    ) -> dict[str, Tensor]:
        """Means over a batch, scaled where it has fewer images than the others: "published" gives each image the
        weight that it has in a sum over the batch, "mean" leaves them as they are."""
        if short_batches == "mean" or not self.full_batch or num_images >= self.full_batch:
            return terms
        return {name: num_images / self.full_batch * term for name, term in terms.items()}

    def reached_beside_logits(self) -> tuple[str, ...] | None:
        """Starts of the names of parameters to which each step gives a gradient, beside those that the logits of the
        model depend on. `None`, which is always right, where a step may give none to some: DDP then looks for them at
        every step.
        """
        return None

    def teacher(self) -> Any:
        """The model with the moving average of the weights as of the last step, in evaluation mode and without
        gradients. It is no copy of its own, but the one that the trainer evaluates, the same on all processes.

        Raises:
            RuntimeError: where there is no moving average.
        """
        if self.averaged_model is None:
            raise RuntimeError(
                f"{type(self).__name__} learns from the moving average of the weights, but there is none: set "
                "`training.ema_decay`, such as 0.999."
            )
        return self.averaged_model()

    def forward(self, model: Any, batch: dict[str, Tensor], progress: Progress) -> ObjectiveOutput:
        """Compute the loss of `batch` with the stages `encode`, `represent` and `classify` of `model`.

        Args:
            model: a `MultiLabelPreTrainedModel`; an objective that needs more of it names the class.
            batch: `pixel_values` (or `StoredFeatures`, which `encode` takes as well), `labels`, and `index`, the rows
                of the images in the training set. In the place of pixels, captions have `input_ids`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `forward`.")


def check_network(config: Any, network: Any, refusal: str) -> None:
    """Raise `ValueError` where an objective cannot train another network than that of its method.

    Args:
        config: of the objective.
        network: config of the other network, which must give each label a vector, see `label_vector_dim`.
        refusal: the beginning of the error.
    """
    names: Collection[str] | None = getattr(config, "own_network_settings", None)
    if names is None:
        raise ValueError(refusal)
    if needed := [f"`objective.{name}`" for name in names if getattr(config, name)]:
        raise ValueError(
            f"{refusal} With {', '.join(needed)} at 0, this one trains any network that gives each label a vector of "
            "its own, such as query2label."
        )
    network.label_vector_dim()


def check_views(config: Any, views: Collection[str]) -> None:
    """Raise `ValueError` where an objective compares views of each image that are not all among `views`.

    Args:
        config: of the objective. Its `needed_views`, if it has any, maps the names of the views to those of
            `hf-mlrpl list` that the paper takes.
        views: names of the views that there are.
    """
    needed: Mapping[str, str] = getattr(config, "needed_views", {})
    missing = [name for name in needed if name not in views]
    if missing:
        published = ", ".join(f"{name}: {view}" for name, view in needed.items())
        raise ValueError(
            f"The objective compares further views of each image, but there is no `{', '.join(missing)}`. Let "
            f"`data.further_views` name all of them, such as `further_views: {{{published}}}`."
        )


def what_never_begins(config: Any, num_epochs: int) -> list[str]:
    """Sentences about what is named in the paper, but begins after the end of a training.

    Args:
        config: of the objective. Its `begins`, if it has any, maps a setting to the first epoch, counted from 0, and
            what begins with it.
    """
    begins: Mapping[str, tuple[int, str]] = getattr(config, "begins", {})
    return [
        f"`objective.{name}`: {what} begin in epoch {first}, counted from 0, but training ends after {num_epochs}: "
        "there will be none. Let them begin earlier, or train longer."
        for name, (first, what) in begins.items()
        if first >= num_epochs
    ]


def check_learns_from_captions(objective_class: type[Objective]) -> None:
    """Raise `ValueError` where captions are given to an objective that does not read them."""
    if not objective_class.learns_from_captions:
        raise ValueError(
            f"{objective_class.__name__} learns from images and cannot read captions: leave `data.captions` out, or "
            "choose a method that learns from them."
        )


def logits_of(model: Any, pixel_values: Tensor) -> Tensor:
    """The logits of `model` after all stages, `(batch_size, num_labels)`, in at least float32 also under autocast."""
    representations, _ = model.represent(model.encode(pixel_values))
    return at_least_float32(model.classify(representations))


def sum_of_terms(terms: dict[str, Tensor], **fields: Any) -> ObjectiveOutput:
    """Add up `terms` into the loss and log each of them."""
    loss = torch.stack(list(terms.values())).sum()
    return ObjectiveOutput(loss=loss, terms={name: term.detach() for name, term in terms.items()}, **fields)
