import re

import pytest
import torch
from golden_files import golden
from golden_models import check_case, cotangent_sum, leaf
from safetensors.torch import load_file, save_file
from tiny_clip import CLIP_FILES, TINY_RESNET, TINY_TEXT, TINY_VIT, golden_towers, outputs_of, tiny_towers
from torch.func import functional_call
from torch.testing import assert_close

from hf_mlrpl.clip.configuration_clip import ClipConfig
from hf_mlrpl.clip.image_encoder import ClipResNet
from hf_mlrpl.clip.modeling_clip import ClipTowers
from hf_mlrpl.clip.tokenizer import build_tokenizer
from hf_mlrpl.clip.weights import weights_from_openai

DTYPES = (torch.float64, torch.float32)
ROUNDING = {"rtol": 1e-12, "atol": 1e-12}  # of float64: kernels add up in an order that depends on place and length
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


# ---- checkpoints ----


@pytest.fixture(params=[TINY_RESNET, TINY_VIT], ids=["resnet", "vit"])
def settings(request) -> dict:
    return request.param


@pytest.fixture
def towers(settings) -> ClipTowers:
    return tiny_towers(**settings)


def test_a_checkpoint_brings_back_weights_buffers_and_tokenizer(towers, tmp_path):
    towers.save_pretrained(tmp_path)
    loaded = ClipTowers.from_pretrained(tmp_path).eval()
    buffers = dict(loaded.named_buffers()) | loaded.state_dict()
    for name, tensor in [*towers.named_buffers(), *towers.state_dict().items()]:
        assert torch.equal(buffers[name], tensor), name
    token_ids = torch.tensor([towers.tokenizer("a cat at").input_ids])
    assert loaded.tokenizer("a cat at").input_ids == token_ids[0].tolist()
    pixel_values = torch.randn(2, 3, *towers.config.height_and_width, dtype=torch.float64)
    assert_close(
        loaded.double().similarities(pixel_values, token_ids),
        towers.double().similarities(pixel_values, token_ids),
        **ROUNDING,
    )


def test_a_checkpoint_without_a_tokenizer_says_so_when_words_are_needed(towers, tmp_path):
    towers.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    loaded = ClipTowers.from_pretrained(tmp_path)
    assert not loaded.has_tokenizer
    with pytest.raises(ValueError, match="This ClipTowers has no tokenizer, so it cannot read words"):
        _ = loaded.tokenizer
    loaded.save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again" / "tokenizer.json").exists()


@pytest.mark.parametrize("name", ["logit_scale", "text_encoder.network.text_projection.weight", "backbone."])
def test_a_checkpoint_without_some_weights_is_an_error(name, towers, tmp_path):
    towers.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    missing = next(key for key in state if key.startswith(name))
    del state[missing]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"lacks 1 weights \\({re.escape(missing)}"):
        ClipTowers.from_pretrained(tmp_path)


def test_a_tokenizer_with_more_tokens_than_the_text_tower_is_an_error(towers):
    with pytest.raises(ValueError, match="has the token 514, but the text tower knows 514 tokens only"):
        towers.tokenizer = build_tokenizer([("a", "t")], 16)


# ---- pretrained weights ----


def test_pretrained_weights_and_their_tokenizer(towers, settings, tmp_path):
    towers.save_pretrained(tmp_path)
    loaded = ClipTowers(ClipConfig(**settings))
    loaded.load_pretrained(str(tmp_path))
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in towers.state_dict().items())


def test_positions_are_resampled_for_another_image_size_while_weights_are_loaded(towers, settings, tmp_path):
    """As often as a map has another size than the positions are for, the result is the same."""
    towers.save_pretrained(tmp_path)
    double = 2 * settings["image_size"]
    loaded = ClipTowers(ClipConfig(**settings | {"image_size": double})).eval()
    loaded.load_pretrained(str(tmp_path))
    pixel_values = torch.randn(2, 3, double, double)
    with torch.no_grad():
        difference = loaded.image_features(pixel_values) - towers.image_features(pixel_values)
    assert difference.abs().max() <= 1e-6
    assert sum(tensor.shape != towers.state_dict()[name].shape for name, tensor in loaded.state_dict().items()) == 1


def test_a_resnet_sees_images_that_are_not_square(tmp_path):
    towers = tiny_towers(image_size=[32, 96])
    pixel_values = torch.randn(2, 3, 32, 96)
    assert towers.image_features(pixel_values).shape == (2, 24)
    features = towers.backbone.feature_map(pixel_values)
    assert towers.backbone.regions(features).shape == (2, 1 + 3, 24) and features.shape[2:] == (1, 3)
    towers.save_pretrained(tmp_path)
    assert ClipTowers.from_pretrained(tmp_path).backbone.network.head.feat_size == (1, 3)


