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


# ---- files that are not what they should be ----

CONFIGS = [
    {"image_size": "big"},
    {"image_size": 0},
    {"image_size": [1, 2, 3]},
    {"image_size": []},
    {"image_size": None},
    {"image_size": 10**400},
    {"thresholds": "high"},
    {"thresholds": [2.0]},
    {"thresholds": {}},
    {"resize": 3},
    {"resize": None},
    {"dtype": "foo"},
    {"id2label": ["a", "b"]},
    {"id2label": {"0": "a", "2": "b"}},
    {"id2label": {"0": "a", "1": "a"}},
    {"id2label": {"0": "a", "1": None}},
    {"id2label": {"x": "a"}},
    {"id2label": 3},
    {"label2id": {"0": 1, "1": 0}},
    {"label2id": 3},
    {"model_type": ["mlrpl-ssgrl"]},
    {"model_type": None},
    {"model_type": "foo"},
    {"backbone": "no_such_network"},
    {"backbone": None},
    {"backbone": []},
    {"output_dim": 0},
    {"attention_dim": "x"},
    {"feature_pool": -1},
    {"trainable_backbone": ["nowhere"]},
    {"trainable_backbone": 3},
    {"image_mean": []},
    {"image_std": None},
    {"thresholds": [0.5]},
]


@pytest.mark.parametrize("settings", CONFIGS, ids=lambda settings: str(settings)[:40])
def test_a_broken_config_is_named(settings, checkpoint, capsys):
    file = checkpoint / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    assert tag(checkpoint) == 2
    error = capsys.readouterr().err.rpartition("error: ")[2]
    assert "model" in error and "unexpected" not in error and len(error) < 700


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "3", "{}", '"text"', "[" * 5000, '{"model_type": 3}', "\0"]
)
def test_a_config_that_is_none_is_named(content, checkpoint, capsys):
    (checkpoint / "config.json").write_text(content)
    assert tag(checkpoint) == 2
    error = capsys.readouterr().err
    assert "model" in error and "unexpected" not in error


PROCESSORS = [
    {"resample": 99},
    {"size": {"height": 3}},
    {"size": {"height": 16, "width": 16}},
    {"size": "large"},
    {"size": {"height": -1, "width": 2}},
    {"do_resize": False},
    {"do_rescale": False},
    {"do_normalize": False},
    {"rescale_factor": 1},
    {"image_mean": [0.5]},
    {"image_mean": "x"},
    {"rescale_factor": "x"},
    {"rescale_factor": float("nan")},
    {"rescale_factor": -1},
    {"rescale_factor": 0},
    {"rescale_factor": 1e300},
    {"image_std": [1e-300, 1, 1]},
    {"crop_size": {"height": 3, "width": 3}, "do_center_crop": True},
]


@pytest.mark.parametrize("settings", PROCESSORS, ids=lambda settings: str(settings)[:40])
def test_a_broken_image_processor_is_named(settings, checkpoint, capsys):
    file = checkpoint / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    assert tag(checkpoint) == 2
    assert "preprocessor_config.json cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "3", "[" * 5000])
def test_an_image_processor_that_is_none_is_named(content, checkpoint, capsys):
    (checkpoint / "preprocessor_config.json").write_text(content)
    assert tag(checkpoint) == 2
    assert "preprocessor_config.json cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"weight_map": 3}', '{"weight_map": {"a": "b"}}'])
def test_a_broken_list_of_weights_is_named(content, checkpoint, capsys):
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "model.safetensors.index.json").write_text(content)
    assert tag(checkpoint) == 2
    error = capsys.readouterr().err
    assert str(checkpoint) in error and "unexpected" not in error


@pytest.mark.parametrize("arguments", [["{}", ""], ["{}", "  "], ["", "photo.png"], [" ", "photo.png"]])
def test_an_empty_name_is_no_folder(arguments, checkpoint, monkeypatch, capsys):
    monkeypatch.chdir(checkpoint.parent)
    assert main(["tag", *(text.format(checkpoint) for text in arguments)]) == 2
    assert "has an empty name" in capsys.readouterr().err


REPEATED = [
    ("config.json", '"thresholds": 0.99'),
    ("config.json", '"backbone": "test_resnet"'),
    ("config.json", '"id2label": {"0": "a"}'),
    ("config.json", '"new": {"a": 1, "a": 2}'),
    ("preprocessor_config.json", '"image_mean": [0.1, 0.1, 0.1]'),
    ("preprocessor_config.json", '"resample": 0'),
]


@pytest.mark.parametrize(("name", "setting"), REPEATED)
def test_a_setting_of_a_checkpoint_stands_once(name, setting, checkpoint, capsys):
    file = checkpoint / name
    file.write_text(f"{file.read_text().rstrip().removesuffix('}')}, {setting}}}")
    assert tag(checkpoint) == 2
    assert f"{name}: an object must have every key once" in capsys.readouterr().err
    if name == "config.json":
        with pytest.raises(ValueError, match="every key once"):
            type(tiny_model("ssgrl")).from_pretrained(checkpoint)
