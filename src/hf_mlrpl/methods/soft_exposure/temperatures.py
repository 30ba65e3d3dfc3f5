"""Temperatures, which soften unknown labels, from their distances to what is annotated."""

import math
from typing import Literal

import torch
from torch import Tensor

Reduce = Literal["min", "median5"]
TemperatureFunction = Literal["published", "inverse"]
Normalization = Literal["joint", "own"]

NO_SUCH_NEIGHBOUR = 1.0  # distance to an image, where no neighbour is annotated with the label
SMALLEST_TEMPERATURE = 1e-3
GATHERED = 2**22  # distances that are gathered at a time: 16 MiB


def distances_to_labels(distances: Tensor, annotated: Tensor, most: int, reduce: Reduce = "min") -> Tensor:
    """Distance of every label to those that are annotated in its image, infinite where there are none (Eq. 4).

    Args:
        distances: `(num_labels, num_labels)`, symmetric.
        annotated: booleans, `(batch_size, num_labels)`.
        most: labels that are annotated in any image, at most; at least 1.

    Returns:
        `(batch_size, num_labels)`.
    """
    exists, members = annotated.to(torch.uint8).topk(most, dim=1)  # (B, most), the annotated ones first
    nearest = distances.new_full((len(annotated), 0, len(distances)), math.inf)
    at_a_time = max(1, GATHERED // annotated.numel())
    for there, labels in zip(exists.split(at_a_time, dim=1), members.split(at_a_time, dim=1), strict=True):
        gathered = distances[labels].masked_fill(there.eq(0).unsqueeze(2), math.inf)  # (B, at_a_time, C)
        nearest = _smallest(torch.cat([nearest, gathered], dim=1), reduce)
    return _reduced(nearest)


def distances_to_images(distances: Tensor, annotated: Tensor, reduce: Reduce = "min") -> Tensor:
    """Distance of every image to its neighbours that are annotated with a label, 1 where there are none.

    Args:
        distances: of the neighbours, `(batch_size, num_neighbours)`.
        annotated: booleans, `(batch_size, num_neighbours, num_labels)`.

    Returns:
        `(batch_size, num_labels)`.
    """
    nearest = _reduced(_smallest(distances.unsqueeze(2).where(annotated, math.inf), reduce))
    return nearest.where(nearest.isfinite(), NO_SUCH_NEIGHBOUR)


def _smallest(distances: Tensor, reduce: Reduce) -> Tensor:
    """The smallest, or the five smallest, along the second dimension, in rising order."""
    if reduce == "min":
        return distances.amin(dim=1, keepdim=True)
    return distances.topk(min(5, distances.shape[1]), dim=1, largest=False).values


def _reduced(nearest: Tensor) -> Tensor:
    """Median along the second dimension of what is finite, infinite where nothing is."""
    count = nearest.isfinite().sum(dim=1, keepdim=True)
    lower = nearest.gather(1, (count - 1).clamp(min=0) // 2)
    upper = nearest.gather(1, (count // 2).clamp(max=nearest.shape[1] - 1))
    return ((lower + upper) / 2).squeeze(1)


def normalized_distances(
    to_positive: Tensor, to_negative: Tensor, unknown: Tensor, normalization: Normalization = "joint"
) -> tuple[Tensor, Tensor]:
    """Both distances, divided by the largest finite one of the unknown labels of the image, unless that is 0.

    Args:
        to_positive, to_negative: distances to what is known to be present or absent, `(batch_size, num_labels)`.
        unknown: booleans, `(batch_size, num_labels)`.
        normalization: by the largest of both ("joint"), or each by its "own" largest one.
    """
    both = torch.stack([to_positive, to_negative])  # (2, B, C)
    largest = both.where(both.isfinite() & unknown, 0.0).amax(dim=2, keepdim=True)
    if normalization == "joint":
        largest = largest.amax(dim=0, keepdim=True)
    to_positive, to_negative = both / largest.where(largest > 0, 1.0)
    return to_positive, to_negative


def signed_temperatures(
    to_positive: Tensor,
    to_negative: Tensor,
    beta: float = 5.0,
    gamma: float = 0.0,
    temperature_fn: TemperatureFunction = "published",
) -> Tensor:
    """Temperature of every label: positive where what is known to be present is nearer (Eq. 8).

    Args:
        to_positive, to_negative: distances to what is known to be present or absent, `(batch_size, num_labels)`.

    Returns:
        `(batch_size, num_labels)`, 0 where both distances are infinite.
    """
    is_positive = to_positive < to_negative
    nearest = to_positive.where(is_positive, to_negative)
    size = (beta * (nearest if temperature_fn == "inverse" else 1 - nearest)).exp()
    temperatures = (size + gamma).where(is_positive, (gamma - size).clamp(max=-SMALLEST_TEMPERATURE))
    return temperatures.where(nearest.isfinite(), 0.0)
