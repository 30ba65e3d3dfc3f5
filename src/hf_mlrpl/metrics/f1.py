"""Precision, recall and F1 of predicted label sets, over the known entries. All results are fractions in [0, 1]."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..labels import POSITIVE, UNKNOWN
from .average_precision import (
    Empty,
    Matrix,
    as_arrays,
    blocks_of_rows,
    check_choice,
    mean_over_labels,
    ranked_positives,
)

Rule = Callable[[np.ndarray], np.ndarray]  # from the scores of some images to the predicted labels


@dataclass(frozen=True)
class Counts:
    """Numbers of entries for each label, `(num_labels,)`.

    correct: known positives that are predicted.
    predictions: known entries that are predicted.
    positives: known positives.
    known: known entries.
    """

    correct: np.ndarray
    predictions: np.ndarray
    positives: np.ndarray
    known: np.ndarray


def precision_recall_f1(
    logits: Matrix,
    labels: Matrix,
    *,
    threshold: float | None = 0.0,
    top_k: int | None = None,
    empty: Empty = "skip",
    ref_op: bool = False,
) -> dict[str, float]:
    """Overall and per-label precision, recall and F1: `op`, `or`, `of1`, `cp`, `cr`, `cf1`.

    `cf1` is the harmonic mean of `cp` and `cr`, as in the tables of SSGRL, SST and SARB; `macro_f1` averages F1.
    A label without predictions has precision 0. A label without known positives has no recall, and one without known
    entries no precision either: `empty` decides.

    Args:
        logits: `(num_images, num_labels)`; a label is predicted if its logit is at least `threshold`, 0 for p >= 0.5.
        labels: `(num_images, num_labels)` in {-1, 0, +1}; unknown entries are not counted.
        threshold: `None` predicts the `top_k` labels whatever their logits.
        top_k: predict at most the `top_k` largest logits of an image; the first label wins a tie.
        empty: `"skip"` what a label does not have, count it as `"zero"`, or let the mean be `"nan"`.
        ref_op: count one prediction for a label without predictions in `op`, as the authors' code does.
    """
    check_choice("empty", empty, Empty)
    (counts,) = count(*as_arrays(logits, labels), prediction_rule(threshold, top_k))
    return precision_recall_f1_of(counts, empty, ref_op)


def precision_recall_f1_of(counts: Counts, empty: Empty, ref_op: bool) -> dict[str, float]:
    """`precision_recall_f1` of what is counted."""
    correct, predictions, positives = counts.correct, counts.predictions, counts.positives
    precisions = np.where(counts.known > 0, correct / np.maximum(predictions, 1), np.nan)
    recalls = np.where(positives > 0, correct / np.maximum(positives, 1), np.nan)
    overall_predictions = np.maximum(predictions, 1).sum() if ref_op else max(predictions.sum(), 1)

    op = float(correct.sum() / overall_predictions)
    without = 0.0 if empty == "zero" else float("nan")
    recall = float(correct.sum() / positives.sum()) if positives.any() else without
    cp, cr = mean_over_labels(precisions, empty), mean_over_labels(recalls, empty)
    return {
        "op": op,
        "or": recall,
        "of1": _harmonic_mean(op, recall),
        "cp": cp,
        "cr": cr,
        "cf1": _harmonic_mean(cp, cr),
    }


def macro_f1(logits: Matrix, labels: Matrix, *, threshold: float = 0.0) -> dict[str, float]:
    """Precision, recall and F1 as ASL, DualCoOp and SCPNet print them: `p_c`, `r_c`, `f_c`, `p_o`, `r_o`, `f_o`.

    A label is predicted if its logit is larger than `threshold`, and `f_c` is the mean over labels of F1. Labels
    without a true positive count as 0 in all three means.
    """
    (counts,) = count(*as_arrays(logits, labels), lambda rows: rows > threshold)
    correct, predictions, positives = counts.correct, counts.predictions, counts.positives
    p_o = float(correct.sum() / max(predictions.sum(), 1))
    r_o = float(correct.sum() / max(positives.sum(), 1))
    return {
        "p_c": float((correct / np.maximum(predictions, 1)).mean()),
        "r_c": float((correct / np.maximum(positives, 1)).mean()),
        "f_c": float(_f1(counts).mean()),
        "p_o": p_o,
        "r_o": r_o,
        "f_o": _harmonic_mean(p_o, r_o),
    }


def precision_at_k(scores: Matrix, labels: Matrix, k: int) -> np.ndarray:
    """Known positives among the `k` largest scores of every image, over `k` (Cole et al. 2021); `(num_images,)`."""
    scores, labels = as_arrays(scores, labels)
    return (_top_k(scores, k) & (labels == POSITIVE)).sum(axis=1) / k


def recall_at_k(scores: Matrix, labels: Matrix, k: int) -> np.ndarray:
    """Known positives among the `k` largest scores of every image, over all its positives; `(num_images,)`.

    An image without positives counts as 0, as in the code of Cole et al. 2021.
    """
    scores, labels = as_arrays(scores, labels)
    positive = labels == POSITIVE
    return (_top_k(scores, k) & positive).sum(axis=1) / np.maximum(positive.sum(axis=1), 1)


def hit_at_k(scores: Matrix, labels: Matrix, k: int) -> np.ndarray:
    """Whether one of the `k` largest scores of every image is a known positive; `(num_images,)` of bool."""
    return precision_at_k(scores, labels, k) > 0


def choose_thresholds(scores: Matrix, labels: Matrix, *, default: float = 0.5) -> np.ndarray:
    """The threshold of every label with the largest F1, for `scores >= threshold`; `(num_labels,)`.

    Choose on validation images and apply to test images (`mean_f1`), as Kundu et al. do. Among equally good
    thresholds the highest wins.

    Args:
        scores: `(num_images, num_labels)`, probabilities or logits; the thresholds have the same unit.
        labels: `(num_images, num_labels)` in {-1, 0, +1}.
        default: for labels without known positives; 0.5 suits probabilities, logits need 0.
    """
    scores, labels = as_arrays(scores, labels)
    thresholds = np.full(scores.shape[1], default, dtype=scores.dtype)
    # Only scores of positives can be best: lowering a threshold to a negative adds nothing but a mistake.
    for label, (positives, correct, predictions) in enumerate(ranked_positives(scores, labels)):
        if len(positives):
            f1 = 2 * correct / (predictions + len(positives))
            thresholds[label] = positives[np.flatnonzero(f1 == f1.max())[-1]]
    return thresholds


def f1_at_thresholds(scores: Matrix, labels: Matrix, thresholds: ArrayLike) -> np.ndarray:
    """F1 of every label for `scores >= thresholds`; `(num_labels,)`, NaN for a label without known positives.

    Args:
        thresholds: a number, or `(num_labels,)` from `choose_thresholds`.
    """
    scores, labels = as_arrays(scores, labels)
    thresholds = check_thresholds(thresholds, scores.shape[1])
    (counts,) = count(scores, labels, lambda rows: rows >= thresholds)
    return f1_of(counts)


def f1_of(counts: Counts) -> np.ndarray:
    """F1 of every label, `(num_labels,)`, NaN for a label without known positives."""
    return np.where(counts.positives > 0, _f1(counts), np.nan)


def check_thresholds(thresholds: ArrayLike, num_labels: int) -> np.ndarray:
    """`thresholds` as an array; raises unless it is a number or has one per label."""
    thresholds = np.asarray(thresholds)
    if thresholds.shape not in ((), (num_labels,)):
        raise ValueError(f"`thresholds` must be a number or have the shape ({num_labels},), got {thresholds.shape}.")
    return thresholds


def mean_f1(scores: Matrix, labels: Matrix, thresholds: ArrayLike, *, empty: Empty = "skip") -> float:
    """Mean over labels of `f1_at_thresholds`, the mF1 of Kundu et al."""
    return mean_over_labels(f1_at_thresholds(scores, labels, thresholds), empty)


def prediction_rule(threshold: float | None, top_k: int | None) -> Rule:
    """Predicts what reaches `threshold` and is among the `top_k` of its image; `None` asks for nothing."""
    if threshold is None and top_k is None:
        raise ValueError("One of `threshold` and `top_k` must be given, got neither.")

    def predict(logits: np.ndarray) -> np.ndarray:
        predicted = np.ones(logits.shape, dtype=bool) if threshold is None else logits >= threshold
        return predicted if top_k is None else predicted & _top_k(logits, top_k)

    return predict


def _top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Mask of the `k` largest scores of every row; among equal scores the first columns win."""
    if not 1 <= k:
        raise ValueError(f"`k` must be at least 1, got {k}.")
    remaining, rows = scores.copy(), np.arange(len(scores))
    for _ in range(min(k, scores.shape[1])):  # k passes beat a full sort for the small k of the tables
        remaining[rows, remaining.argmax(axis=1)] = -np.inf
    return remaining == -np.inf


def count(scores: np.ndarray, labels: np.ndarray, *rules: Rule) -> list[Counts]:
    """Counts of what each of the `rules` predicts, in one pass over the images."""
    num_labels = scores.shape[1]
    positives, known = np.zeros((2, num_labels), dtype=int)
    correct, predictions = np.zeros((2, len(rules), num_labels), dtype=int)
    for rows in blocks_of_rows(scores):
        positive, is_known = labels[rows] == POSITIVE, labels[rows] != UNKNOWN
        positives += positive.sum(axis=0)
        known += is_known.sum(axis=0)
        for i, rule in enumerate(rules):
            predicted = rule(scores[rows])
            correct[i] += (predicted & positive).sum(axis=0)
            predictions[i] += (predicted & is_known).sum(axis=0)
    return [Counts(*both, positives, known) for both in zip(correct, predictions, strict=True)]


def _f1(counts: Counts) -> np.ndarray:
    return 2 * counts.correct / np.maximum(counts.predictions + counts.positives, 1)


def _harmonic_mean(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall != 0 else 0.0
