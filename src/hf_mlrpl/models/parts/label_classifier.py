"""One linear classifier per label."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
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
        """Map `(batch_size, num_labels, dim)`, or `(batch_size, 1, dim)` where all labels share a vector, to
        `(batch_size, num_labels)`."""
        return label_logits(representations, self.weight, self.bias)


def label_logits(representations: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Products of the vector of each label with its row of `weight`, `(batch_size, num_labels)`.

    Args:
        representations: `(batch_size, num_labels, dim)`, or `(batch_size, 1, dim)` where all labels share a vector.
        weight: `(num_labels, dim)`.
        bias: `(num_labels,)`.
    """
    # In the type of the weights: autocast would round the logits to bfloat16, and so make ties.
    if representations.shape[1] == 1:  # one matrix product
        with torch.autocast(representations.device.type, enabled=False):
            return F.linear(representations[:, 0].to(weight.dtype), weight, bias)
    logits = (representations * weight).sum(dim=-1)
    return logits if bias is None else logits + bias
