"""A photo as pictures of methods see it."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class LabelledPhoto:
    """A photo and what is known of it.

    pixel_values: `(1, 3, height, width)`, as its model wants them.
    labels: `(num_labels,)` in {-1, 0, +1}.
    name: what it is called in titles.
    """

    image: Any
    pixel_values: Tensor
    labels: Tensor
    name: str
