"""Average precision per label, over the images where the label is known.

Scores may be logits or probabilities: only their order counts. Prefer logits, since the sigmoid of a large logit is
exactly 1.0 in float32 and makes ties.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from tqdm.auto import tqdm

from ..labels import NEGATIVE, POSITIVE, UNKNOWN, check_labels

Matrix = ArrayLike | torch.Tensor
Form = Literal["mean_precision", "interpolated", "eps"]
Ties = Literal["grouped", "order"]
Empty = Literal["skip", "zero", "nan"]

_LABELS_PER_BLOCK = 16  # a cache line of scores
_ENTRIES_PER_BLOCK = 2**20  # what is made of so many stays in the caches


def average_precision(
    scores: Matrix, labels: Matrix, *, form: Form = "mean_precision", ties: Ties = "grouped", eps: float = 1e-8
) -> np.ndarray:
    """Average precision of every label, in [0, 1]; NaN where it is undefined, never a silent 0 or 1: for a label
    without a known positive, and for one without a known negative, which any order of the images ranks right.

    The published tables use different forms, so always say which one a number is:

    - `"mean_precision"`: mean of the precision at every positive (ML-GCN, ADD-GCN; with grouped ties scikit-learn,
      Cole et al. and LargeLoss).
    - `"interpolated"`: precision made non-increasing in the recall, as in VOC 2012 (SSGRL, SST, SARB). Never smaller.
    - `"eps"`: sum of the precisions over the number of positives plus `eps` (ASL, SPLC, SCPNet, DualCoOp).

    Args:
        scores: `(num_images, num_labels)`, array or tensor.
        labels: `(num_images, num_labels)` in {-1, 0, +1}; unknown entries are left out, label by label.
        ties: `"grouped"` counts images with equal scores together, so the order of the images cannot matter;
            `"order"` ranks them in the order of the rows, as the code of SST and ASL does on a stable sort.

    Returns:
        `(num_labels,)`.
    """
    check_choice("form", form, Form)
    check_choice("ties", ties, Ties)
    return average_precisions(*as_arrays(scores, labels), form, ties=ties, eps=eps)[0]


def average_precisions(
    scores: np.ndarray, labels: np.ndarray, *forms: Form, ties: Ties = "grouped", eps: float = 1e-8
) -> np.ndarray:
    """`average_precision` in several forms from one sort, `(num_forms, num_labels)`, of arrays that are checked."""
    precisions_of_labels = _precisions_grouped if ties == "grouped" else _precisions_in_order
    result = np.full((len(forms), scores.shape[1]), np.nan)
    has_negatives = (labels == NEGATIVE).any(axis=0)
    for label, precisions in enumerate(precisions_of_labels(scores, labels)):  # highest recall first
        if not (len(precisions) and has_negatives[label]):
            continue
        for row, form in enumerate(forms):
            used = np.maximum.accumulate(precisions) if form == "interpolated" else precisions
            result[row, label] = used.sum() / (len(used) + (eps if form == "eps" else 0))
    return result


def mean_over_labels(values: np.ndarray, empty: Empty = "skip") -> float:
    """Mean of per-label values, where NaN marks a label that cannot be measured.

    Args:
        values: `(num_labels,)`.
        empty: `"skip"` leaves such labels out, `"zero"` counts them as 0 (ASL, SPLC, scikit-learn), `"nan"` makes the
            mean NaN (SST). If all are left out, the mean is NaN.
    """
    check_choice("empty", empty, Empty)
    missing = np.isnan(values)
    if empty == "nan" or not missing.any():
        return float(np.mean(values))
    if empty == "zero":
        return float(np.where(missing, 0, values).mean())
    return float(values[~missing].mean()) if not missing.all() else float("nan")


def mean_average_precision(
    scores: Matrix, labels: Matrix, *, form: Form = "mean_precision", ties: Ties = "grouped", empty: Empty = "skip"
) -> float:
    """Mean of `average_precision` over the labels, in [0, 1]."""
    return mean_over_labels(average_precision(scores, labels, form=form, ties=ties), empty)


@dataclass(frozen=True)
class PartialAveragePrecision:
    """Average precision on partly annotated test labels, as Ben-Baruch et al. 2022 (CSL, P-ASL) report it.

    per_label: `(num_labels,)` in [0, 1], NaN for a label without known positives or without known negatives.
    map: Mean over the remaining labels.
    map_macro: Mean weighted by the number of known positives. The authors call it `map_macro`.
    no_labels, no_positives, no_negatives: Numbers of labels left out, and why.
    """

    per_label: np.ndarray
    map: float
    map_macro: float
    no_labels: int
    no_positives: int
    no_negatives: int


def partial_average_precision(scores: Matrix, labels: Matrix, *, eps: float = 1e-8) -> PartialAveragePrecision:
    """Average precision over annotated entries; labels that have only one kind of annotation are left out.

    Args:
        scores: `(num_images, num_labels)`.
        labels: `(num_images, num_labels)` in {-1, 0, +1}. The authors' files swap unknown and absent.
    """
    scores, labels = as_arrays(scores, labels)
    positives, negatives = (labels == POSITIVE).sum(axis=0), (labels == NEGATIVE).sum(axis=0)
    usable = (positives > 0) & (negatives > 0)
    per_label = np.where(usable, average_precision(scores, labels, form="eps", ties="order", eps=eps), np.nan)
    weights = positives[usable]
    return PartialAveragePrecision(
        per_label=per_label,
        map=mean_over_labels(per_label),
        map_macro=float(np.average(per_label[usable], weights=weights)) if usable.any() else float("nan"),
        no_labels=int(((positives == 0) & (negatives == 0)).sum()),
        no_positives=int(((positives == 0) & (negatives > 0)).sum()),
        no_negatives=int(((positives > 0) & (negatives == 0)).sum()),
    )


def average_over_proportions(map_by_proportion: Mapping[float, float]) -> float:
    """The "Avg. mAP" of the tables: mean of the mAP over the proportions of known labels, usually 0.1 to 0.9."""
    if not map_by_proportion:
        raise ValueError("`map_by_proportion` must hold at least one proportion, got none.")
    return float(np.mean(list(map_by_proportion.values())))


def as_arrays(scores: Matrix, labels: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Checked arrays: float `scores` and int8 `labels`, both `(num_images, num_labels)`.

    Raises `ValueError` for other shapes, values outside {-1, 0, +1} and scores that are not finite.
    """
    scores, labels = _as_array(scores), _as_array(labels)
    if scores.ndim != 2 or scores.shape != labels.shape:
        raise ValueError(
            "`scores` and `labels` must both have the shape (num_images, num_labels), "
            f"got {scores.shape} and {labels.shape}."
        )
    if scores.size == 0:
        raise ValueError(f"`scores` must hold at least one image and one label, got the shape {scores.shape}.")
    check_labels(labels)
    if labels.dtype.kind == "f" and (labels != np.rint(labels)).any():
        raise ValueError(
            "`labels` must be -1, 0 or +1 to measure against them, got soft labels. Threshold them first."
        )
    if scores.dtype not in (np.float32, np.float64):
        scores = scores.astype(np.float32)
    if not (np.isfinite(scores.min()) and np.isfinite(scores.max())):  # without a copy of the size of the scores
        row, column = np.argwhere(~np.isfinite(scores))[0]
        raise ValueError(
            f"`scores` must be finite, got {scores[row, column]} in row {row}, column {column}. "
            "Did the training diverge? Lower the learning rate, or look for broken images."
        )
    return scores, labels.astype(np.int8, copy=False)


