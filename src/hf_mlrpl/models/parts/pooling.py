"""Global average pooling, and networks that read nothing else of a feature map."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import Tensor


def mean_of_map(features: Tensor) -> Tensor:
    """The mean of feature maps `(batch_size, channels, height, width)`; what has no map comes back as it is.

    Returns:
        `(batch_size, channels)`.
    """
    return features.mean(dim=(2, 3)) if features.ndim == 4 else features


def of_the_mean(represent: Callable[[Any, Tensor], Any]) -> Callable[[Any, Tensor], Any]:
    """Let the method `represent` of a network begin with `mean_of_map`, and let it be known: where the features of a
    frozen backbone are stored, such a network trains on their means alone."""

    @wraps(represent)
    def of_features(model: Any, features: Tensor) -> Any:
        return represent(model, mean_of_map(features))

    of_features.reads_mean = True  # type: ignore[attr-defined]
    return of_features


def reads_mean(model: Any) -> bool:
    """Whether the network `model` reads nothing but the mean of a feature map."""
    return getattr(model.represent, "reads_mean", False)
