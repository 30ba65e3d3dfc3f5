import pytest
import torch
from golden_files import golden
from golden_models import check_case, cotangent_sum, leaf
from huggingface_hub.errors import StrictDataclassError
from test_dualcoop import DTYPES
from tiny import tiny_model
from tiny_clip import TINY_RESNET, TINY_TEXT, TINY_VIT, tiny_towers

from hf_mlrpl.clip.modeling_clip import ClipPreTrainedModel
from hf_mlrpl.methods.clip_linear.configuration_clip_linear import ClipLinearConfig
from hf_mlrpl.methods.clip_linear.modeling_clip_linear import ClipLinearForMultiLabelClassification

TINY = {name: setting for name, setting in TINY_RESNET.items() if name != "text_sizes"}
CLASSIFIERS = ("negative_classifier", "positive_classifier")


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_head_matches_published_code(dtype, monkeypatch):
    file = golden("positivecoop_head")
    tensors, weights = file.case("baseline"), file.weights("baseline")
    features = leaf(file.tensors["in.image_features"], dtype)
    num_rows, embed_dim = weights["linear.weight"].shape
    config = ClipLinearConfig(**TINY | {"num_labels": num_rows // 2, "embed_dim": embed_dim})
    model = ClipLinearForMultiLabelClassification(config).to(dtype)
    halves = {kind: weights[f"linear.{kind}"].chunk(2) for kind in ("weight", "bias")}
    state = {f"{name}.{kind}": halves[kind][side] for side, name in enumerate(CLASSIFIERS) for kind in halves}
    model.load_state_dict(state, strict=False)
    monkeypatch.setattr(model.backbone, "regions", lambda _: features.transpose(1, 2))
    representations, _ = model.represent(torch.empty(1, 1, 1, features.shape[2] - 1))  # a map of so many places
    outputs = {
        "logits": model.two_logits(representations),
        "probabilities": model.classify(representations).sigmoid(),
    }
    outputs["scalar"] = cotangent_sum(outputs, tensors)
    outputs["scalar"].backward()
    gradients = {
        f"grad.w.linear.{kind}": torch.cat([getattr(getattr(model, name), kind).grad for name in CLASSIFIERS])
        for kind in halves
    }
    check_case(file, "baseline", outputs | gradients | {"grad.in.image_features": features.grad})


@pytest.fixture
def model() -> ClipLinearForMultiLabelClassification:
    return tiny_model("clip_linear", image_size=[32, 64]).eval()


def test_each_side_looks_where_it_says_most(model):
    pixel_values = torch.randn(2, 3, 32, 64)
    output = model(pixel_values, output_attention_maps=True, output_representations=True)
    regions = model.backbone.regions(model.encode(pixel_values))
    scores = [torch.einsum("brd,cd->brc", regions, getattr(model, name).weight) for name in CLASSIFIERS]
    weights = [side.softmax(dim=1) for side in scores]
    expected = [torch.einsum("brc,brd->bcd", side, regions) for side in weights]
    torch.testing.assert_close(output.representations, torch.cat(expected, dim=-1))
    torch.testing.assert_close(output.attention_maps.flatten(2), weights[1][:, 1:].mT)
    assert output.attention_maps.shape[2:] == (1, 2)
    model.config.shared_weights = True
    shared, _ = model.represent(model.encode(pixel_values))
    torch.testing.assert_close(shared[..., :24], shared[..., 24:])


def test_the_mean_region_can_be_left_out(model):
    model.config.include_mean_token = False
    _, attention_maps = model.represent(model.encode(torch.randn(2, 3, 32, 64)))
    torch.testing.assert_close(attention_maps.sum(dim=(2, 3)), torch.ones(2, 5))


def test_there_is_no_text_tower(model):
    assert not isinstance(model, ClipPreTrainedModel)
    assert not [name for name in model.state_dict() if "text" in name]
    with pytest.raises(ValueError, match="labels of a ClipLinearForMultiLabelClassification cannot change"):
        model.set_labels(["cat"])
    with pytest.raises(StrictDataclassError, match="has no text tower: leave out `text_sizes`"):
        ClipLinearConfig(**TINY_RESNET)
    with pytest.raises(StrictDataclassError, match="has no text tower"):
        ClipLinearConfig(trainable_text_encoder=True)


def test_a_vit_has_no_regions():
    with pytest.raises(StrictDataclassError, match="`backbone` must be a CLIP ResNet.*'vit_clip'"):
        ClipLinearConfig(**{name: setting for name, setting in TINY_VIT.items() if name != "text_sizes"})


def test_weights_come_from_any_clip_with_this_image_tower(tmp_path):
    """Whatever its text tower."""
    towers = tiny_towers(image_size=32, text_sizes=TINY_TEXT | {"layers": 2})
    towers.save_pretrained(tmp_path)
    model = tiny_model("clip_linear")
    model.load_pretrained(str(tmp_path))
    assert all(torch.equal(model.backbone.state_dict()[name], w) for name, w in towers.backbone.state_dict().items())
    other = ClipLinearForMultiLabelClassification(ClipLinearConfig(**TINY | {"embed_dim": 20}))
    with pytest.raises(ValueError, match="`embed_dim` is 24, not 20"):
        other.load_pretrained(str(tmp_path))


def test_stored_features_are_those_of_dualcoop_and_its_relatives():
    towers = tiny_towers(image_size=32).backbone.state_dict()
    settings = []
    for method in ("clip_linear", "dualcoop", "positivecoop"):
        model = tiny_model(method, trainable_backbone=[])
        model.backbone.load_state_dict(towers)
        settings.append(model.frozen_settings())
    assert settings[0] == settings[1] == settings[2]
