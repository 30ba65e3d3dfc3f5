"""Pictures of a data set: photos with the labels that are known, and how many are not."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.images.photos import open_image
from ..labels import NEGATIVE, POSITIVE, UNKNOWN, check_labels
from .canvas import BLACK, GREEN, GREY, ORANGE, Canvas, Line, cell_height, wrap_names, write_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL = 2.7  # inches, width of a photo and of the text below it
CHARACTERS = 40  # per line of text below a photo
FONT_SIZE, SPACING = 8.0, 11.5  # points
GAP = 0.3  # inches between cells


def plot_examples(
    images: Sequence[Any],
    labels: np.ndarray,
    names: Sequence[str],
    full_labels: np.ndarray | None = None,
    *,
    columns: int = 4,
    title: str | None = None,
) -> "Figure":
    """A grid of photos, each with its known labels: "+" present, "−" absent, "?" how many are unknown.

    Args:
        images: whatever `open_image` opens.
        labels: `(num_images, num_labels)` in {-1, 0, +1}.
        full_labels: the labels before a protocol hid some; present ones that were hidden are shown as such.
        columns: photos per row.
        title: above the whole picture.
    """
    _check(images, labels, names, full_labels)
    texts = [_describe(labels[i], names, None if full_labels is None else full_labels[i]) for i in range(len(images))]
    return plot_captioned(images, texts, columns=columns, title=title)


def plot_captioned(
    images: Sequence[Any], texts: Sequence[Sequence[Line]], *, columns: int = 4, title: str | None = None
) -> "Figure":
    """A grid of photos with lines of text below each.

    Args:
        images: whatever `open_image` opens.
        texts: one list of lines per image, of at most `CHARACTERS` characters.
    """
    if not len(images) or len(images) != len(texts):
        raise ValueError(f"`images` and `texts` must have one entry per image, got {len(images)} and {len(texts)}.")
    columns = max(1, min(columns, len(images)))
    pictures = [open_image(image) for image in images]
    rows = [range(start, min(start + columns, len(images))) for start in range(0, len(images), columns)]
    photo_heights = [max(cell_height(pictures[i], CELL) for i in row) for row in rows]
    text_heights = [max(len(texts[i]) for i in row) * SPACING / 72 + 0.1 for row in rows]

    y = 0.55 if title else GAP
    canvas = Canvas(columns * (CELL + GAP) + GAP, y + sum(photo_heights) + sum(text_heights) + len(rows) * GAP)
    if title:
        canvas.write(GAP, 0.18, title, fontsize=12, color=BLACK)
    for row, photo_height, text_height in zip(rows, photo_heights, text_heights, strict=True):
        for column, i in enumerate(row):
            x = GAP + column * (CELL + GAP)
            canvas.cell(x, y, CELL, photo_height, anchor="S").imshow(pictures[i])
            text = canvas.cell(x, y + photo_height + 0.08, CELL, text_height)
            write_lines(text, texts[i], FONT_SIZE, SPACING)
        y += photo_height + text_height + GAP
    return canvas.figure


def _describe(labels: np.ndarray, names: Sequence[str], full_labels: np.ndarray | None) -> list[Line]:
    """Lines that stand below a photo."""
    present = [name for name, label in zip(names, labels, strict=True) if label == POSITIVE]
    absent = [name for name, label in zip(names, labels, strict=True) if label == NEGATIVE]
    unknown = int((labels == UNKNOWN).sum())
    lines = [(line, GREEN) for line in wrap_names("+ ", present, CHARACTERS, 3)]
    lines += [(line, GREY) for line in wrap_names("− ", absent, CHARACTERS, 2)]
    if unknown:
        lines.append((f"? {unknown} of {len(names)} unknown", GREY))
    if full_labels is not None:
        hidden = (full_labels == POSITIVE) & (labels == UNKNOWN)
        hidden_names = [name for name, is_hidden in zip(names, hidden, strict=True) if is_hidden]
        lines += [(line, ORANGE) for line in wrap_names("hidden: ", hidden_names, CHARACTERS, 2)]
    return lines


def _check(images: Sequence, labels: np.ndarray, names: Sequence[str], full_labels: np.ndarray | None) -> None:
    if not len(images):
        raise ValueError("`images` must hold at least one image, got none.")
    if len(images) != len(labels):
        raise ValueError(f"`images` and `labels` must have one entry per image, got {len(images)} and {len(labels)}.")
    check_labels(labels, len(names))
    if full_labels is not None and full_labels.shape != labels.shape:
        raise ValueError(f"`full_labels` must have the shape of `labels`, {labels.shape}, got {full_labels.shape}.")