def check_choice(name: str, value: str, choices: Any) -> None:
    """Raise `ValueError` unless `value` is one of the strings of the `Literal` type `choices`."""
    if value not in get_args(choices):
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, get_args(choices)))}, got {value!r}.")


def _as_array(values: Matrix) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()  # NumPy has no bfloat16
    return np.asarray(values)


def blocks_of_rows(matrix: np.ndarray) -> Iterator[slice]:
    """Slices of the rows of `matrix`, so that what is computed of one needs little memory."""
    size = max(1, _ENTRIES_PER_BLOCK // matrix.shape[1])
    return (slice(start, start + size) for start in range(0, len(matrix), size))


def ranked_positives(scores: np.ndarray, labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each label the scores of its known positives, lowest first, and how many positives and how many known
    entries have at least this score: three arrays of the length `num_positives`."""
    for score_rows, label_rows in _columns_as_rows(scores, labels):
        found = [np.sort(row[known == POSITIVE]) for row, known in zip(score_rows, label_rows, strict=True)]
        score_rows[label_rows == UNKNOWN] = -np.inf  # below all that counts
        score_rows.sort(axis=1)
        for positives, known in zip(found, score_rows, strict=True):
            correct = len(positives) - np.searchsorted(positives, positives, "left")
            yield positives, correct, len(known) - np.searchsorted(known, positives, "left")


def _columns_as_rows(scores: np.ndarray, labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Copies of both arrays, turned, some labels at a time; a progress bar where it takes more than a second."""
    num_labels = scores.shape[1]
    with tqdm(total=num_labels, desc="Metrics", unit="label", delay=1, leave=False, disable=None) as bar:
        for start in range(0, num_labels, _LABELS_PER_BLOCK):
            columns = slice(start, start + _LABELS_PER_BLOCK)
            yield scores[:, columns].T.copy(), labels[:, columns].T.copy()
            bar.update(min(_LABELS_PER_BLOCK, num_labels - start))


def _precisions_grouped(scores: np.ndarray, labels: np.ndarray) -> Iterator[np.ndarray]:
    """Precision at every positive, lowest score first; all images with at least its score count."""
    return (correct / predictions for _, correct, predictions in ranked_positives(scores, labels))


def _precisions_in_order(scores: np.ndarray, labels: np.ndarray) -> Iterator[np.ndarray]:
    """Precision at every positive, lowest score first; among equal scores the earlier image ranks higher."""
    for score_rows, label_rows in _columns_as_rows(scores, labels):
        score_rows[label_rows == UNKNOWN] = -np.inf  # behind all that counts
        for order, known in zip(np.argsort(-score_rows, axis=1, kind="stable"), label_rows, strict=True):
            ranks = np.flatnonzero(known[order] == POSITIVE) + 1
            yield (np.arange(1, len(ranks) + 1) / ranks)[::-1]
