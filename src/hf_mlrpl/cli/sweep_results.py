"""Results of a sweep: tables in Markdown and LaTeX, and a chart."""

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    character: f"\\{character}" for character in "&%$#_{}"
}
_IN_WORDS = {
    "map": "mAP",
    "map_interpolated": "mAP (VOC 2012)",
    "mean_f1": "mean F1",
    "mean_f1_chosen": "mean F1 at chosen thresholds",
}
_IMAGES = {"test": "test images", "validation": "validation images"}


@dataclass(frozen=True)
class Cell:
    """The values of one number over the seeds that have run.

    planned: number of seeds.
    run: number of seeds that have run; a method may not have the number, then it has no values.
    """

    values: Sequence[float]
    run: int
    planned: int

    def text(self, plus_minus: str) -> str:
        if not self.run:
            return "not run" if self.planned else ""
        if not self.values:
            return "-"
        text = f"{statistics.mean(self.values):.1f}"
        if len(self.values) > 1:
            text += f"{plus_minus}{statistics.stdev(self.values):.1f}"
        if len(self.values) < self.planned:
            text += f" ({len(self.values)} of {self.planned} seeds)"
        return text


@dataclass(frozen=True)
class Published:
    """A number of a paper, as it is printed there."""

    value: float | None

    def text(self, plus_minus: str) -> str:
        return "" if self.value is None else f"{self.value}"


class HasText(Protocol):
    """A cell of a table."""

    def text(self, plus_minus: str) -> str: ...


@dataclass(frozen=True)
class Table:
    """Rows with a name and a cell for every column."""

    columns: Sequence[str]
    rows: Mapping[str, Sequence[HasText]]

    def to_markdown(self) -> str:
        lines = [["method", *self.columns]]
        lines += [[name, *(cell.text(" ± ") for cell in cells)] for name, cells in self.rows.items()]
        texts = ["| " + " | ".join(line) + " |" for line in lines]
        return "\n".join([texts[0], "|---" * len(lines[0]) + "|", *texts[1:]]) + "\n"

    def to_latex(self) -> str:
        """For the package booktabs."""
        lines = [[_escape(text) for text in ["method", *self.columns]]]
        lines += [[_escape(name), *(cell.text(r" $\pm$ ") for cell in cells)] for name, cells in self.rows.items()]
        texts = [" & ".join(line) + r" \\" for line in lines]
        begin, end = rf"\begin{{tabular}}{{l{'r' * len(self.columns)}}}", r"\end{tabular}"
        return "\n".join([begin, r"\toprule", texts[0], r"\midrule", *texts[1:], r"\bottomrule", end]) + "\n"


def chart(
    series: Mapping[str, Mapping[float, Sequence[float]]],
    metric: str,
    axis: str,
    published: Mapping[str, Mapping[float, float]],
) -> "Figure | None":
    """`metric` over the setting `axis`, beside what was published; `None` if ours has fewer than two places there."""
    from ..visualization.proportions import KNOWN, plot_over_proportions

    name = KNOWN if axis in ("data.proportion", "data.fraction") else axis.partition(".")[2]

    if len({x for values in series.values() for x, seeds in values.items() if seeds}) < 2:
        return None
    return plot_over_proportions(series, in_words(metric), axis=name, published=published)


def in_words(metric: str) -> str:
    """`test_map` as "mAP on test images"."""
    images, _, name = metric.partition("_")
    return f"{_IN_WORDS.get(name, name)} on {_IMAGES[images]}" if images in _IMAGES else metric.replace("_", " ")


def _escape(text: str) -> str:
    return re.sub("|".join(map(re.escape, _LATEX)), lambda match: _LATEX[match.group()], text)
