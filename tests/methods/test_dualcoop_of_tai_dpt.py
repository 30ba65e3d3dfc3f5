"""DualCoOp as in TaI-DPT's code: learned factors of the cosines, and regions that do not know where they are."""

import pytest
import torch
from golden_models import check_case, cotangent_sum, leaf
from test_tai_dpt import DTYPES, PROMPTS, TAI_DPT, fill_head, gradients, head_gradients, leaves
from tiny import tiny_model
from tiny_clip import TINY_RESNET
from torch.nn import functional as F

from hf_mlrpl import DualCoOpConfig, DualCoOpForMultiLabelClassification, DualCoOpObjectiveConfig
from hf_mlrpl.methods.dualcoop import modeling_dualcoop
from hf_mlrpl.methods.dualcoop.objective_dualcoop import dual_prompt_loss

SETTINGS = {"learn_scales": True, "include_mean_token": False, "positional_embedding": False}
SCALES = {"log_scale": "log_scale", "log_region_scale": "spatial_log_scale"}  # and their golden names


@pytest.mark.golden
@DTYPES
def test_head_matches_published_code(dtype, monkeypatch):
    inputs, scales = leaves((*PROMPTS, "in.feature_map", "in.global_feature"), dtype), TAI_DPT.weights("dual", dtype)
    positive, negative = (inputs[name] for name in PROMPTS)
    monkeypatch.setattr(modeling_dualcoop, "features_of_prompts", lambda *_: torch.cat([negative, positive]))
    sizes = TINY_RESNET | {"num_labels": len(positive), "embed_dim": positive.shape[1], "num_context": 4}
    model = DualCoOpForMultiLabelClassification(DualCoOpConfig(**sizes, **SETTINGS)).to(dtype).train()
    fill_head(model, dtype)
    for ours, theirs in SCALES.items():
        getattr(model, ours).data.copy_(scales[theirs])
    image = F.normalize(inputs["in.global_feature"], dim=-1).unsqueeze(1).expand(-1, len(positive), -1)
    outputs = {
        "logits": model.classify(model.represent(inputs["in.feature_map"])[0]),
        "logits_global": model.classify(image),  # which the code computes, and does not use
    }
    cotangent_sum(outputs, TAI_DPT.case("dual")).backward()
    of_scales = {f"grad.w.{theirs}": getattr(model, ours).grad for ours, theirs in SCALES.items()}
    check_case(TAI_DPT, "dual", outputs | gradients(inputs) | head_gradients(model) | of_scales)


@pytest.mark.golden
@DTYPES
def test_the_loss_matches_published_code(dtype):
    logits, labels = leaf(TAI_DPT.tensors["loss/in.logits"], dtype), TAI_DPT.tensors["loss/in.partial_target"]
    loss = dual_prompt_loss(logits, labels, DualCoOpObjectiveConfig(eps=1e-8)).sum() / len(logits)
    loss.backward()
    check_case(TAI_DPT, "loss/dual_asl", {"value": loss, "grad.in.logits": logits.grad})


@pytest.mark.parametrize("method", ["dualcoop", "positivecoop"])
def test_learned_scales_start_at_the_settings_and_stay_with_the_model(method, tmp_path):
    plain = tiny_model(method).eval()
    model = tiny_model(method, learn_scales=True).eval()
    state = model.state_dict()
    plain.load_state_dict({name: tensor for name, tensor in state.items() if name not in SCALES})
    pixel_values = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(pixel_values).logits, plain(pixel_values).logits)
    with torch.no_grad():
        model.log_scale.add_(torch.tensor(2.0).log())
    torch.testing.assert_close(model(pixel_values).logits, 2 * plain(pixel_values).logits)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    loaded.set_labels(["3", "1"])
    torch.testing.assert_close(loaded(pixel_values).logits, model(pixel_values).logits[:, [3, 1]])


def test_small_probabilities_have_a_floor():
    logits, labels = torch.tensor([[-30.0]]), torch.tensor([[1]])
    for eps in (1e-6, 1e-8):
        loss = dual_prompt_loss(logits, labels, DualCoOpObjectiveConfig(eps=eps))
        torch.testing.assert_close(loss, -torch.tensor([[eps]]).log())
