"""Unknown labels to ask a person about: those whose answers help most, and a uniform sample to compare with."""

import math

import numpy as np
import torch

from ..labels import POSITIVE, UNKNOWN


def usefulness(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What the answer about each label is worth, `(num_images, num_labels)` float32: -1 where it is known.

    The entropy of the score, in bits, times the rarity of the label: 1 over the root of 1 plus its known positives.

    Args:
        scores: `(num_images, num_labels)` in [0, 1].
        labels: `(num_images, num_labels)` in {-1, 0, +1}.
    """
    rarity = 1 / np.sqrt(1 + (labels == POSITIVE).sum(axis=0))
    values = np.empty(scores.shape, np.float32)
    for start in range(0, len(scores), 10_000):
        block = slice(start, start + 10_000)
        present = torch.from_numpy(scores[block])
        uncertainty = ((torch.special.entr(present) + torch.special.entr(1 - present)) / math.log(2)).numpy()
        values[block] = np.where(labels[block] == UNKNOWN, uncertainty * rarity, -1)
    return values


def ask_next(
    scores: np.ndarray, labels: np.ndarray, count: int, *, per_image: int = 3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The unknown labels whose answers are worth most, see `usefulness`.

    Args:
        per_image: at most so many of one image.

    Returns:
        Rows, columns and values, the largest value first; `(count,)`, or fewer where there are no more.
    """
    if count < 0 or per_image < 1:
        raise ValueError(f"`count` must be at least 0 and `per_image` at least 1, got {count} and {per_image}.")
    values = usefulness(scores, labels)
    kept = min(per_image, values.shape[1])
    columns = np.argpartition(-values, kept - 1, axis=1)[:, :kept]  # the best of each image
    best = np.take_along_axis(values, columns, axis=1)
    order = np.argsort(-best.ravel(), kind="stable")[:count]
    order = order[best.ravel()[order] >= 0]
    return order // kept, columns.ravel()[order], best.ravel()[order]


def uniform_sample(labels: np.ndarray, count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of `count` unknown labels, each as likely as any other; all, where there are fewer."""
    unknown = np.flatnonzero(labels == UNKNOWN)
    chosen = np.random.default_rng(seed).choice(unknown, min(count, len(unknown)), replace=False)
    rows, columns = np.unravel_index(np.sort(chosen), labels.shape)
    return rows, columns
