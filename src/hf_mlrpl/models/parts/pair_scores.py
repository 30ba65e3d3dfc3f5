"""Scores of all unordered pairs of labels."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _PairScores(torch.autograd.Function):
    """`relu(left_i + right_j) . weight_ij` for the pairs i < j, without keeping the `(P, B, O)` sums.

    The pairs of one first label are computed at a time, and again in the backward pass. Labels come first, `(C, B,
    O)`, so that all labels behind i are one slice.
    """

    @staticmethod
    def forward(ctx, left: Tensor, right: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(left, right, weight)
        sizes = _pairs_per_first_label(len(left))
        scores = left.new_empty(sum(sizes), left.shape[1])  # (P, B)
        for i, (block, pair_weight) in enumerate(zip(scores.split(sizes), _blocks(weight, sizes), strict=True)):
            hidden = torch.relu_(left[i] + right[i + 1 :])  # (n, B, O)
            torch.sum(hidden.mul_(pair_weight.unsqueeze(1)), dim=-1, out=block)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        left, right, weight = ctx.saved_tensors
        sizes = _pairs_per_first_label(len(left))
        grad_left, grad_right, grad_weight = map(torch.zeros_like, (left, right, weight))
        blocks = zip(
            grad_scores.unsqueeze(-1).split(sizes), _blocks(weight, sizes), _blocks(grad_weight, sizes), strict=True
        )
        for i, (grad, pair_weight, grad_pair_weight) in enumerate(blocks):
            hidden = torch.relu_(left[i] + right[i + 1 :])
            grad_hidden = torch.ops.aten.threshold_backward(grad * pair_weight.unsqueeze(1), hidden, 0)
            grad_left[i] = grad_hidden.sum(dim=0)
            grad_right[i + 1 :] += grad_hidden
            grad_pair_weight += hidden.mul_(grad).sum(dim=1).sum_to_size(grad_pair_weight.shape)
        return grad_left, grad_right, grad_weight


def _pairs_per_first_label(num_labels: int) -> list[int]:
    return list(range(num_labels - 1, 0, -1))


def _blocks(weight: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
    """The rows of the pairs of each first label; a single row belongs to all."""
    shared = len(weight) == 1 and sum(sizes) != 1
    return (weight,) * len(sizes) if shared else weight.split(sizes)


def pair_scores(left: Tensor, right: Tensor, weight: Tensor) -> Tensor:
    """Score every pair of labels.

    Args:
        left, right: `(batch_size, num_labels, dim)`, contributions of the first and of the second label of a pair.
        weight: `(num_pairs, dim)`, pairs in the order (0, 1), (0, 2), ..., (C-2, C-1), or `(1, dim)` for all pairs.

    Returns:
        `(batch_size, num_pairs)`.
    """
    by_label = (side.transpose(0, 1).contiguous() for side in (left, right))
    return _PairScores.apply(*by_label, weight).t()
