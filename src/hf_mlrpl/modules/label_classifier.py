"""One linear classifier per label."""

import math

import torch
from torch import Tensor, nn
from transformers import initialization as init


class LabelClassifier(nn.Module):
    """The logit of label c is the product of its vector with row c, plus a bias (SSGRL)."""

    def __init__(self, num_labels: int, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_labels, dim))
        self.bias = nn.Parameter(torch.empty(num_labels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.weight.shape[1])
        init.uniform_(self.weight, -bound, bound)
        init.uniform_(self.bias, -bound, bound)

    def forward(self, representations: Tensor) -> Tensor:
        """Map `(batch_size, num_labels, dim)` to `(batch_size, num_labels)`."""
        # No einsum: autocast would round the logits to bfloat16, and so make ties.
        return (representations * self.weight).sum(dim=-1) + self.bias
