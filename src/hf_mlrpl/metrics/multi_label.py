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
    - `mean_f1`: mean over labels of F1, where a label is predicted from p = 0.5 on.
    - `op_chosen`, ..., `mean_f1_chosen`: the same where a label is predicted from its threshold on; only there where
      `thresholds` are not 0.5. With `choose_thresholds` on validation images, `mean_f1_chosen` is the mF1 of Kundu
      et al.
    - `labels_without_positives`: number of labels without a known positive, for which `empty` is the rule.
    - `labels_without_negatives`: number of further labels without a known negative; both kinds of mAP leave them out.

    Args:
        logits: `(num_images, num_labels)`, array or tensor.
        labels: `(num_images, num_labels)` in {-1, 0, +1}.
        names: label names, to name labels that cannot be measured.
        thresholds: scores in [0, 1] for `mean_f1_chosen` and the like, one number or one per label.
        empty: labels without known positives are left out of the means (`"skip"`), count as 0 (`"zero"`), or make the
            means NaN (`"nan"`).
        ref_op: see `precision_recall_f1`.
    """
    check_choice("empty", empty, Empty)
    logits, labels = as_arrays(logits, labels)
    without_positives, without_negatives = _check_measurable(labels, names, empty)
    thresholds = check_thresholds(thresholds, labels.shape[1])
    defined = ~without_negatives
    average, interpolated = average_precisions(logits, labels, "mean_precision", "interpolated")
    plain, top3, chosen = count(
        logits,
        labels,
        prediction_rule(threshold=0.0, top_k=None),
        prediction_rule(threshold=0.0, top_k=3),
        lambda rows: scores_of(rows) >= thresholds,
    )
    fractions = {
        "map": mean_over_labels(average[defined], empty),
        "map_interpolated": mean_over_labels(interpolated[defined], empty),
        **precision_recall_f1_of(plain, empty, ref_op),
    }
    fractions |= {f"{name}_top3": value for name, value in precision_recall_f1_of(top3, empty, ref_op).items()}
    fractions["mean_f1"] = mean_over_labels(f1_of(plain), empty)
    if (thresholds != 0.5).any():
        fractions |= {f"{name}_chosen": value for name, value in precision_recall_f1_of(chosen, empty, ref_op).items()}
        fractions["mean_f1_chosen"] = mean_over_labels(f1_of(chosen), empty)
    return {name: 100 * value for name, value in fractions.items()} | {
        "labels_without_positives": float(without_positives.sum()),
        "labels_without_negatives": float(without_negatives.sum()),
    }


def scores_of(logits: np.ndarray) -> np.ndarray:
    """The sigmoid of `logits`, as models and pipelines compute it, so that equal logits pass the same thresholds."""
    return torch.from_numpy(logits).sigmoid().numpy()


def _check_measurable(labels: np.ndarray, names: list[str] | None, empty: Empty) -> tuple[np.ndarray, np.ndarray]:
    """Booleans of the labels without known positives, and of further ones without known negatives; warns of both.

    Raises:
        ValueError: if there is nothing to measure.
    """
    num_labels = labels.shape[1]
    if names is not None and len(names) != num_labels:
        raise ValueError(f"`names` must hold {num_labels} names, one per column of `labels`, got {len(names)}.")
    without_positives = ~(labels == POSITIVE).any(axis=0)
    without_negatives = ~without_positives & ~(labels == NEGATIVE).any(axis=0)
    if without_positives.all() and empty == "skip":
        raise ValueError(
            f"None of the {num_labels} labels has a known positive (+1) in these {len(labels)} images, so there is "
            "nothing to measure. Evaluate on images with known labels."
        )
    if (without_positives | without_negatives).all() and without_negatives.any():
        raise ValueError(
            f"No label has both a known positive (+1) and a known negative (-1) in these {len(labels)} images, so no "
            "average precision is defined. If what is not listed is absent, say so (`data.unlisted=absent`); labels "
            "in {0, 1} need their zeros turned into -1."
        )
    for kind, missing, rule in (
        ("positive", without_positives, f'`empty="{empty}"`'),
        ("negative", without_negatives, "left out of the mAP"),
    ):
        if missing.any():
            shown = [str(i) if names is None else names[i] for i in np.flatnonzero(missing)]
            logger.warning_once(
                f"{len(shown)} label(s) have no known {kind} in the evaluated images ({rule}): {shorten(shown, 8)}."
            )
    return without_positives, without_negatives
