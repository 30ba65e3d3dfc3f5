"""The metrics that the trainer and `hf-mlrpl evaluate` report, in one call."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from transformers.utils import logging

from ..labels import NEGATIVE, POSITIVE, shorten
from .average_precision import Empty, Matrix, as_arrays, average_precisions, check_choice, mean_over_labels
from .f1 import check_thresholds, count, f1_of, precision_recall_f1_of, prediction_rule

logger = logging.get_logger(__name__)


def multi_label_metrics(
    logits: Matrix,
    labels: Matrix,
    names: list[str] | None = None,
    *,
    thresholds: ArrayLike = 0.5,
    empty: Empty = "skip",
    ref_op: bool = False,
) -> dict[str, float]:
    """All reported numbers, in percent, over the known entries of `labels`.

    - `map`: mean over labels of the average precision, as scikit-learn, ASL, SCPNet and DualCoOp define it.
    - `map_interpolated`: the form of VOC 2012, in the tables of SSGRL, SST and SARB. Never smaller than `map`.
    - `op`, `or`, `of1`, `cp`, `cr`, `cf1`: see `precision_recall_f1`; a label is predicted from p = 0.5 on.
    - `op_top3`, ...: the same, with at most the three best labels of every image.
    - `mean_f1`: mean over labels of F1, where a label is predicted from its threshold on. With `choose_thresholds` on
      validation images it is the mF1 of Kundu et al.
    - `labels_without_positives`: number of labels without a known positive, for which `empty` is the rule.

    Args:
        logits: `(num_images, num_labels)`, array or tensor.
        labels: `(num_images, num_labels)` in {-1, 0, +1}.
        names: label names, to name labels that cannot be measured.
        thresholds: scores in [0, 1] for `mean_f1`, one number or one per label.
        empty: labels without known positives are left out of the means (`"skip"`), count as 0 (`"zero"`), or make the
            means NaN (`"nan"`).
        ref_op: see `precision_recall_f1`.
    """
    check_choice("empty", empty, Empty)
    logits, labels = as_arrays(logits, labels)
    without_positives = _check_measurable(labels, names, empty)
    thresholds = check_thresholds(thresholds, labels.shape[1])
    average, interpolated = average_precisions(logits, labels, "mean_precision", "interpolated")
    plain, top3, chosen = count(
        logits,
        labels,
        prediction_rule(threshold=0.0, top_k=None),
        prediction_rule(threshold=0.0, top_k=3),
        lambda rows: scores_of(rows) >= thresholds,
    )
    fractions = {
        "map": mean_over_labels(average, empty),
        "map_interpolated": mean_over_labels(interpolated, empty),
        **precision_recall_f1_of(plain, empty, ref_op),
    }
    fractions |= {f"{name}_top3": value for name, value in precision_recall_f1_of(top3, empty, ref_op).items()}
    fractions["mean_f1"] = mean_over_labels(f1_of(chosen), empty)
    return {name: 100 * value for name, value in fractions.items()} | {
        "labels_without_positives": float(without_positives)
    }


def scores_of(logits: np.ndarray) -> np.ndarray:
    """The sigmoid of `logits`, as models and pipelines compute it, so that equal logits pass the same thresholds."""
    return torch.from_numpy(logits).sigmoid().numpy()


def _check_measurable(labels: np.ndarray, names: list[str] | None, empty: Empty) -> int:
    """Number of labels without known positives; raises if there is nothing to measure, warns if it means little."""
    num_labels = labels.shape[1]
    if names is not None and len(names) != num_labels:
        raise ValueError(f"`names` must hold {num_labels} names, one per column of `labels`, got {len(names)}.")
    without_positives = np.flatnonzero(~(labels == POSITIVE).any(axis=0))
    if len(without_positives) == num_labels and empty == "skip":
        raise ValueError(
            f"None of the {num_labels} labels has a known positive (+1) in these {len(labels)} images, so there is "
            "nothing to measure. Evaluate on images with known labels."
        )
    if len(without_positives):
        missing = [str(i) if names is None else names[i] for i in without_positives]
        logger.warning_once(
            f"{len(without_positives)} label(s) have no known positive in the evaluated images "
            f'(`empty="{empty}"`): {shorten(missing, 8)}.'
        )
    if not (labels == NEGATIVE).any():
        logger.warning_once(
            "No evaluated label is known to be absent (-1), so every precision is 100. "
            "Labels in {0, 1} need their zeros turned into -1 before they are evaluated."
        )
    return len(without_positives)
