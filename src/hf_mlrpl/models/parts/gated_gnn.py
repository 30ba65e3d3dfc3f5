"""Gated graph neural network over the labels: the semantic interaction of SSGRL."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class _Heard(torch.autograd.Function):
    """What each node hears for its gates, `(N, 3 D)`: messages along and against the graph, and its own state.

    The messages are computed again in the backward pass.
    """

    @staticmethod
    def forward(ctx, nodes: Tensor, graph: Tensor, neighbour: Tensor, own: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(nodes, graph, neighbour, own)
        heard = torch.addmm(bias, _messages(nodes, graph), neighbour.t())
        heard[:, : len(own)].addmm_(nodes.flatten(0, -2), own.t())
        return heard

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        nodes, graph, neighbour, own = ctx.saved_tensors
        grad_own, batch = grad[:, : len(own)], nodes.view(-1, *nodes.shape[-2:])
        incoming, outgoing = (grad @ neighbour).view(*batch.shape[:2], -1).chunk(2, dim=-1)
        grad_graph = None
        if ctx.needs_input_grad[1]:
            grad_graph = torch.einsum("bid,bjd->ij", incoming, batch)
            grad_graph += torch.einsum("bid,bjd->ij", batch, outgoing)
        grad_nodes, graphs = (grad_own @ own).view_as(batch), graph.expand(len(batch), -1, -1)
        grad_nodes.baddbmm_(graphs.mT, incoming).baddbmm_(graphs, outgoing)
        del incoming, outgoing  # before the gradients of the weights, which are large
        grad_weights = grad.t() @ _messages(nodes, graph), grad_own.t() @ nodes.flatten(0, -2), grad.sum(dim=0)
        return grad_nodes.view_as(nodes), grad_graph, *grad_weights


def _messages(nodes: Tensor, graph: Tensor) -> Tensor:
    """`(N, 2 D)`, incoming first."""
    return torch.cat([graph @ nodes, graph.t() @ nodes], dim=-1).flatten(0, -2)


def _change_of_heard(change: Tensor, labels: Tensor, graph: Tensor, neighbour: Tensor, own: Tensor) -> Tensor:
    """What the nodes of n images hear more, `(n * C, 3 D)`, when those of `labels`, `(n, K)`, grow by `change`."""
    incoming, outgoing = (change @ neighbour.view(-1, change.shape[-1]).t()).unflatten(-1, (-1, 2)).unbind(-1)
    heard = graph.t()[labels].mT @ incoming + graph[labels].mT @ outgoing  # (n, C, 3 D)
    to_itself = F.pad(change @ own.t(), (0, heard.shape[-1] - len(own)))
    return heard.scatter_add(1, labels.unsqueeze(2).expand_as(to_itself), to_itself).flatten(0, 1)


def _heard_by_differing(
    differing: Sequence[Tensor], nodes: Tensor, graph: Tensor, neighbour: Tensor, own: Tensor, bias: Tensor
) -> Tensor:
    """What `_Heard` gives, where the last groups of images differ from the first ones in few labels each, see
    `GatedGnn.forward`."""
    count = len(nodes) - sum(map(len, differing))
    heard = [_Heard.apply(nodes[:count], graph, neighbour, own, bias)]
    for group, labels in zip(nodes[count:].split([*map(len, differing)]), differing, strict=True):
        change = (group - nodes[: len(group)]).take_along_dim(labels.unsqueeze(2), dim=1)  # (n, K, D)
        further = _change_of_heard(change, labels, graph, neighbour, own)
        heard.append(heard[0][: len(further)] + further)
    return torch.cat(heard)


class _GatedUpdate(torch.autograd.Function):
    """The next nodes, of what they hear for the gates [update, reset, candidate]; keeps no product of the gates."""

    @staticmethod
    def forward(ctx, heard: Tensor, nodes: Tensor, candidate: Tensor) -> Tensor:
        rows, both = nodes.flatten(0, -2), 2 * nodes.shape[-1]
        gates = heard[:, :both].sigmoid()
        update, reset = gates.chunk(2, dim=1)
        wanted = torch.addmm(heard[:, both:], reset * rows, candidate.t()).tanh_()
        ctx.save_for_backward(gates, wanted, nodes, candidate)
        return rows.lerp(wanted, update).view_as(nodes)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gates, wanted, nodes, candidate = ctx.saved_tensors
        rows, grad = nodes.flatten(0, -2), grad.flatten(0, -2)
        update, reset = gates.chunk(2, dim=1)
        change = grad * update
        grad_wanted = torch.ops.aten.tanh_backward(change, wanted)
        grad_product = grad_wanted @ candidate  # of reset * rows
        grad_gates = torch.cat([grad * (wanted - rows), grad_product * rows], dim=1)
        grad_heard = torch.cat([torch.ops.aten.sigmoid_backward(grad_gates, gates), grad_wanted], dim=1)
        grad_rows = (grad - change).addcmul_(grad_product, reset)
        return grad_heard, grad_rows.view_as(nodes), grad_wanted.t() @ (reset * rows)


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

    def forward(self, nodes: Tensor, label_graph: Tensor, differing: Sequence[Tensor] = ()) -> Tensor:
        """Update nodes along a graph.

        Args:
            nodes: `(batch_size, num_labels, dim)`.
            label_graph: `(num_labels, num_labels)`.
            differing: for each of the last groups of n images the labels, `(n, K)`, in which they may differ from the
                first n images; all others are equal, which spares them most of the first time step.
        """
        device = nodes.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else nodes.dtype
        own, own_bias = self._own_gates()
        bias = self.neighbour.bias + torch.cat([own_bias, self.self_candidate.bias])
        tensors = nodes, label_graph, self.neighbour.weight, own, bias, self.self_candidate.weight
        nodes, graph, neighbour, own, bias, candidate = (tensor.to(dtype) for tensor in tensors)
        with torch.autocast(device, enabled=False):
            for step in range(self.time_steps):
                if differing and not step:
                    heard = _heard_by_differing(differing, nodes, graph, neighbour, own, bias)
                else:
                    heard = _Heard.apply(nodes, graph, neighbour, own, bias)
                nodes = _GatedUpdate.apply(heard, nodes, candidate)
        return nodes

    def _own_gates(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of what a node tells its own update and reset gate."""
        weight, bias = self.self_gates.weight, self.self_gates.bias
        return (torch.cat([weight, weight]), torch.cat([bias, bias])) if self.tie_reset_gate else (weight, bias)
