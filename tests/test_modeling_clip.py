import pytest
import torch
from clip import CLIP_FILES, golden_towers, outputs_of
from golden_files import golden
from golden_models import check_case, cotangent_sum, leaf
from torch.func import functional_call

from hf_mlrpl.modeling_clip import ClipTowers
from hf_mlrpl.modules.clip.image_encoder import ClipResNet
from hf_mlrpl.modules.clip.weights import weights_from_openai

DTYPES = (torch.float64, torch.float32)
GELU = "openclip_gelu_"


class AllOutputs(torch.nn.Module):
    """Everything that the golden files hold of the towers, in one forward pass."""

    def __init__(self, towers: ClipTowers):
        super().__init__()
        self.towers = towers

    def forward(self, pixel_values: torch.Tensor, token_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = outputs_of(self.towers, pixel_values, token_ids)
        network = self.towers.backbone.network
        if isinstance(network, ClipResNet):
            outputs["layer4"] = network.feature_map(pixel_values)
        return outputs


@pytest.mark.golden
@pytest.mark.parametrize("name", CLIP_FILES)
def test_towers_match_published_code(name):
    """Gradients reach the weights under their published names through the conversion, so it is exact, too."""
    for dtype in DTYPES:
        tensors = golden(name).case()
        pixel_values, token_ids = leaf(tensors["in.image"], dtype), tensors["in.token_ids"]
        published = golden(name).weights(dtype=dtype)
        published = {key: leaf(w, dtype) if f"grad.w.{key}" in tensors else w for key, w in published.items()}
        weights = weights_from_openai(published, name)
        assert weights.config.hidden_act == golden(name).hparams["activation"]
        module = AllOutputs(ClipTowers(weights.config).to(dtype).eval())
        state = {f"towers.{key}": tensor for key, tensor in weights.tensors.items()}
        outputs = functional_call(module, state, (pixel_values, token_ids))
        cotangent_sum(outputs, tensors).backward()
        gradients = {f"grad.w.{key}": w.grad for key, w in published.items() if w.requires_grad}
        with torch.no_grad():
            gelu = outputs_of(golden_towers(golden(name), dtype, hidden_act="gelu"), pixel_values, token_ids)
        outputs |= {GELU + key: tensor for key, tensor in gelu.items()}
        check_case(golden(name), "", outputs | gradients | {"grad.in.image": pixel_values.grad})


@pytest.mark.golden
@pytest.mark.parametrize("name", [*CLIP_FILES, "dualcoop_attention_conv"])
def test_every_sub_case_is_compared(name):
    compared = [case for case in golden(name).sub_cases() if golden(name).outputs(case)]
    assert compared == ([""] if name in CLIP_FILES else sorted(f"size{i}" for i in range(len(compared))))
