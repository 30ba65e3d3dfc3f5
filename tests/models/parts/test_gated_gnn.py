import re

import pytest
import torch
from golden_files import cases, golden
from golden_models import check_case, cotangent_sum, leaf, load_weights, weight_gradients

from hf_mlrpl.models.parts.gated_gnn import GatedGnn

NAME, PLACE = "gated_gnn", "graph_network."


@pytest.mark.golden
@pytest.mark.parametrize("case", cases(NAME))
def test_matches_published_code(case):
    for dtype in (torch.float64, torch.float32):
        tensors, weights = golden(NAME).case(case), golden(NAME).weights(case, dtype)
        nodes, graph = leaf(tensors["in.nodes"], dtype), tensors["in.in_matrix"].to(dtype)
        assert torch.equal(tensors["in.out_matrix"], tensors["in.in_matrix"].t())
        module = GatedGnn(nodes.shape[-1], golden(NAME).hparams["time_steps"]).to(dtype)
        load_weights(module, weights, PLACE)

        outputs = {"nodes": module(nodes, graph)}
        outputs["scalar"] = cotangent_sum(outputs, tensors)
        outputs["scalar"].backward()
        gradients = {"grad.in.nodes": nodes.grad} | weight_gradients(module, weights, PLACE)
        outputs |= _variants(module, nodes, graph, tensors)
        check_case(golden(NAME), case, outputs | gradients)


@torch.no_grad()
def _variants(module, nodes, graph, tensors):
    """Outputs with another number of steps, `nodes_T<steps>`, and with a broken row, `nodes_nan_row<row>_isnan`."""
    outputs = {}
    for name in {name.partition(".")[2] for name in tensors}:
        if match := re.fullmatch(r"nodes_T(\d+)", name):
            module.time_steps = int(match[1])
            outputs[name] = module(nodes, graph)
    module.time_steps = golden(NAME).hparams["time_steps"]
    for name in {name.partition(".")[2] for name in tensors}:
        if match := re.fullmatch(r"nodes_nan_row(\d+)_isnan", name):
            broken = graph.clone()
            broken[int(match[1])] = torch.nan
            outputs[name] = module(nodes, broken).isnan()
    return outputs


@pytest.mark.parametrize("tied", [False, True])
def test_images_that_differ_in_few_labels_are_computed_from_their_likes(tied):
    torch.manual_seed(0)
    module, graph = GatedGnn(4, 2, tied).double(), torch.rand(5, 5, dtype=torch.float64)
    nodes = torch.randn(3, 5, 4).double().requires_grad_()
    groups = [torch.tensor([[0, 3], [4, 1]]), torch.tensor([[2], [2]])]
    changes = [torch.randn(*labels.shape, 4).double().requires_grad_() for labels in groups]
    results = []
    for differing in ([], groups[1:], groups):
        last = [
            nodes[:2].scatter_add(1, labels.unsqueeze(2).expand_as(change), change)
            for labels, change in zip(groups, changes, strict=True)
        ]
        updated = module(torch.cat([nodes, *last]), graph, differing)
        results.append((updated, *torch.autograd.grad(updated.sin().sum(), (nodes, *changes, *module.parameters()))))
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(results[2], results[0])


def test_keeps_the_gates_and_nodes_of_each_time_step_alone():
    module, kept = GatedGnn(16, time_steps=3), {}
    weights = {parameter.data_ptr() for parameter in module.parameters()}

    def keep(tensor):
        if tensor.data_ptr() not in weights and tensor.numel() >= 20 * 50 * 16:
            kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(torch.randn(20, 50, 16), torch.rand(50, 50)).sum()
    assert sum(tensor.numel() for tensor in kept.values()) == 3 * 4 * 20 * 50 * 16


def test_autocast_computes_in_its_type():
    torch.manual_seed(0)
    module, nodes, graph = GatedGnn(16), torch.randn(3, 5, 16, requires_grad=True), torch.rand(5, 5) / 5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        short = module(nodes, graph)
    assert short.dtype == torch.bfloat16
    torch.testing.assert_close(short.float(), module(nodes, graph), atol=0.03, rtol=0.03)
    short.float().sum().backward()
    assert nodes.grad.dtype == module.neighbour.weight.grad.dtype == torch.float32
