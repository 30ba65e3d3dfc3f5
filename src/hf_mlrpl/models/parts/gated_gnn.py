"""Gated graph neural network over the labels: the semantic interaction of SSGRL."""

import torch
from torch import Tensor, nn


class GatedGnn(nn.Module):
    """Messages along and against a label graph, and a gated update of each label's vector, `time_steps` times.

    The three gates share their input, so their projections are one matrix: rows [update, reset, candidate].

    Args:
        tie_reset_gate: the reset gate uses the recurrent matrix of the update gate, as in the first SSGRL release.
    """

    def __init__(self, dim: int, time_steps: int = 3, tie_reset_gate: bool = False):
        super().__init__()
        self.time_steps = time_steps
        self.tie_reset_gate = tie_reset_gate
        self.neighbour = nn.Linear(2 * dim, 3 * dim)
        self.self_gates = nn.Linear(dim, dim if tie_reset_gate else 2 * dim)
        self.self_candidate = nn.Linear(dim, dim)

    def forward(self, nodes: Tensor, label_graph: Tensor) -> Tensor:
        """Update `nodes`, `(batch_size, num_labels, dim)`, along `label_graph`, `(num_labels, num_labels)`."""
        graph = label_graph.to(nodes.dtype)
        for _ in range(self.time_steps):
            messages = torch.cat([graph @ nodes, graph.t() @ nodes], dim=-1)  # incoming first
            update, reset, candidate = self.neighbour(messages).chunk(3, dim=-1)
            own = self.self_gates(nodes)
            own_update, own_reset = (own, own) if self.tie_reset_gate else own.chunk(2, dim=-1)
            update = torch.sigmoid(update + own_update)
            reset = torch.sigmoid(reset + own_reset)
            candidate = torch.tanh(candidate + self.self_candidate(reset * nodes))
            nodes = nodes + update * (candidate - nodes)
        return nodes
