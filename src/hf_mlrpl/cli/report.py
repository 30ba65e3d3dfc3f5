"""Metrics on the screen, and the report of each label as files."""

import csv
import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from ..faults import writing

if TYPE_CHECKING:
    from ..metrics.label_report import LabelReport

MAIN = ("map", "cf1", "of1", "cf1_chosen", "of1_chosen", "mean_f1_chosen")  # on the screen after a training
REPORT = "report_{}"  # folder in that of a run, by the part of the data
REPORT_FILES = ("report.json", "labels.csv", "average_precision.png", "precision_recall.png")
SHOWN_LABELS = 10
NUMBERS = ("average_precision", "precision", "recall", "f1")

_IN_WORDS = {
    "loss": "mean binary cross-entropy of the known labels",
    "map": "mean over labels of the average precision",
    "map_interpolated": "the same in the form of VOC 2012, never smaller",
    "cp": "mean over labels of the precision",
    "cr": "mean over labels of the recall",
    "cf1": "harmonic mean of CP and CR",
    "op": "precision of all labels together",
    "or": "recall of all labels together",
    "of1": "harmonic mean of OP and OR",
    "mean_f1": "mean over labels of F1",
}
_THRESHOLDS = {
    "": ", from a score of 0.5 on",
    "_top3": ", the best three of each image, from 0.5 on",
    "_chosen": ", at the chosen thresholds",
}
_OTHERS = {
    "labels_without_positives": "labels that no image is known to show: not measured",
    "labels_without_negatives": "labels that no image is known to lack: without average precision",
    "train_seconds": "all of this run",
    "runtime": "seconds for all images",
    "samples_per_second": "images in a second",
    "steps_per_second": "batches in a second",
}


_LESS_IS_BETTER = ("loss", "seconds", "runtime", "labels_without_positives", "labels_without_negatives")


def less_is_better(name: str) -> bool:
    """Whether a smaller value of a metric is the better one."""
    return name.endswith(_LESS_IS_BETTER)


def explain(name: str) -> str:
    """What a metric is, without the part of the data in front of its name; empty if nobody knows."""
    if name in _OTHERS:
        return _OTHERS[name]
    end = next((end for end in ("_top3", "_chosen") if name.endswith(end)), "")
    words = _IN_WORDS.get(name.removesuffix(end), "")
    plain = not words or name in ("loss", "map", "map_interpolated")
    return words if plain else words + _THRESHOLDS[end]


def format_metrics(metrics: dict[str, float], only: Iterable[str] | None = None) -> str:
    """A line for each number: its name, its value, and what it is.

    Args:
        only: the metrics to show, without the part of the data in front of their names; by default all.
    """
    chosen = None if only is None else set(only)
    lines = []
    for name, value in metrics.items():
        part, _, rest = name.partition("_")
        known = explain(name) or explain(rest) or explain(rest.partition("_")[2])  # behind `seen_` and `unseen_`
        if isinstance(value, int | float) and (chosen is None or name in chosen or rest in chosen):
            lines.append(f"{name:<32}{value:>8.4g}  {known}".rstrip())
    return "\n".join(lines)


def format_labels(report: "LabelReport") -> str:
    """A table of the worst labels, and what cannot be measured."""
    shown = report.worst_first[:SHOWN_LABELS]
    width = min(40, max(len(result.label) for result in [*shown]) if shown else 0)
    lines = [f"{'worst labels':<{max(width, 12)}}      AP  precision  recall     F1  threshold  known + and -"]
    for result in shown:
        numbers = [_number(getattr(result, name)) for name in NUMBERS]
        lines.append(
            f"{result.label[:40]:<{max(width, 12)}}  {numbers[0]:>6}  {numbers[1]:>9}  {numbers[2]:>6} {numbers[3]:>6}"
            f"  {result.threshold:>9.3f}  {result.positives} and {result.negatives}"
        )
    return "\n".join(lines + [f"warning: {message}" for message in report.warnings])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def save_report(
    folder: Path, report: "LabelReport", metrics: dict[str, float], part: str, *, with_pictures: bool = True
) -> None:
    """Write `labels.csv`, `report.json`, and pictures where anything can be drawn.

    Args:
        part: of the data that was measured, such as "test".
    """
    from ..data.files import replace_text
    from ..metrics.label_report import LabelResult

    rows = [asdict(result) for result in report.worst_first]
    content = {"part": part, "metrics": metrics, "labels": rows, "warnings": report.warnings}
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(folder / "report.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(LabelResult)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        if with_pictures and any(value is not None for value in report.average_precision):
            from ..visualization.label_report import plot_average_precision, plot_precision_recall

            plot_average_precision(report).savefig(folder / "average_precision.png", dpi=110)
            plot_precision_recall(report).savefig(folder / "precision_recall.png", dpi=110)
