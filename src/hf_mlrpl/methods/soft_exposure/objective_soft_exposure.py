"""Objective of Soft Exposure and of the losses that its paper compares it with.

Equations are those of the NeurIPS 2020 paper; where their numbers are not known to us, the step is named. Logits are
f, which the paper writes as a score inside a second sigmoid.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor
from transformers.utils import logging

from ...data.images.training_images import TrainingImages
from ...distributed import share_buffers
from ...labels import NEGATIVE, POSITIVE, UNKNOWN
from ...losses import known_bce, normalized_partial_bce
from ...models.configuration_utils import MultiLabelConfig
from ...models.modeling_utils import MultiLabelPreTrainedModel
from ...objective import Objective, ObjectiveOutput, logits_of, sum_of_terms
from ...ranges import number
from ...schedules import Progress
from .image_features import ImageFeatures
from .neighbours import (
    Distance,
    Search,
    import_faiss,
    is_approximate,
    label_distances,
    nearest_images,
    with_distances,
)
from .temperatures import (
    Normalization,
    Reduce,
    TemperatureFunction,
    distances_to_images,
    distances_to_labels,
    normalized_distances,
    signed_temperatures,
)

logger = logging.get_logger(__name__)

SIGNS = (POSITIVE, NEGATIVE)


@dataclass(frozen=True, kw_only=True)
class SoftExposureObjectiveConfig:
    """Settings of Soft Exposure and of the losses that its paper compares it with.

    variant: treatment of unknown labels. "NE": left out; "wNE": left out, with weighted images; "FE": absent;
        "LS": absent with one temperature; "SE": like what is annotated nearby, with "SE-L" among labels, with "SE-I"
        among images.
    positive_weight: weight of labels that are known to be present, but for NE and wNE.
    unknown_as: FE takes unknown labels for absent ("negative", the paper) or for present ("positive").
    constant_temperature: of LS, positive.
    image_weight: of wNE, "durand", g(known proportion) over the number of labels, or "mean", over the known labels.
    beta, gamma: of the temperature, Eq. 8.
    temperature_fn: temperature at the distance d: "published", exp(beta (1 - d)), or "inverse", exp(beta d).
    distance: between features.
    normalization: positive and negative distances are divided by the largest of both ("joint"), or each by its "own".
    uncovered: a label that no neighbour of an image is annotated with is far from all of them and so, in SE-I, fully
        "absent", as the equations have it; or images say nothing of it ("ignore"), as the text has it.
    reduce: distance to several, the smallest one ("min") or the median of the five smallest ("median5").
    num_neighbours: neighbours of an image.
    features_from: fixed network behind all distances: "model" is the backbone as it is before the first step; or the
        folder of a checkpoint, or the name of a timm model with its pretrained weights.
    search: for neighbours, "exact" or "approximate"; "auto" is exact on GPUs, and on CPUs up to 30,000
        images, or 250,000 without faiss; how many neighbours the approximate one finds is logged.
    """

    variant: Literal["NE", "wNE", "FE", "LS", "SE-L", "SE-I", "SE"] = "SE"
    positive_weight: float = number("(0, 1e6]", 5.0)
    unknown_as: Literal["negative", "positive"] = "negative"
    constant_temperature: float = number("(0, 1e6]", 5.0)
    image_weight: Literal["durand", "mean"] = "durand"
    beta: float = number("(0, 100]", 5.0)
    gamma: float = number("[0, 1]", 0.0)
    temperature_fn: TemperatureFunction = "published"
    distance: Distance = "cosine"
    normalization: Normalization = "joint"
    uncovered: Literal["absent", "ignore"] = "absent"
    reduce: Reduce = "min"
    num_neighbours: int = number("[1, 1e6]", 10)
    features_from: str = "model"
    search: Search = "auto"

    @property
    def needs_negatives(self) -> bool:
        if self.variant in ("SE", "SE-L"):
            return True  # every unknown label is nearer to a present one than to an absent one, if there is none
        return self.variant in ("NE", "wNE") or (self.variant == "FE" and self.unknown_as == "positive")

    @property
    def sees_labels(self) -> bool:
        """Whether distances between labels are needed."""
        return self.variant in ("SE", "SE-L")

    @property
    def sees_images(self) -> bool:
        """Whether neighbours of images are needed."""
        return self.variant in ("SE", "SE-I")

    @property
    def needs_neighbours(self) -> bool:
        """Whether features of all training images are needed, see `Objective.find_neighbours`."""
        return self.sees_labels or self.sees_images


# ---- loss ----


def soft_exposure_loss(
    logits: Tensor, labels: Tensor, temperatures: Tensor, positive_weight: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Cross-entropy where unknown labels are softened by a temperature, summed over the labels (Eq. 3).

    An unknown label counts as present where its temperature is above 0 and as absent where it is below; its logit is
    divided by the temperature, so that its gradient is the smaller, the farther the temperature is from 0. At 0 the
    label is left out. All other losses of the paper are this one with a constant temperature: 0 is NE, -1 is FE, less
    than that is LS.

    Args:
        logits: `(batch_size, num_labels)`.
        labels: `(batch_size, num_labels)` in {-1, 0, +1}.
        temperatures: `(batch_size, num_labels)`; those of known labels do not matter.

    Returns:
        Losses of the known and of the unknown labels, `(batch_size,)` each.
    """
    losses, known = known_bce(logits, labels)
    known_loss = torch.where(labels > 0, positive_weight * losses, losses).sum(dim=1)
    softened = ~known & temperatures.ne(0)
    unknown_loss = -F.logsigmoid(logits / temperatures.where(softened, 1.0))
    return known_loss, unknown_loss.masked_fill(~softened, 0.0).sum(dim=1)


