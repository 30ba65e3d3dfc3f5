"""One matrix of scores from those of two models."""

import numpy as np
import torch

from .average_precision import Matrix

Limits = tuple[float, float]


def ensemble_scores(
    first: Matrix, second: Matrix, share: float = 0.5, limits: tuple[Limits, Limits] | None = None
) -> np.ndarray:
    """The weighted mean of two matrices of logits, each brought to [0, 1] by its least and its greatest entry.

    The ensemble of TaI-DPT and DualCoOp in TaI-DPT's code. It ranks the images of a label, for mAP; it is no
    probability. Least and greatest come from all images, so other images change the scores of one: `limits` of
    validation images do without.

    Args:
        first, second: `(num_images, num_labels)`, of the same images and labels.
        share: weight of `second`.
        limits: least and greatest entry of each matrix, where they shall not be its own.
    """
    matrices = [np.asarray(m.cpu() if isinstance(m, torch.Tensor) else m, dtype=np.float64) for m in (first, second)]
    if matrices[0].shape != matrices[1].shape or matrices[0].ndim != 2:
        raise ValueError(
            "`first` and `second` must both have the shape (num_images, num_labels), got "
            f"{matrices[0].shape} and {matrices[1].shape}."
        )
    if not 0 <= share <= 1:
        raise ValueError(f"`share` must lie in [0, 1], got {share}.")
    one, other = (
        _between(matrix, *(limits[i] if limits else (matrix.min(), matrix.max()))) for i, matrix in enumerate(matrices)
    )
    return (1 - share) * one + share * other


def _between(matrix: np.ndarray, least: float, greatest: float) -> np.ndarray:
    if not (np.isfinite(matrix).all() and least < greatest):
        raise ValueError(
            f"Logits must be finite and not all the same, but they lie between {least} and {greatest}: did the "
            "training diverge?"
        )
    return (matrix - least) / (greatest - least)
