"""What a model knows, label by label."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..labels import NEGATIVE, POSITIVE, UNKNOWN, shorten
from .average_precision import Matrix, as_arrays, average_precisions
from .f1 import check_thresholds, count, f1_of
from .multi_label import scores_of


@dataclass(frozen=True, kw_only=True)
class LabelResult:
    """One label on the images where it is known; numbers in percent, `None` where they are not defined.

    average_precision: needs a known positive and a known negative.
    precision: of what reaches the threshold; needs a known label that does.
    recall, f1: at the threshold; need a known positive.
    threshold: score in [0, 1] from which the label is predicted.
    positives, negatives, unknown: numbers of images.
    """

    label: str
    average_precision: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    threshold: float
    positives: int
    negatives: int
    unknown: int


@dataclass(frozen=True)
class LabelReport:
    """Results of all labels, in their order, and what they come from.

    scores: `(num_images, num_labels)` in [0, 1].
    labels: `(num_images, num_labels)` in {-1, 0, +1}.
    """

    results: list[LabelResult]
    scores: np.ndarray
    labels: np.ndarray

    @property
    def average_precision(self) -> list[float | None]:
        """Of each label in its order, in percent."""
        return [result.average_precision for result in self.results]

    @property
    def order(self) -> list[int]:
        """Labels from the worst average precision to the best; those without one come last."""
        values = [np.inf if value is None else value for value in self.average_precision]
        return np.argsort(values, kind="stable").tolist()

    @property
    def worst_first(self) -> list[LabelResult]:
        return [self.results[label] for label in self.order]

    @property
    def warnings(self) -> list[str]:
        """Sentences about labels that these images cannot measure."""
        messages = []
        for kind in ("positive", "negative"):
            without = [result.label for result in self.results if not getattr(result, f"{kind}s")]
            if without:
                messages.append(
                    f"{len(without)} label(s) have no known {kind}, so they have no average precision: "
                    f"{shorten(without, 8)}."
                )
        return messages


def label_report(logits: Matrix, labels: Matrix, names: Sequence[str], *, thresholds: ArrayLike = 0.5) -> LabelReport:
    """Measure each label on the images where it is known.

    Args:
        logits: `(num_images, num_labels)`.
        labels: `(num_images, num_labels)` in {-1, 0, +1}.
        names: of the labels.
        thresholds: scores in [0, 1], one number or one per label.
    """
    logits, labels = as_arrays(logits, labels)
    if len(names) != labels.shape[1]:
        raise ValueError(f"`names` must hold {labels.shape[1]} names, one per column, got {len(names)}.")
    thresholds = np.broadcast_to(check_thresholds(thresholds, labels.shape[1]), (labels.shape[1],))
    scores = scores_of(logits)
    (counts,) = count(scores, labels, lambda rows: rows >= thresholds)
    (average,) = average_precisions(logits, labels, "mean_precision")
    with np.errstate(invalid="ignore"):  # 0 / 0 where there is nothing
        precision, recall = counts.correct / counts.predictions, counts.correct / counts.positives
    columns = [_percent(column) for column in (average, precision, recall, f1_of(counts))]
    numbers = [(labels == value).sum(axis=0).tolist() for value in (POSITIVE, NEGATIVE, UNKNOWN)]
    fields = list(LabelResult.__dataclass_fields__)
    rows = zip(names, *columns, thresholds.tolist(), *numbers, strict=True)
    results = [LabelResult(**dict(zip(fields, row, strict=True))) for row in rows]
    return LabelReport(results, scores, labels)


def _percent(fractions: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else 100 * value for value in fractions.tolist()]
