import pytest
import torch
from golden_files import cases, golden
from golden_models import check_case, cotangent_sum, leaf, load_weights, weight_gradients

from hf_mlrpl.models.parts.semantic_decoupling import SemanticDecoupling

NAME, PLACE = "semantic_decoupling", "decoupling."


@pytest.mark.golden
@pytest.mark.parametrize("case", cases(NAME))
def test_matches_published_code(case):
    for dtype in (torch.float64, torch.float32):
        tensors, weights = golden(NAME).case(case), golden(NAME).weights(case, dtype)
        features = leaf(tensors["in.feature_map"], dtype)
        words = leaf(tensors["in.word_vectors"], dtype)
        module = SemanticDecoupling(features.shape[1], words.shape[1], len(weights["sd.fc_image.weight"])).to(dtype)
        load_weights(module, weights, PLACE)

        representations, attention_maps = module(features, words)
        attention = attention_maps.permute(0, 2, 3, 1)  # (B, H, W, C)
        outputs = {"category_features": representations, "attention": attention}
        outputs["scalar"] = cotangent_sum(outputs, tensors)
        outputs["scalar"].backward()
        outputs["visualisation"] = attention * features.abs().sum(dim=1).unsqueeze(-1)
        gradients = {"grad.in.feature_map": features.grad, "grad.in.word_vectors": words.grad}
        check_case(golden(NAME), case, outputs | gradients | weight_gradients(module, weights, PLACE))
