"""Where the cells of a map are, in sines and cosines, as in DETR (Carion et al., ECCV 2020)."""

import math

import torch
from torch import Tensor


def sine_positions(height: int, width: int, dim: int, device: torch.device | None = None) -> Tensor:
    """Positions of the cells of a map, row by row, `(height * width, dim)` in float32.

    The first half of the channels tells the row, the other one the column, each as a share of the map.

    Args:
        dim: a multiple of 4.
    """
    rows, columns = (_along(count, dim // 2, device) for count in (height, width))
    grid = [rows.unsqueeze(1).expand(-1, width, -1), columns.expand(height, -1, -1)]
    return torch.cat(grid, dim=2).flatten(0, 1)


def _along(count: int, dim: int, device: torch.device | None) -> Tensor:
    """`(count, dim)`: sine and cosine of each place at `dim / 2` wavelengths."""
    places = torch.arange(1, count + 1, dtype=torch.float32, device=device) / (count + 1e-6) * (2 * math.pi)
    wavelengths = 10000 ** (torch.arange(0, dim, 2, dtype=torch.float32, device=device) / dim)
    angles = places.unsqueeze(1) / wavelengths
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
