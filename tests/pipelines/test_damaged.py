"""Checkpoints whose numbers are none, under `hf-mlrpl tag`."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import NETWORKS, tiny_model

from hf_mlrpl.cli.main import main


@pytest.fixture
def checkpoint(tmp_path):
    tiny_model("ssgrl").save_pretrained(tmp_path / "model")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "photo.png")
    return tmp_path / "model"


def counters(state) -> int:
    return sum(not tensor.is_floating_point() for tensor in state.values())


def tag(checkpoint) -> int:
    return main(["tag", str(checkpoint), str(checkpoint.parent / "photo.png")])


@pytest.mark.parametrize("name", ["classifier.weight", "fuse.bias", "label_graph", "backbone.network.conv1.weight"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_an_error(name, value, checkpoint, capsys):
    state = load_file(checkpoint / "model.safetensors")
    name = name if name in state else next(k for k in state if k.startswith("backbone.") and k.endswith("weight"))
    state[name].view(-1)[0] = value
    save_file(state, checkpoint / "model.safetensors", metadata={"format": "pt"})
    assert tag(checkpoint) == 2
    assert f"1 of {len(state) - counters(state)} weights are infinite or NaN ({name})" in capsys.readouterr().err


@pytest.mark.parametrize(
    "settings",
    [{"image_std": [0, 0, 0]}, {"image_mean": [float("nan"), 0.5, 0.5]}, {"image_std": [float("inf"), 0.2, 0.2]}],
)
def test_a_normalisation_that_is_none_is_an_error(settings, checkpoint, capsys):
    file = checkpoint / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    assert tag(checkpoint) == 2
    assert "`image_std` above 0" in capsys.readouterr().err


@pytest.mark.parametrize("method", NETWORKS)
def test_no_weight_may_be_missing(method, tmp_path):
    """Not even a small one: it would be random."""
    model = tiny_model(method)
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    for name in (list(state)[0], list(state)[-1]):
        others = {key: tensor for key, tensor in state.items() if key != name}
        save_file(others, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(ValueError, match="lacks 1 weights .*, which would be random"):
            type(model).from_pretrained(tmp_path)


def test_weights_that_diverged_are_not_saved(tmp_path):
    model = tiny_model("partial_bce")
    model.classifier.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="1 of .* weights are infinite or NaN .classifier.weight"):
        model.save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def test_others_may_read_what_is_saved(tmp_path):
    tiny_model("scpnet").save_pretrained(tmp_path)
    modes = {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert len(modes) == 1, "the same for all files"
