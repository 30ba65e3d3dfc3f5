"""Scores of all unordered pairs of labels."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_GPU_TILE = 2**26  # numbers (g, n, B, O) of a tile: few launches on a GPU, while those of a CPU stay in its caches
_CPU_TILE = 2**21


class _PairScores(torch.autograd.Function):
    """`relu(left_i + right_j) . weight_ij` for the pairs i < j, without keeping the `(P, B, O)` sums.

    The pairs of a tile are computed at a time, and again in the backward pass. Labels come first, `(C, B, O)`.
    """

    @staticmethod
    def forward(ctx, left: Tensor, right: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(left, right, weight)
        scores = []
        for tile in _tiles(left):
            products = tile.hidden(left, right) @ tile.spread_weight(weight).unsqueeze(-1)  # (g, n, B, 1)
            scores.append(tile.collect(products.squeeze(-1)))
        return torch.cat(scores)  # (P, B)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        left, right, weight = ctx.saved_tensors
        grad_left, grad_right, grad_weight = torch.zeros_like(left), torch.zeros_like(right), []
        for tile in _tiles(left):
            hidden, grad = tile.hidden(left, right), tile.spread(grad_scores)
            grad_weight.append(tile.collect((grad.unsqueeze(2) @ hidden).squeeze(2)))
            slope = grad.unsqueeze(-1) * tile.spread_weight(weight).unsqueeze(2)
            grad_hidden = slope.mul_(hidden.sign_())  # the slope of the ReLU, in place
            grad_left[tile.first] += grad_hidden.sum(dim=1)
            grad_right[tile.second] += grad_hidden[0] if tile.num_first == 1 else grad_hidden.sum(dim=0)
        return grad_left, grad_right, torch.cat(grad_weight).sum_to_size(weight.shape)


@dataclass(frozen=True)
class _Tile:
    """The pairs of some first labels, g, with some second ones, n, which stand in one piece of the list of pairs.

    Where g is above 1, a corner of the rectangle (g, n) has no pairs.
    """

    first: slice
    second: slice
    pairs: slice

    def hidden(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.relu_(left[self.first].unsqueeze(1) + right[self.second])  # (g, n, B, O)

    def spread(self, values: Tensor) -> Tensor:
        """From one row per pair to the rectangle, with zeros in the corner."""
        rows = values[self.pairs]
        if self.num_first == 1:
            return rows.unsqueeze(0)
        rectangle = rows.new_zeros(self.num_first, self.second.stop - self.second.start, rows.shape[1])
        rectangle[self._places(rows.device)] = rows
        return rectangle

    def spread_weight(self, weight: Tensor) -> Tensor:
        return weight.unsqueeze(0) if len(weight) == 1 else self.spread(weight)

    def collect(self, rectangle: Tensor) -> Tensor:
        """From the rectangle to one row per pair."""
        return rectangle[0] if self.num_first == 1 else rectangle[self._places(rectangle.device)]

    @property
    def num_first(self) -> int:
        return self.first.stop - self.first.start

    def _places(self, device: torch.device) -> tuple[Tensor, Tensor]:
        rows, columns = torch.triu_indices(self.num_first, self.second.stop - self.second.start, device=device)
        return rows, columns


def _tiles(left: Tensor) -> Iterator[_Tile]:
    """All pairs, in their order."""
    tiles = _short_tiles if left.device.type == "cpu" else _wide_tiles
    return tiles(len(left), left[0].numel())


def _short_tiles(num_labels: int, size_of_pair: int) -> Iterator[_Tile]:
    """One first label with some of those behind it."""
    step = max(1, _CPU_TILE // size_of_pair)
    for i in range(num_labels - 1):
        before = _pairs_before(i, num_labels) - i - 1
        for j in range(i + 1, num_labels, step):
            stop = min(j + step, num_labels)
            yield _Tile(slice(i, i + 1), slice(j, stop), slice(before + j, before + stop))


def _wide_tiles(num_labels: int, size_of_pair: int) -> Iterator[_Tile]:
    """Some first labels with all behind them."""
    step = max(1, _GPU_TILE // (size_of_pair * num_labels))
    for i in range(0, num_labels - 1, step):
        stop = min(i + step, num_labels - 1)
        pairs = slice(_pairs_before(i, num_labels), _pairs_before(stop, num_labels))
        yield _Tile(slice(i, stop), slice(i + 1, num_labels), pairs)


def _pairs_before(first: int, num_labels: int) -> int:
    return first * (2 * num_labels - first - 1) // 2


def pair_scores(left: Tensor, right: Tensor, weight: Tensor) -> Tensor:
    """Score every pair of labels.

    Args:
        left, right: `(batch_size, num_labels, dim)`, contributions of the first and of the second label of a pair.
        weight: `(num_pairs, dim)`, pairs in the order (0, 1), (0, 2), ..., (C-2, C-1), or `(1, dim)` for all pairs.

    Returns:
        `(batch_size, num_pairs)`.
    """
    if left.shape[1] == 1:
        return left[:, :0, 0]
    by_label = (side.transpose(0, 1).contiguous() for side in (left, right))
    with torch.autocast(left.device.type, enabled=False):
        return _PairScores.apply(*by_label, weight).t()
