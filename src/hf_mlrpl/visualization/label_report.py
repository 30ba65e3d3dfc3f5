"""Pictures of what a model knows of each label: average precisions, and curves of precision over recall."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..labels import POSITIVE, UNKNOWN
from ..metrics.label_report import LabelReport
from .canvas import BLACK, GREY, ORANGE, cut

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE = "#0072b2"
MOST_BARS = 80
MOST_CURVES, COLUMNS = 24, 6
FEW = 20  # known positives, with which an average precision says little
MAX_NAME = 30  # characters


def plot_average_precision(report: LabelReport) -> "Figure":
    """A bar for each label, the worst first, with its known positives; orange where these are few.

    Raises:
        ValueError: if no label has an average precision.
    """
    from matplotlib.figure import Figure

    results = [result for result in report.worst_first if result.average_precision is not None]
    if not results:
        raise ValueError("No label has an average precision, so there is nothing to draw.")
    shown, everyone = results[:MOST_BARS], [result.average_precision or 0.0 for result in results]
    figure = Figure(figsize=(7.5, 1.2 + 0.2 * len(shown)), facecolor="white", layout="constrained")
    axes = figure.subplots()
    values = [result.average_precision or 0.0 for result in shown]
    colours = [ORANGE if result.positives < FEW else BLUE for result in shown]
    axes.barh(range(len(shown)), values, color=colours, height=0.7)
    for row, (result, value) in enumerate(zip(shown, values, strict=True)):
        text = f"{value:.0f}  ({result.positives})"
        inside = value > 88
        axes.annotate(
            text, (value, row), (-3 if inside else 3, 0), textcoords="offset points", va="center", fontsize=7,
            ha="right" if inside else "left", color="white" if inside else BLACK,
        )  # fmt: skip
    mean = float(np.mean(everyone))
    axes.axvline(mean, color=GREY, linewidth=1, linestyle="--", zorder=0)
    axes.set_yticks(range(len(shown)), [_name(result.label) for result in shown], fontsize=8)
    axes.set(xlim=(0, 100), ylim=(len(shown) - 0.4, -0.6))
    part = f"the worst {len(shown)} of {len(results)} labels" if len(results) > len(shown) else f"{len(shown)} labels"
    axes.set_title(f"{part}; mean of all {mean:.1f} (dashed)", fontsize=9, color=BLACK)
    axes.set_xlabel(
        f"average precision in percent (known positives; orange: fewer than {FEW})", fontsize=8, color=BLACK
    )
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_precision_recall(report: LabelReport) -> "Figure":
    """Precision over recall of the worst labels that can be measured; a dot is the threshold, a line the base rate."""
    from matplotlib.figure import Figure
    from sklearn.metrics import precision_recall_curve

    measured = [label for label in report.order if report.results[label].average_precision is not None]
    if not measured:
        raise ValueError("No label has an average precision, so there is nothing to draw.")
    shown = measured[:MOST_CURVES]
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(max(4.2, 2.1 * columns + 0.6), 2.1 * rows + 0.8), facecolor="white", layout="constrained")
    grid: Any = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, label in zip(grid.flat, shown, strict=False):
        result, known = report.results[label], report.labels[:, label] != UNKNOWN
        truths = report.labels[known, label] == POSITIVE
        precision, recall, _ = precision_recall_curve(truths, report.scores[known, label])
        axes.axhline(100 * truths.mean(), color=GREY, linewidth=0.8, linestyle=":")
        axes.step(100 * recall, 100 * precision, where="post", color=BLUE, linewidth=1.2)
        if result.precision is not None and result.recall is not None:
            axes.plot(result.recall, result.precision, "o", color=ORANGE, markersize=5, clip_on=False)
        axes.set_title(f"{_name(result.label)}: AP {result.average_precision:.0f}", fontsize=8, color=BLACK)
        axes.set(xlim=(0, 100), ylim=(0, 100))
        axes.tick_params(labelsize=7, labelbottom=True)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid.flat[len(shown) :]:
        axes.remove()
    part = f"the worst {len(shown)} of {len(measured)} labels" if len(measured) > len(shown) else "worst label first"
    figure.suptitle(f"{part}\nAP: average precision, dot: at the threshold, dotted: guessing", fontsize=9)
    figure.supxlabel("recall in percent", fontsize=8)
    figure.supylabel("precision in percent", fontsize=8)
    return figure


def _name(label: str) -> str:
    return cut(label, MAX_NAME).replace("$", r"\$")  # "$" would begin a formula
