"""The places of a photo that the cells of a feature map look at, and attention maps laid over the photo by them.

A cell does not look at its own square: padding, strides and pooling of even size move it, by up to half a cell and
more, and a crop shows a part of the photo only. So the centres are measured.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from .image_processing import processor_for

MEASURED_CELLS = 5  # per side; the centres of those between lie evenly between theirs
PIXELS = 448 * 448  # of all random inputs together, so that a large network is measured in seconds
MAX_INPUTS = 32
FINENESS = 4  # parts of a photo per cell


@dataclass(frozen=True)
class AttentionPlacement:
    """The centres of the cells of a feature map, and the part of a photo that the model sees.

    rows: `(map_height,)` centre of each row of cells, in pixels of the model's input from its upper edge.
    columns: `(map_width,)` the same from the left edge.
    image_size: (height, width) of the model's input.
    resized_to: what a photo is brought to before its centre is cut out, (height, width) or the shorter side; `None`
        where the input is all of it.
    """

    rows: np.ndarray
    columns: np.ndarray
    image_size: tuple[int, int]
    resized_to: tuple[int, int] | int | None = None

    @classmethod
    def of(cls, model: Any, processor: Any = None) -> Self | None:
        """That of a model of this library; `None` where its features are no map.

        Args:
            processor: its image processor, by default that of its config.

        Raises:
            ValueError: for a processor that does not say which part of a photo it gives the model.
        """
        image_size, resized_to = _part_seen(processor or processor_for(model.config))
        centres = cell_centres(model, image_size)
        return centres and cls(*centres, image_size, resized_to)

    def place(self, attention_maps: Tensor, photo_size: tuple[int, int]) -> np.ndarray:
        """Lay maps over a photo.

        Args:
            attention_maps: `(..., map_height, map_width)`.
            photo_size: (height, width) in pixels.

        Returns:
            `(..., rows, columns)`, each value for its equal part of the photo: linear between the centres of cells,
            falling to 0 within a cell beyond the outermost, and 0 outside the crop.
        """
        rows, columns = self._places(photo_size)
        down = _interpolation(self.rows, rows, self.image_size[0])
        across = _interpolation(self.columns, columns, self.image_size[1])
        return down @ attention_maps.float().cpu().numpy() @ across.T

    def peaks(self, attention_maps: Tensor, photo_size: tuple[int, int]) -> np.ndarray:
        """Places of a photo where maps have their maximum.

        Args:
            attention_maps: `(..., map_height, map_width)`.
            photo_size: (height, width) in pixels.

        Returns:
            `(..., 2)`: pixels from the left and from the upper edge of the photo.
        """
        cells = attention_maps.flatten(-2).argmax(dim=-1).cpu().numpy()
        points: list[np.ndarray] = []
        for side, seen, centres in zip(photo_size, self.image_size, self._centres_of(cells), strict=True):
            whole = self._whole(side, seen, photo_size, len(points))
            points.append((centres + (whole - seen) / 2) * side / whole)
        return np.stack(points[::-1], axis=-1)

    def _centres_of(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = np.unravel_index(cells, (len(self.rows), len(self.columns)))
        return self.rows[rows], self.columns[columns]

    def _whole(self, side: int, seen: int, photo_size: tuple[int, int], axis: int) -> float:
        """A side of the whole photo in pixels of the model's input, of which the model sees the middle."""
        if self.resized_to is None:
            return seen
        return (
            self.resized_to[axis] if isinstance(self.resized_to, tuple) else side * self.resized_to / min(photo_size)
        )

    def _places(self, photo_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Centres of the parts of a photo, in pixels of the model's input."""
        places: list[np.ndarray] = []
        for side, seen, cells in zip(photo_size, self.image_size, (self.rows, self.columns), strict=True):
            whole = self._whole(side, seen, photo_size, len(places))
            count = max(1, round(FINENESS * len(cells) * whole / seen))
            places.append((np.arange(count) + 0.5) * whole / count - (whole - seen) / 2)
        return places[0], places[1]


def _part_seen(processor: Any) -> tuple[tuple[int, int], tuple[int, int] | int | None]:
    """`image_size` and `resized_to` of what `processor` does."""
    size, crop = dict(processor.size), getattr(processor, "crop_size", None)
    resized_to: Any = (size["height"], size["width"]) if {*size} == {"height", "width"} else size.get("shortest_edge")
    if processor.do_resize and not getattr(processor, "do_pad", None) and "longest_edge" not in size and resized_to:
        if getattr(processor, "do_center_crop", None) and crop:
            return (crop["height"], crop["width"]), resized_to
        if isinstance(resized_to, tuple):
            return resized_to, None
    raise ValueError(
        "Attention can be laid over a photo where the image processor (preprocessor_config.json) resizes it to a "
        f"height and a width, or cuts out its centre, got `size` {size} with `do_resize` {processor.do_resize}, "
        f"`do_center_crop` {getattr(processor, 'do_center_crop', None)} and `do_pad` "
        f"{getattr(processor, 'do_pad', None)}."
    )


def cell_centres(model: Any, image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray] | None:
    """Centres of the rows and of the columns of a feature map, in pixels of the model's input.

    The centre of a cell is that of the squared gradient of its features with respect to the pixels, over random
    inputs. Squares, because the faint far ends of a large receptive field are cut off at the border of the image and
    would pull the mean to its middle.

    Args:
        model: its `encode` maps `(batch_size, 3, height, width)` to features, and it is left as it was.

    Returns:
        `(map_height,)` and `(map_width,)`; `None` where features are no map.
    """
    weight = next(model.parameters())
    generator = torch.Generator().manual_seed(0)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            num_inputs = min(MAX_INPUTS, max(1, PIXELS // (image_size[0] * image_size[1])))
            pixels = torch.randn(num_inputs, 3, *image_size, generator=generator).to(weight).requires_grad_()
            features = model.encode(pixels)
            if features.dim() != 4:
                return None
            mixture = torch.randn(features.shape[:2], generator=generator).to(features)
            cells = _chosen_cells(*features.shape[2:])
            maps = [
                _sensitivity(features[:, :, row, column], mixture, pixels) for row, column in zip(*cells, strict=True)
            ]
    finally:
        model.train(was_training)
    sensitivity = torch.stack(maps).double().cpu().numpy()  # (cells, height, width)
    return (
        _complete(cells[0], sensitivity.sum(axis=2), features.shape[2]),
        _complete(cells[1], sensitivity.sum(axis=1), features.shape[3]),
    )


def _chosen_cells(height: int, width: int) -> tuple[list[int], list[int]]:
    """Rows and columns of the cells that are measured, along the diagonal of the map."""
    count = min(MEASURED_CELLS, max(height, width))
    rows, columns = (np.linspace(0, side - 1, count).round().astype(int).tolist() for side in (height, width))
    return rows, columns


def _sensitivity(cell: Tensor, mixture: Tensor, pixels: Tensor) -> Tensor:
    """How much a cell, `(batch_size, channels)`, changes with each pixel, `(height, width)`."""
    gradient = torch.autograd.grad((cell * mixture).sum(), pixels, retain_graph=True)[0]
    return gradient.float().square().sum(dim=(0, 1))


def _complete(cells: list[int], weights: np.ndarray, count: int) -> np.ndarray:
    """Centres of all `count` cells from the `weights` of the pixels for some, `(len(cells), num_pixels)`."""
    total = weights.sum(axis=1)
    num_pixels = weights.shape[1]
    if not (np.isfinite(total).all() and (total > 0).all()):  # nothing reaches the features: as if on a grid
        return (np.arange(count) + 0.5) * num_pixels / count
    centres = weights @ (np.arange(num_pixels) + 0.5) / total
    measured, first = np.unique(cells, return_index=True)
    return np.interp(np.arange(count), measured, np.maximum.accumulate(centres[first]))


def _interpolation(centres: np.ndarray, places: np.ndarray, seen: int) -> np.ndarray:
    """`(num_places, num_cells)` weights: linear between cells a stride apart, a mean where they look at one place, and
    falling to 0 within a stride beyond the outermost and outside the `seen` pixels."""
    stride = seen / len(centres)
    weights = (1 - abs(places[:, None] - centres) / stride).clip(0)
    weights /= weights.sum(axis=1, keepdims=True).clip(1)
    weights[(places < 0) | (places > seen)] = 0
    return weights.astype(np.float32)