# ---- objective ----


class SoftExposureObjective(Objective):
    """One of seven losses; SE remembers the distances between labels and the nearest neighbours of every image."""

    config_class = SoftExposureObjectiveConfig
    pictures = {"temperatures": ".methods.soft_exposure.pictures:temperatures"}
    config: SoftExposureObjectiveConfig
    label_distances: Tensor
    neighbours: Tensor
    neighbour_distances: Tensor
    known_labels: Tensor
    made: Tensor

    def __init__(self, config: SoftExposureObjectiveConfig, model_config: MultiLabelConfig):
        super().__init__(config, model_config)
        self.is_prepared = not config.needs_neighbours

    def prepare(self, images: TrainingImages) -> None:
        if not self.config.needs_neighbours:
            return
        labels = images.labels
        self.register_buffer("made", torch.tensor(False))
        if self.config.sees_labels:
            self.register_buffer("label_distances", torch.full((labels.shape[1],) * 2, math.inf))
            self.most_annotated = {sign: max(1, int(labels.eq(sign).sum(dim=1).max())) for sign in SIGNS}
        if self.config.sees_images:
            if len(labels) < 2:
                raise ValueError(f"{self.config.variant} needs at least two training images, got {len(labels)}.")
            count = min(self.config.num_neighbours, len(labels) - 1)
            self.register_buffer("neighbours", torch.zeros(len(labels), count, dtype=torch.int32))
            self.register_buffer("neighbour_distances", torch.zeros(len(labels), count))
            self.register_buffer("known_labels", labels, persistent=False)  # they come with the data

    def before_epoch(self, model: MultiLabelPreTrainedModel, images: TrainingImages, progress: Progress) -> None:
        if not self.is_prepared and not self.made:
            self.find_neighbours(model, images)
        self.is_prepared = True

    @torch.no_grad()
    def find_neighbours(self, model: MultiLabelPreTrainedModel, images: TrainingImages) -> Path:
        """Fill the memory from the features of all images, which stay on disk; the first process does it for all."""
        if self.config.sees_images and is_approximate(self.config.search, len(images)):
            import_faiss()  # that it is missing, one should know before a pass over all images
        features = ImageFeatures(images, self.config.features_from, model)
        features.make()
        if PartialState().is_main_process:
            vectors, distance, show = features.read(), self.config.distance, images.show_progress
            unreadable = vectors[:, 0].isnan()
            if unreadable.any():
                logger.warning(
                    f"{unreadable.sum()} of {len(images)} training images could not be read: they have no neighbours "
                    f"and are nobody's. If they can be read now, delete {features.folder}."
                )
            if self.config.sees_labels:
                labels = images.labels.masked_fill(unreadable.unsqueeze(1), UNKNOWN)
                self.label_distances.copy_(label_distances(vectors, labels, distance, show))
            if self.config.sees_images:
                found = self._nearest_images(features, vectors, show)
                neighbours, apart = with_distances(vectors, found, distance, show)
                self.neighbours.copy_(neighbours)
                self.neighbour_distances.copy_(apart)
            self.made.fill_(True)
        share_buffers(self)
        return features.folder

    def _nearest_images(self, features: ImageFeatures, vectors: Tensor, show_progress: bool) -> Tensor:
        """Those that an earlier run found, or newly found ones."""
        approximate, count = is_approximate(self.config.search, len(vectors)), self.neighbours.shape[1]
        file = features.folder / f"neighbours-{'approximate' if approximate else 'exact'}-{count}.safetensors"
        if file.is_file():
            return features.read_file(file, "neighbours", len(vectors))
        found = nearest_images(vectors, count, approximate, show_progress)
        features.write(file, {"neighbours": found})
        return found

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        logits = logits_of(model, batch["pixel_values"])
        config, labels = self.config, batch["labels"]
        if config.variant == "wNE":
            return sum_of_terms({"known": self._weighted_loss(logits, labels).mean()}, logits=logits)
        constants = {
            "NE": 0.0,
            "FE": 1.0 if config.unknown_as == "positive" else -1.0,
            "LS": -config.constant_temperature,
        }
        if config.variant in constants:
            temperatures, logs = torch.full_like(logits, constants[config.variant]), {}
        else:
            temperatures = self.temperatures(labels, batch)
            logs = _temperature_logs(temperatures)
        weight = 1.0 if config.variant == "NE" else config.positive_weight
        known, unknown = soft_exposure_loss(logits, labels, temperatures, weight)
        return sum_of_terms({"known": known.mean(), "unknown": unknown.mean()}, logits=logits, logs=logs)

    def _weighted_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """NE with a weight for each image, `(batch_size,)`."""
        if self.config.image_weight == "durand":
            return normalized_partial_bce(logits, labels)
        return normalized_partial_bce(logits, labels, alpha=0, beta=1, denominator="known")

    @torch.no_grad()
    def temperatures(self, labels: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Temperatures of a batch, from what is nearest among labels and images, `(batch_size, num_labels)`.

        Those of known labels are 0.
        """
        unknown, config = labels.eq(UNKNOWN), self.config
        distances = []  # (2, B, C) each: to what is known to be present, and to be absent
        if config.sees_labels:
            distances.append(self._to_labels(labels))
        if config.sees_images:
            distances.append(self._to_images(batch["index"]))
        to_positive, to_negative = torch.stack(distances).amin(dim=0)
        near = normalized_distances(to_positive, to_negative, unknown, config.normalization)
        return signed_temperatures(*near, config.beta, config.gamma, config.temperature_fn).where(unknown, 0.0)

    def _to_labels(self, labels: Tensor) -> Tensor:
        """Distances of all labels to those that are annotated in their image."""
        distances, reduce = self.remembered("label_distances"), self.config.reduce
        return torch.stack(
            [
                distances_to_labels(distances, labels.eq(s), self.most_annotated[s], reduce)
                for s in (POSITIVE, NEGATIVE)
            ]
        )

    def _to_images(self, rows: Tensor) -> Tensor:
        """Distances of images to their neighbours that are annotated with each label."""
        theirs = self.known_labels[self.remembered("neighbours")[rows]]  # (B, k, C)
        near = self.neighbour_distances[rows]
        found = torch.stack(
            [distances_to_images(near, theirs.eq(s), self.config.reduce) for s in (POSITIVE, NEGATIVE)]
        )
        if self.config.uncovered == "ignore":
            found = found.masked_fill(theirs.eq(UNKNOWN).all(dim=1), math.inf)
        return found


def _temperature_logs(temperatures: Tensor) -> dict[str, Any]:
    """Means over the labels that have a temperature, and how many of them count as present."""
    softened = temperatures.ne(0)
    count = softened.sum().clamp(min=1)
    return {
        "temperature": temperatures.abs().sum() / count,
        "softened_as_positive": (temperatures > 0).sum() / count,
    }
