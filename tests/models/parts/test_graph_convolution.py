import pytest
import torch
from torch.nn import functional as F

from hf_mlrpl.models.parts.graph_convolution import GraphConvolution, GraphNetwork


@pytest.mark.parametrize("num_layers", [2, 3, 4])
def test_messages_pass_as_often_as_there_are_layers(num_layers):
    """A label hears of those that are as many steps away as there are layers, and of no others."""
    network = GraphNetwork(6, 8, num_layers)
    nodes = torch.randn(7, 6, requires_grad=True)
    graph = torch.eye(7) + torch.diag(torch.ones(6), diagonal=1)  # label i hears label i + 1
    network(nodes, graph)[0].sum().backward()
    assert nodes.grad.any(dim=1).tolist() == [True] * (1 + num_layers) + [False] * (6 - num_layers)
    assert [tuple(layer.weight.shape) for layer in network.layers] == [(6, 8), *[(8, 8)] * (num_layers - 2), (8, 6)]


def test_the_last_layer_is_linear():
    network = GraphNetwork(3, 5, 2)
    nodes, graph = torch.randn(4, 3), torch.rand(4, 4)
    hidden = F.leaky_relu(graph @ nodes @ network.layers[0].weight, 0.2)
    torch.testing.assert_close(network(nodes, graph), graph @ hidden @ network.layers[1].weight)


def test_weights_start_within_the_published_bound():
    torch.manual_seed(0)
    weight = GraphConvolution(50, 16).weight
    assert 0.24 < weight.abs().max() <= 0.25
    assert abs(weight.mean()) < 0.02


def test_the_last_layer_may_have_an_activation():
    torch.manual_seed(0)
    plain, active = GraphNetwork(4, 5, 2), GraphNetwork(4, 5, 2, last_activation=True)
    active.load_state_dict(plain.state_dict())
    nodes, graph = torch.randn(3, 4), torch.rand(3, 3)
    torch.testing.assert_close(active(nodes, graph), torch.nn.functional.leaky_relu(plain(nodes, graph), 0.2))
