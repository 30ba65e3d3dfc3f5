"""Parts that all pictures share: a page measured in inches, colours, and lines of text."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREEN, RED, ORANGE, GREY, BLACK = "#15803d", "#dc2626", "#d97706", "#6b7280", "#111827"

Line = tuple[str, str]  # text, colour


class Canvas:
    """A figure whose parts are placed in inches from its top left corner. It needs no display and no pyplot state."""

    def __init__(self, width: float, height: float):
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), facecolor="white")

    def cell(self, x: float, y: float, width: float, height: float, anchor: str = "N") -> "Axes":
        """Empty axes without a frame; a photo that does not fill them sits at the side named by `anchor`."""
        bottom = self.height - y - height
        box = (x / self.width, bottom / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box, anchor=anchor)
        axes.set_axis_off()
        return axes

    def write(self, x: float, y: float, text: str, **style: Any) -> None:
        self.figure.text(x / self.width, 1 - y / self.height, text, va="top", parse_math=False, **style)


def cell_height(image: Image.Image, side: float) -> float:
    """Height of `image` when it fits into a square of `side`."""
    return side * min(1.0, image.height / image.width)


def cut(text: str, width: int) -> str:
    """`text` in at most `width` characters, cut with an ellipsis."""
    return text if len(text) <= width else text[: width - 1] + "…"


def wrap_names(lead: str, names: Sequence[str], width: int, max_lines: int) -> list[str]:
    """`lead` and the comma-separated names in lines of `width` characters; what does not fit is counted."""
    names = [cut(name, width - len(lead) - 1) for name in names]
    for shown in range(len(names), 0, -1):
        more = f" and {len(names) - shown} more" if shown < len(names) else ""
        text = lead + ", ".join(names[:shown]) + more
        lines = textwrap.wrap(text, width, subsequent_indent=" " * len(lead), break_on_hyphens=False)
        if len(lines) <= max_lines:
            return lines
    return [f"{lead}{len(names)} labels"] if names else []


def write_lines(axes: "Axes", lines: Sequence[Line], size: float, spacing: float) -> None:
    """Write `lines` below each other from the top left corner of `axes`, `spacing` points apart."""
    for i, (text, colour) in enumerate(lines):
        axes.annotate(
            text,
            (0, 1),
            xycoords="axes fraction",
            xytext=(0, -i * spacing),
            textcoords="offset points",
            color=colour,
            fontsize=size,
            va="top",
            parse_math=False,
        )
