"""Pictures of predictions: the photo, its labels, and where the model looked for each of them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..data.images.photos import open_image
from ..labels import NEGATIVE, POSITIVE
from .canvas import BLACK, GREEN, GREY, ORANGE, RED, Canvas, Line, cell_height, cut, write_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = 2.2  # inches, side of a photo or map
GAP = 0.12  # inches between cells
TITLE = 0.24  # inches above each row
FONT_SIZE, SPACING = 8.5, 12.5  # points
CHARACTER = 0.078  # inches, width of a letter
CHARACTERS = 22  # of a label name
COLOURS = {"correct": GREEN, "wrong": RED, "missed": ORANGE, "truth unknown": GREY}

Tags = Sequence[Mapping[str, Any]]


def plot_tags(
    images: Sequence[Any],
    tags: Sequence[Tags],
    truths: Sequence[Mapping[str, int]] | None = None,
    *,
    max_maps: int = 4,
    title: str | None = None,
) -> "Figure":
    """One row per image: the photo, its predicted and true labels, and the attention of the best predictions.

    Args:
        images: whatever `open_image` opens.
        tags: what the pipeline "image-tagging" returns, per image a list of `{"label", "score"}`, with `attention_map`
            where there is one.
        truths: per image the truth, from label name to -1, 0 or +1; with it, green is right and red is wrong.
        max_maps: maps per row at most.
        title: above the whole picture.
    """
    if not len(images) or len(images) != len(tags):
        raise ValueError(f"`images` and `tags` must have one entry per image, got {len(images)} and {len(tags)}.")
    pictures = [open_image(image) for image in images]
    known = [None] * len(images) if truths is None else truths
    lines = [_describe(row, truth) for row, truth in zip(tags, known, strict=True)]
    maps = [[tag for tag in row if tag.get("attention_map") is not None][:max_maps] for row in tags]
    heights = [
        max(cell_height(image, CELL), len(rows) * SPACING / 72) for image, rows in zip(pictures, lines, strict=True)
    ]
    text_width = max(len(text) for rows in lines for text, _ in rows) * CHARACTER
    maps_start = CELL + text_width + 3 * GAP

    top, bottom = (0.5 if title else GAP), (GAP if truths is None else 0.35)
    width = maps_start + max(len(row) for row in maps) * (CELL + GAP)
    canvas = Canvas(width, top + sum(heights) + len(images) * (TITLE + GAP) + bottom)
    if title:
        canvas.write(GAP, 0.15, title, fontsize=12, color=BLACK)
    y = top
    for i, image in enumerate(pictures):
        y += TITLE
        canvas.cell(GAP, y, CELL, heights[i]).imshow(image)
        write_lines(canvas.cell(2 * GAP + CELL, y, text_width, heights[i]), lines[i], FONT_SIZE, SPACING)
        for j, tag in enumerate(maps[i]):
            axes = canvas.cell(maps_start + j * (CELL + GAP), y, CELL, heights[i])
            draw_attention(axes, image, tag["attention_map"])
            text = f"{cut(tag['label'], CHARACTERS)}  {tag['score']:.2f}"
            axes.set_title(text, fontsize=9, color=_colour(tag["label"], known[i]), pad=3, parse_math=False)
        y += heights[i] + GAP
    if truths is not None:
        _write_legend(canvas, y + 0.08)
    return canvas.figure


def draw_attention(axes: "Axes", image: Image.Image, attention_map: np.ndarray) -> None:
    """Show `attention_picture`."""
    axes.imshow(attention_picture(image, attention_map))


def attention_picture(image: Image.Image, attention_map: np.ndarray) -> Image.Image:
    """`attention_map`, `(map_height, map_width)`, over the greyed `image`; even attention stays dark."""
    from matplotlib import colormaps

    attention_map = np.asarray(attention_map, np.float32)
    low, high = attention_map.min(), attention_map.max()
    heat = (attention_map - low) / max(high - low, attention_map.mean(), np.finfo(np.float32).tiny)
    heat = np.asarray(Image.fromarray(heat).resize(image.size, Image.Resampling.BICUBIC)).clip(0, 1)
    grey = np.asarray(image.convert("L"), np.float32)[..., None]
    opacity = (0.15 + 0.6 * heat)[..., None]
    colour = colormaps["inferno"](heat, bytes=True)[..., :3]
    return Image.fromarray(np.rint(opacity * colour + (1 - opacity) * grey).astype(np.uint8))


def _describe(tags: Tags, truth: Mapping[str, int] | None) -> list[Line]:
    """The list of labels beside a photo: what is predicted, then what is missed."""
    lines = [(f"{tag['score']:.2f}  {cut(tag['label'], CHARACTERS)}", _colour(tag["label"], truth)) for tag in tags]
    if not tags:
        lines.append(("nothing found", GREY))
    if truth is not None:
        found = {tag["label"] for tag in tags}
        missed = [name for name, value in truth.items() if value == POSITIVE and name not in found]
        lines += [(f"missed  {cut(name, CHARACTERS)}", COLOURS["missed"]) for name in missed]
    room = int(CELL * 72 // SPACING)
    return lines if len(lines) <= room else lines[: room - 1] + [(f"and {len(lines) - room + 1} more", GREY)]


def _colour(name: str, truth: Mapping[str, int] | None) -> str:
    """Colour of a predicted label."""
    if truth is None:
        return BLACK
    return COLOURS[{POSITIVE: "correct", NEGATIVE: "wrong"}.get(truth[name], "truth unknown")]


def _write_legend(canvas: Canvas, y: float) -> None:
    x = GAP
    for name, colour in COLOURS.items():
        canvas.write(x, y, f"■ {name}", color=colour, fontsize=FONT_SIZE)
        x += 0.35 + CHARACTER * len(name)