@pytest.mark.parametrize(
    ("other", "sides"),
    [
        ({"vision_sizes": {"layers": [1, 1, 2, 1], "width": 16}}, "`vision_sizes` is {.* 8}, not {.*1, 2, 1.*: 16}"),
        ({"text_sizes": TINY_TEXT | {"width": 128}}, "`text_sizes` is {.*'width': 64.*}, not {.*'width': 128"),
        ({"embed_dim": 12}, "`embed_dim` is 24, not 12"),
        ({"hidden_act": "gelu"}, "`hidden_act` is quick_gelu, not gelu"),
        ({"image_std": [0.5, 0.5, 0.5]}, "`image_std` is .*, not .0.5, 0.5, 0.5."),
        (TINY_VIT, "those of 'resnet_clip' and do not fit the backbone 'vit_clip'"),
    ],
)
def test_pretrained_weights_of_other_sizes_are_an_error_with_both_sides(other, sides, tmp_path):
    tiny_towers().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=sides):
        ClipTowers(ClipConfig(**(TINY_RESNET | other))).load_pretrained(str(tmp_path))


# ---- frozen parts ----


def test_the_text_tower_is_frozen_by_default(settings):
    towers = tiny_towers(**settings).train()
    assert towers.backbone.training and not towers.text_encoder.training
    trained = {name.partition(".")[0] for name, parameter in towers.named_parameters() if parameter.requires_grad}
    assert trained == {"backbone", "logit_scale"}
    towers = tiny_towers(**settings, trainable_text_encoder=True).train()
    assert towers.text_encoder.training and all(p.requires_grad for p in towers.parameters())


def test_frozen_parts_of_the_image_tower(settings):
    towers = tiny_towers(**settings, trainable_backbone=["layer2", "head"]).train()
    parts = towers.backbone.parts()
    assert [name for name, part in parts.items() if part.training] == ["layer2", "head"]
    assert [n for n, part in parts.items() if all(p.requires_grad for p in part.parameters())] == ["layer2", "head"]
    covered = {id(parameter) for part in parts.values() for parameter in part.parameters()}
    assert covered == {id(parameter) for parameter in towers.backbone.parameters()}, "every weight is in a part"
    frozen = tiny_towers(**settings, trainable_backbone=[]).train()
    assert not any(p.requires_grad for p in frozen.backbone.parameters())
    assert not any(module.training for part in frozen.backbone.parts().values() for module in part.modules())
    with pytest.raises(ValueError, match="`trainable_backbone` names layer9, which .*_clip does not have"):
        tiny_towers(**settings, trainable_backbone=["layer9"])


# ---- texts ----


def test_what_is_behind_the_end_of_a_text_makes_no_difference():
    towers = tiny_towers().double()
    ids = towers.tokenizer(["a cat", "traffic light"], padding="max_length", return_tensors="pt").input_ids
    longest = int(ids.argmax(dim=1).max()) + 1
    whole = towers.text_features(ids)
    changed = ids.clone()
    changed[0, 9:], changed[:, longest:] = 7, 0
    assert_close(towers.text_features(changed), whole, **ROUNDING)
    assert_close(towers.text_features(ids[:, :longest]), whole, **ROUNDING)
    assert not torch.allclose(whole[0], whole[1])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_texts_do_not_look_ahead_with_any_attention(attention):
    towers = tiny_towers(seed=1)
    towers.text_encoder.network.set_attn_implementation(attention)
    embeddings = torch.randn(2, 9, towers.text_encoder.width, requires_grad=True)
    towers.text_encoder(embeddings, torch.tensor([4, 6])).sum().backward()
    reached = embeddings.grad.abs().sum(dim=2) > 0
    assert reached.sum(dim=1).tolist() == [5, 7]


def test_a_text_that_is_too_long_is_an_error():
    with pytest.raises(ValueError, match="17"):
        tiny_towers().text_features(torch.zeros(1, 17, dtype=torch.int64))


def test_only_resnets_give_regions():
    with pytest.raises(ValueError, match="'vit_clip' gives no vectors of regions: only CLIP ResNets"):
        tiny_towers(**TINY_VIT).backbone.feature_map(torch.zeros(1, 3, 32, 32))
