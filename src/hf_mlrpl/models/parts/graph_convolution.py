"""Graph convolutions over the labels, as in Chen et al., "Multi-Label Image Recognition with Graph Convolutional
Networks", CVPR 2019."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init


class GraphConvolution(nn.Module):
    """One round of messages between labels: `graph @ nodes @ weight`, without a bias."""

    def __init__(self, in_dim: int, out_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_dim, out_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.weight.shape[1])
        init.uniform_(self.weight, -bound, bound)

    def forward(self, nodes: Tensor, graph: Tensor) -> Tensor:
        """New vectors of the labels, each from those that it receives along the graph, `(num_labels, out_dim)`.

        Args:
            nodes: `(num_labels, in_dim)`.
            graph: `(num_labels, num_labels)`; row i says how much label i receives from each label.
        """
        return graph @ (nodes @ self.weight)


class GraphNetwork(nn.Module):
    """Graph convolutions from `dim` over `hidden_dim` to `out_dim`, by default `dim`, with LeakyReLU between them, and
    on request behind the last."""

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        num_layers: int = 3,
        out_dim: int | None = None,
        *,
        last_activation: bool = False,
    ):
        super().__init__()
        self.last_activation = last_activation
        dims = [dim, *[hidden_dim] * (num_layers - 1), out_dim or dim]
        self.layers = nn.ModuleList(GraphConvolution(*pair) for pair in itertools.pairwise(dims))

    def forward(self, nodes: Tensor, graph: Tensor) -> Tensor:
        """Map `(num_labels, dim)` to `(num_labels, out_dim)`; see `GraphConvolution`."""
        first, *others = self.layers
        nodes = first(nodes, graph)
        for layer in others:
            nodes = layer(F.leaky_relu(nodes, negative_slope=0.2), graph)
        return F.leaky_relu(nodes, negative_slope=0.2) if self.last_activation else nodes
