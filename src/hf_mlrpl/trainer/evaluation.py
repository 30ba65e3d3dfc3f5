"""Numbers of an evaluation from what the Trainer collected of all images."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

from ..losses import known_bce
from ..metrics.average_precision import blocks_of_rows
from ..metrics.multi_label import multi_label_metrics

PRECISION_AND_RECALL = re.compile(r"[oc](p|r|f1)(_top3)?$")


def compute_metrics(
    prediction: EvalPrediction, thresholds: float | Sequence[float] = 0.5, *, names: list[str] | None = None
) -> dict[str, float]:
    """All metrics of `hf_mlrpl.metrics`, in percent, over the known labels; see `multi_label_metrics`."""
    return multi_label_metrics(*logits_and_labels(prediction), thresholds=thresholds, names=names)


def metrics_of_labels(
    logits: np.ndarray, labels: np.ndarray, columns: Sequence[int], thresholds: float | Sequence[float]
) -> dict[str, float]:
    """mAP, and precision, recall and F1 of some labels as if there were no others; top-3 is among them."""
    if not isinstance(thresholds, float | int):
        thresholds = [thresholds[column] for column in columns]
    columns = list(columns)
    metrics = multi_label_metrics(logits[:, columns], labels[:, columns], thresholds=thresholds)
    return {name: value for name, value in metrics.items() if name == "map" or PRECISION_AND_RECALL.match(name)}


def evaluation_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean partial BCE over the known entries of all images, in float64, a block of images at a time."""
    total = num_known = 0.0
    for rows in blocks_of_rows(logits):
        losses, known = known_bce(torch.from_numpy(logits[rows]).double(), torch.from_numpy(labels[rows]))
        total += losses.sum().item()
        num_known += known.sum().item()
    return total / max(num_known, 1)


def logits_and_labels(output: Any) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of all images, `(num_images, num_labels)` each; with more outputs they come first."""
    logits = output.predictions[0] if isinstance(output.predictions, tuple) else output.predictions
    labels = output.label_ids[0] if isinstance(output.label_ids, tuple) else output.label_ids
    return np.asarray(logits), np.asarray(labels)
