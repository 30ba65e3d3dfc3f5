import re

import pytest
import torch
from golden_files import golden, sub_cases
from golden_models import FeatureMap, check_case, cotangent_sum, leaf
from tiny import loss_of_logits, tiny_model
from torch import Tensor, nn

from hf_mlrpl import (
    Query2LabelConfig,
    Query2LabelForMultiLabelClassification,
    Query2LabelObjective,
    Query2LabelObjectiveConfig,
)
from hf_mlrpl.models.parts.sine_positions import sine_positions

NAME = "query2label"
LAYERS = {  # golden names inside of a layer: ours
    "encoder": {"self": "attend.attention", "norm1": "attend.residual", "norm2": "feed_forward.residual"},
    "decoder": {
        "self": "attend_labels.attention",
        "cross": "attend.attention",
        "norm1": "attend_labels.residual",
        "norm2": "attend.residual",
        "norm3": "feed_forward.residual",
    },
}
ENDS = {
    ".in_": ".in_proj_",
    ".out.": ".out_proj.",
    "ffn.0.": "feed_forward.layers.0.",
    "ffn.1.": "feed_forward.layers.3.",
}
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


def our_name(golden_name: str) -> str:
    name = golden_name.replace("coder.norm.", "coder_norm.").replace("input_proj.", "project.")
    if layer := re.fullmatch(r"(encoder|decoder)\.(\d+)\.(\w+)(\..+)", name):
        stack, number, part, rest = layer.groups()
        name = f"{stack}.{number}.{LAYERS[stack].get(part, part)}{rest}"
    for golden_end, ours in ENDS.items():
        name = name.replace(golden_end, ours)
    return name


def golden_model(case: str, dtype: torch.dtype) -> tuple[Query2LabelForMultiLabelClassification, dict[str, Tensor]]:
    """A model of the sizes of the file, in evaluation mode, and the weights that it was given."""
    file, weights = golden(NAME), golden(NAME).weights(case, dtype)
    hparams, info = file.hparams, file.hparams["info"][case]
    config = Query2LabelConfig(
        backbone="test_resnet",
        num_labels=hparams["classes"],
        representation_dim=hparams["dim"],
        num_heads=hparams["heads"],
        feedforward_dim=hparams["feedforward"],
        **{name: info[name] for name in ("encoder_layers", "decoder_layers", "self_attention", "pre_norm")},
    )
    model = Query2LabelForMultiLabelClassification(config)
    model.backbone = FeatureMap()
    model.project = nn.Conv2d(hparams["image_dim"], hparams["dim"], 1) if info["input_projection"] else nn.Identity()
    state = {our_name(name): weight for name, weight in weights.items()}
    state = {name: weight.squeeze(0) if name.startswith("classifier.") else weight for name, weight in state.items()}
    model.to(dtype).load_state_dict(state)
    return model.eval(), weights


@pytest.mark.golden
@DTYPES
@pytest.mark.parametrize("case", sorted(golden(NAME).hparams["info"]))
def test_matches_published_code(case, dtype):
    file = golden(NAME)
    tensors = file.case() | file.case(case)
    model, weights = golden_model(case, dtype)
    features = leaf(tensors["in.feature_map"], dtype)
    logits = model(features).logits
    scalar = cotangent_sum({"logits": logits}, tensors)
    scalar.backward()
    of = {name: parameter.grad for name, parameter in model.named_parameters()}
    gradients = {f"grad.w.{name}": of[our_name(name)].view_as(weight) for name, weight in weights.items()}
    check_case(file, case, {"logits": logits, "scalar": scalar, "grad.in.feature_map": features.grad} | gradients)


@pytest.mark.golden
def test_positions_match_published_code():
    file = golden(NAME)
    tables = {name: file.tensors[name] for name in file.tensors if name.startswith("position/out.")}
    for name, table in (tables | {"in.position": file.tensors["in.position"]}).items():
        _, dim, height, width = table.shape
        positions = sine_positions(height, width, dim)
        file.check(name, positions.t().reshape(table.shape))
    assert tables


