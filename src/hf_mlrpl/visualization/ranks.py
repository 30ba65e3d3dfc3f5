"""A chart of mean ranks, with lines that join those which are within chance."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .canvas import BLACK, GREY, ORANGE, cut

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_NAME = 40  # characters


def plot_mean_ranks(ranks: Mapping[str, float], critical_difference: float) -> "Figure":
    """A line for each name, the best first. Bars join names whose mean ranks differ by less than the critical
    difference: nothing tells them apart (Demsar, JMLR 2006, Figure 1)."""
    from matplotlib.figure import Figure

    names = sorted(ranks, key=lambda name: ranks[name])
    places = [ranks[name] for name in names]
    figure = Figure(figsize=(7.5, 0.8 + 0.27 * len(names)), facecolor="white", layout="constrained")
    axes = figure.subplots()
    axes.plot(places, range(len(names)), "o", color=BLACK)
    for first, last in _groups(places, critical_difference):
        axes.plot([places[first], places[last]], [last + 0.3] * 2, color=ORANGE, linewidth=2.5)
    axes.set_yticks(range(len(names)), [cut(name, MAX_NAME) for name in names])
    axes.invert_yaxis()
    axes.grid(axis="y", color=GREY, alpha=0.2)
    axes.set_xlabel(
        f"mean rank, 1 is best; lines join what differs by less than {critical_difference:.1f} (Nemenyi, 5 %)",
        color=BLACK,
    )
    return figure


def _groups(places: list[float], critical_difference: float) -> list[tuple[int, int]]:
    """First and last of the longest runs of sorted `places` that are closer than the critical difference."""
    found: list[tuple[int, int]] = []
    for first, place in enumerate(places):
        last = max(index for index, other in enumerate(places) if other - place < critical_difference)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found
