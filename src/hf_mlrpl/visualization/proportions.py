"""A chart of one number of many runs over the proportion of known labels, or over another setting."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from .canvas import BLACK, GREY, cut

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The colours of Okabe and Ito that stand out on white, and a marker for whoever does not see them.
STYLES = tuple(
    zip(("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"), "osD^vPX", strict=True)
)
PANEL_WIDTH, PANEL_HEIGHT = 7.5, 4.2  # inches, with the legend beside it
MAX_NAME = 40  # characters

KNOWN = "known labels, in percent"

Line = list[tuple[float, float, float]]  # place on the x axis, mean, deviation


def plot_over_proportions(
    series: Mapping[str, Mapping[float, Sequence[float]]],
    number: str,
    *,
    axis: str = KNOWN,
    published: Mapping[str, Mapping[float, float]] | None = None,
) -> "Figure":
    """One line per entry of `series`: the mean over seeds, in a band of one standard deviation.

    A panel shows seven lines; where there are more, each panel has those of the others in grey. Its legend is in the
    order of the lines at their right ends.

    Args:
        series: for every name the values of its seeds, by proportion in (0, 1], or by what `axis` names.
        number: what the values are, in words, for the y axis.
        axis: what the x axis shows. Proportions are shown in percent, everything else as it is.
        published: numbers of a paper for the same names; dotted lines of the same colours.
    """
    from matplotlib.figure import Figure

    scale = 100 if axis == KNOWN else 1
    lines = {name: line for name, values in series.items() if (line := _line(values, scale))}
    dotted = {
        name: sorted((scale * x, value) for x, value in (published or {}).get(name, {}).items()) for name in lines
    }
    if not lines:
        raise ValueError("There is nothing to plot: no run has a value.")
    names = list(lines)
    panels = [names[start : start + len(STYLES)] for start in range(0, len(names), len(STYLES))]
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(columns * PANEL_WIDTH, rows * PANEL_HEIGHT), facecolor="white", layout="constrained")
    grid: Any = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, panel in zip(grid.flat, panels, strict=False):
        for name in names:
            if name not in panel:
                axes.plot(*_points(lines[name]), color=GREY, alpha=0.25, linewidth=0.8)
        _draw(axes, {name: lines[name] for name in panel}, dotted)
        axes.tick_params(labelbottom=True, labelleft=True)
        axes.set_xticks(sorted({x for line in lines.values() for x, _, _ in line}))
        axes.set_xlabel(axis, color=BLACK)
        axes.set_ylabel(f"{number}, in percent", color=BLACK)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    return figure


def _line(values: Mapping[float, Sequence[float]], scale: float) -> Line:
    return [
        (scale * x, mean(seeds), stdev(seeds) if len(seeds) > 1 else 0.0)
        for x, seeds in sorted(values.items())
        if seeds
    ]


def _points(line: Line) -> tuple[list[float], list[float]]:
    return [x for x, _, _ in line], [center for _, center, _ in line]


def _draw(axes: "Axes", lines: dict[str, Line], dotted: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Lines in their colours, with bands, what was published, and a legend."""
    handles = {}
    for (name, line), (colour, marker) in zip(lines.items(), STYLES, strict=False):
        places, means = _points(line)
        (handles[name],) = axes.plot(places, means, color=colour, marker=marker, linewidth=1.4, markersize=5)
        low, high = ([center + side * spread for _, center, spread in line] for side in (-1, 1))
        axes.fill_between(places, low, high, color=colour, alpha=0.12, linewidth=0)
        if dotted[name]:
            axes.plot(*zip(*dotted[name], strict=True), color=colour, linestyle=":", linewidth=1.2)
    if any(dotted[name] for name in lines):
        handles["published"] = axes.plot([], [], color=BLACK, linestyle=":", linewidth=1.2)[0]
    names = sorted(lines, key=lambda name: lines[name][-1], reverse=True)
    names += ["published"] if "published" in handles and "published" not in lines else []
    axes.grid(color=GREY, alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        [handles[name] for name in names],
        [cut(name, MAX_NAME).replace("$", r"\$") for name in names],  # "$" would begin a formula
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        frameon=False,
        fontsize=8,
    )
