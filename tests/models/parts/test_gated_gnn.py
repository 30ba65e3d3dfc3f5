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
