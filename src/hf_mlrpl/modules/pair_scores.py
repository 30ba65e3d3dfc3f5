"""Scores of all unordered pairs of labels."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**26}  # of a chunk (B, pairs, O)


class _PairScores(torch.autograd.Function):
    """`relu(left_i + right_j) . weight_ij` for the pairs i < j, without keeping the `(B, P, O)` sums.

    A chunk of pairs is computed at a time, and again in the backward pass.
    """

    @staticmethod
    def forward(ctx, left: Tensor, right: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(left, right, weight)
        scores = []
        for first, second, pair_weight in _chunks(left, weight):
            hidden = torch.relu_(left[:, first] + right[:, second])  # (B, p, O)
            scores.append((hidden * pair_weight).sum(dim=-1))
        return torch.cat(scores, dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        left, right, weight = ctx.saved_tensors
        exact = torch.promote_types(left.dtype, torch.float32)
        grad_left, grad_right = torch.zeros_like(left, dtype=exact), torch.zeros_like(right, dtype=exact)
        grad_weight, start = [], 0
        for first, second, pair_weight in _chunks(left, weight):
            grad = grad_scores[:, start : start + len(first)].unsqueeze(-1)
            start += len(first)
            hidden = torch.relu_(left[:, first] + right[:, second])
            grad_weight.append((hidden * grad).sum(dim=0))
            grad_hidden = ((hidden > 0) * (grad * pair_weight)).to(exact)
            grad_left.index_add_(1, first, grad_hidden)
            grad_right.index_add_(1, second, grad_hidden)
        return grad_left.to(left.dtype), grad_right.to(right.dtype), torch.cat(grad_weight).to(weight.dtype)


def _chunks(left: Tensor, weight: Tensor):
    batch_size, num_labels, dim = left.shape
    first, second = torch.triu_indices(num_labels, num_labels, offset=1, device=left.device)
    size = max(1, _CHUNK_ELEMENTS.get(left.device.type, 2**22) // (batch_size * dim))
    return zip(first.split(size), second.split(size), weight.split(size), strict=True)


def pair_scores(left: Tensor, right: Tensor, weight: Tensor) -> Tensor:
    """Score every pair of labels.

    Args:
        left, right: `(batch_size, num_labels, dim)`, contributions of the first and of the second label of a pair.
        weight: `(num_pairs, dim)`, pairs in the order (0, 1), (0, 2), ..., (C-2, C-1).

    Returns:
        `(batch_size, num_pairs)`.
    """
    return _PairScores.apply(left, right.to(left.dtype), weight.to(left.dtype))
