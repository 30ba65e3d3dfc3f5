"""Figures as papers have them: curves, matrices, points in two dimensions, and photos that resemble a photo."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .canvas import BLACK, GREEN, GREY, ORANGE, Canvas, cut
from .proportions import STYLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMED = 90  # rows of a matrix that get their names
MAX_NAME = 24  # characters
MARKERS = 30  # points of a curve up to which each gets a marker
THUMBNAIL = 1.05  # inches

Curves = Mapping[str, Sequence[tuple[float, float]]]


def plot_curves(panels: Mapping[str, Curves], x_label: str, y_scale: str = "linear") -> "Figure":
    """One panel for each number, one line in it for each run.

    Args:
        panels: by what the y axis shows, the points `(x, y)` of each line by its name.
    """
    figure, grid = _panels(len(panels), 4.6, 3.4)
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    styles = {name: STYLES[i % len(STYLES)] for i, name in enumerate(names)}
    for axes, (number, curves) in zip(grid, panels.items(), strict=False):
        for name, points in curves.items():
            colour, marker = styles[name]
            shown = marker if len(points) <= MARKERS else None
            axes.plot(
                *zip(*points, strict=True), color=colour, marker=shown, markersize=4, linewidth=1.4, label=_text(name)
            )
        axes.set_yscale(y_scale, **({"linthresh": 1} if y_scale == "symlog" else {}))
        _finish(axes, x_label, number)
        axes.legend(frameon=False, fontsize=8)
    return figure


def plot_matrix(
    matrix: np.ndarray,
    names: Sequence[str],
    title: str,
    bar: str,
    marked: Mapping[str, str] | None = None,
    photo: Any = None,
) -> "Figure":
    """A square matrix over labels as a heat map.

    Args:
        bar: what the colours show.
        marked: colours of the names of some labels.
        photo: stands beside it.
    """
    from matplotlib.figure import Figure

    named = len(names) <= MOST_NAMED
    side = max(3.6, 0.17 * len(names) if named else 8.0)
    width = side + 2.2 + (0.0 if photo is None else 2.8)
    figure = Figure(figsize=(width, side + 1.4), facecolor="white", layout="constrained")
    axes: Any
    if photo is None:
        axes = figure.subplots()
    else:
        beside, axes = figure.subplots(1, 2, width_ratios=[2.8, side + 2.2])
        beside.imshow(photo)
        beside.set_axis_off()
    image = axes.imshow(matrix, cmap="viridis", interpolation="nearest")
    if named:
        size = 8 if len(names) <= 40 else 6
        ticks = range(len(names))
        axes.set_xticks(ticks, [_text(name) for name in names], rotation=90, fontsize=size)
        axes.set_yticks(ticks, [_text(name) for name in names], fontsize=size)
        for label in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
            label.set_color((marked or {}).get(label.get_text(), BLACK))
    axes.set_title(title, fontsize=10, color=BLACK)
    figure.colorbar(image, ax=axes, shrink=0.8).set_label(bar, color=BLACK)
    return figure


def plot_points(points: np.ndarray, names: Sequence[str], title: str) -> "Figure":
    """Labels as points in two dimensions, `(num_labels, 2)`, with their names."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 6.5), facecolor="white", layout="constrained")
    axes = figure.subplots()
    axes.scatter(points[:, 0], points[:, 1], s=18, color=STYLES[0][0])
    for point, name in zip(points, names, strict=True):
        axes.annotate(_text(name), point, (3, 2), textcoords="offset points", fontsize=7, color=BLACK)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=10, color=BLACK)
    return figure


def plot_prevalence(runs: Mapping[str, Sequence[tuple[str, int, float]]]) -> "Figure":
    """Average precision of each label over the number of training images that are known to show it.

    Args:
        runs: by its name, for each label its name, that number, and its average precision in percent. A line joins the
            same label of two runs.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.6), facecolor="white", layout="constrained")
    axes = figure.subplots()
    for (name, labels), (colour, marker) in zip(runs.items(), STYLES, strict=False):
        counts, values = [max(1, count) for _, count, _ in labels], [value for _, _, value in labels]
        mean = float(np.mean(values))
        axes.scatter(
            counts, values, s=22, color=colour, marker=marker, label=f"{_text(name)}, mean {mean:.1f}", zorder=3
        )
    if len(runs) == 2:
        first, second = ({label: (max(1, n), value) for label, n, value in labels} for labels in runs.values())
        for label in first.keys() & second.keys():
            axes.plot(*zip(first[label], second[label], strict=True), color=GREY, linewidth=0.7, alpha=0.6)
    if all(len(labels) <= MOST_NAMED for labels in runs.values()):
        for label, count, value in next(iter(runs.values())):
            axes.annotate(
                _text(label), (max(1, count), value), (4, 3), textcoords="offset points", fontsize=7, color=GREY
            )
    counts = [max(1, count) for labels in runs.values() for _, count, _ in labels]
    if max(counts) > 10 * min(counts):
        axes.set_xscale("log")
    _finish(axes, "training images that are known to show the label", "average precision, in percent")
    axes.legend(frameon=False, fontsize=8)
    return figure


def plot_neighbours(
    photo: Any, rows: Sequence[tuple[str, float, float, Sequence[tuple[Any, float]]]], title: str
) -> "Figure":
    """A photo, and for some labels the photos of a bank that resemble it most.

    Args:
        rows: for each label its name, the mean similarity to its bank, the threshold that completes it, and photos of
            the bank with their similarity.
    """
    most = max((len(neighbours) for *_, neighbours in rows), default=0)
    height = THUMBNAIL + 0.42
    left = 3.0
    canvas = Canvas(left + 1.9 + most * (THUMBNAIL + 0.12) + 0.2, max(3.2, 0.75 + len(rows) * height))
    canvas.write(0.2, 0.15, title, fontsize=10, color=BLACK)
    canvas.cell(0.2, 0.6, 2.4, 2.4).imshow(photo)
    for i, (name, mean, threshold, neighbours) in enumerate(rows):
        y = 0.6 + i * height
        is_completed = mean >= threshold
        colour = GREEN if is_completed else GREY
        canvas.write(left, y + 0.1, cut(name, MAX_NAME), fontsize=9, color=colour, weight="bold")
        canvas.write(left, y + 0.32, f"mean {mean:.3f}", fontsize=8, color=BLACK)
        verdict = f"{'completed' if is_completed else 'not completed'}: {'≥' if is_completed else '<'} {threshold:.2f}"
        canvas.write(left, y + 0.5, verdict, fontsize=8, color=colour)
        for j, (neighbour, similarity) in enumerate(neighbours):
            x = left + 1.9 + j * (THUMBNAIL + 0.12)
            canvas.cell(x, y, THUMBNAIL, THUMBNAIL).imshow(neighbour)
            canvas.write(x, y + THUMBNAIL + 0.03, f"{similarity:.3f}", fontsize=7, color=ORANGE)
    return canvas.figure


def _panels(count: int, width: float, height: float) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure

    columns = min(3, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(columns * width, rows * height), facecolor="white", layout="constrained")
    grid: Any = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[count:]:
        axes.remove()
    return figure, list(grid.flat[:count])


def _finish(axes: "Axes", x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label, color=BLACK)
    axes.set_ylabel(y_label, color=BLACK)
    axes.grid(color=GREY, alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)


def _text(name: str) -> str:
    return cut(name, MAX_NAME).replace("$", r"\$")  # "$" would begin a formula