@pytest.mark.golden
@DTYPES
@pytest.mark.parametrize("case", sub_cases(NAME, "loss/gn"))
def test_the_loss_matches_published_code(case, dtype):
    """Its name holds the settings."""
    file, tensors = golden(NAME), golden(NAME).case("loss")
    gamma_negative, gamma_positive, clip, detach = map(float, re.findall(r"[\d.]+", case))
    config = Query2LabelObjectiveConfig(
        gamma_negative=gamma_negative,
        gamma_positive=gamma_positive,
        clip=clip,
        detach_focus=bool(detach),
        loss_scale="published",
    )
    logits = leaf(tensors["in.logits"], dtype)
    loss = loss_of_logits(Query2LabelObjective(config, None), logits, 2 * tensors["in.target"] - 1).loss
    loss.backward()
    check_case(file, case, {"value": loss, "grad.in.logits": logits.grad})


def test_the_loss_is_that_of_asl_but_for_its_settings():
    assert Query2LabelObjectiveConfig() == Query2LabelObjectiveConfig(
        gamma_positive=0, gamma_negative=2, clip=0, eps=1e-5, detach_focus=True, unknown="ignore"
    )
    logits, labels = torch.randn(4, 5), torch.randint(-1, 2, (4, 5))
    ours, published = (
        loss_of_logits(Query2LabelObjective(Query2LabelObjectiveConfig(loss_scale=scale), None), logits, labels).loss
        for scale in ("sum", "published")
    )
    torch.testing.assert_close(published, 1000 / 5 * ours)


def test_attention_maps_are_those_of_the_last_layer_and_sum_to_one():
    model = tiny_model(NAME).eval()
    features = model.encode(torch.randn(2, 3, 64, 96))
    seen = []
    for layer in model.decoder:
        layer.attend.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs[1]))
    representations, maps = model.represent(features)
    assert representations.shape == (2, 5, model.config.representation_dim) and maps.shape == (2, 5, 2, 3)
    torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(2, 5))
    assert len(seen) == 2 and torch.equal(maps.flatten(2), seen[1]) and not torch.equal(seen[0], seen[1])


def test_labels_look_at_each_other_only_where_they_are_told_to():
    """Without self-attention, the vector of a label does not depend on the queries of others."""
    for self_attention in (False, True):
        model = tiny_model(NAME, self_attention=self_attention).eval()
        features = model.encode(torch.randn(2, 3, 64, 64))
        before, _ = model.represent(features)
        with torch.no_grad():
            model.query.weight[0] += 1
        after, _ = model.represent(features)
        same = torch.isclose(before, after).flatten(2).all(dim=2)
        assert not same[:, 0].any() and same[:, 1:].all() == (not self_attention)


def test_vectors_are_as_long_as_the_backbone_says_or_the_setting(tmp_path):
    model, projected = tiny_model(NAME), tiny_model(NAME, representation_dim=16)
    width = model.backbone.num_features
    assert model.config.representation_dim == width and isinstance(model.project, nn.Identity)
    assert projected.project.weight.shape == (16, width, 1, 1)
    model.save_pretrained(tmp_path)
    loaded = Query2LabelForMultiLabelClassification.from_pretrained(tmp_path)
    assert loaded.config.representation_dim == width and isinstance(loaded.project, nn.Identity)


def test_the_weights_of_the_transformer_start_as_in_published_code():
    model = tiny_model(NAME)
    of_transformer = [m for m in model.modules() if isinstance(m, nn.Linear) and not hasattr(m, "_keeps_own_init")]
    assert len(of_transformer) == 3 * 3  # the last layer of an attention, and two of a feed-forward network
    for layer in of_transformer:
        bound = (6 / sum(layer.weight.shape)) ** 0.5  # Xavier's
        assert 0.9 * bound < layer.weight.abs().max() <= bound


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"representation_dim": 18}, "`representation_dim` must be a multiple of 4 and of `num_heads`, 4, got 18"),
        ({"num_heads": 7}, "of 4 and of `num_heads`, 7, got .* It is by default that of the backbone"),
        ({"pre_norm": True}, "`pre_norm: true` needs `self_attention: true`"),
    ],
)
def test_sizes_that_do_not_fit_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(NAME, **settings)
