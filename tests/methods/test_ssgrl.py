import pytest
import torch
from golden_files import cases, golden
from golden_models import build_model, check_case, cotangent_sum, leaf, weight_gradients

from hf_mlrpl.methods.ssgrl.modeling_ssgrl import SsgrlForMultiLabelClassification


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("ssgrl_head"))
def test_matches_the_code_of_the_partial_label_papers(case):
    _check("ssgrl_head", case, tie_reset_gate=False)


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("ssgrl_original"))
def test_matches_the_first_release_with_a_tied_reset_gate(case):
    _check("ssgrl_original", case, tie_reset_gate=True)


def _check(name: str, case: str, tie_reset_gate: bool):
    for dtype in (torch.float64, torch.float32):
        tensors = golden(name).case(case)
        model = build_model(golden(name), SsgrlForMultiLabelClassification, dtype, tie_reset_gate=tie_reset_gate)
        model.word_embeddings.requires_grad_()
        features = leaf(tensors["in.feature_map"], dtype)

        representations, _ = model.represent(features)
        outputs = {
            "category_features": representations,
            "nodes": model.graph_network(representations, model.label_graph),
            "logits": model.classify(representations),
        }
        outputs["scalar"] = cotangent_sum(outputs, tensors)
        outputs["scalar"].backward()
        gradients = {"grad.in.feature_map": features.grad, "grad.in.word_vectors": model.word_embeddings.grad}
        gradients |= weight_gradients(model, golden(name).weights(case, dtype))
        check_case(golden(name), case, outputs | gradients)
        assert torch.equal(model(features).logits, outputs["logits"])
