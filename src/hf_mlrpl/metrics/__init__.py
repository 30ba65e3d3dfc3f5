"""Multi-label metrics on known labels: average precision in its published forms, precision, recall and F1.

The plain functions need NumPy only; `evaluate` is imported when `load_metric` is called.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from ..extras import optional_packages
from .average_precision import (
    PartialAveragePrecision,
    average_over_proportions,
    average_precision,
    mean_average_precision,
    mean_over_labels,
    partial_average_precision,
)
from .ensemble import ensemble_scores
from .f1 import (
    choose_thresholds,
    f1_at_thresholds,
    hit_at_k,
    macro_f1,
    mean_f1,
    precision_at_k,
    precision_recall_f1,
    recall_at_k,
)
from .multi_label import multi_label_metrics

if TYPE_CHECKING:
    import evaluate

METRIC_PATH = Path(__file__).with_name("multi_label_metric.py")  # for `evaluate.load(str(METRIC_PATH))`

__all__ = [
    "METRIC_PATH",
    "PartialAveragePrecision",
    "average_over_proportions",
    "average_precision",
    "choose_thresholds",
    "ensemble_scores",
    "f1_at_thresholds",
    "hit_at_k",
    "load_metric",
    "macro_f1",
    "mean_average_precision",
    "mean_f1",
    "mean_over_labels",
    "multi_label_metrics",
    "partial_average_precision",
    "precision_at_k",
    "precision_recall_f1",
    "recall_at_k",
]


def load_metric() -> "evaluate.Metric":
    """The `evaluate` module, without network and without files in a cache."""
    with optional_packages():
        from .multi_label_metric import MultiLabelMetric

    return MultiLabelMetric(keep_in_memory=True)
