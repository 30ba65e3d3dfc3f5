"""Both towers from folders and from the Hub; the numbers of every layout are compared in tests/cli/test_convert.py."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_clip import TINY_RESNET, as_openai, tiny_towers

from hf_mlrpl.clip.configuration_clip import PUBLISHED, ClipConfig
from hf_mlrpl.clip.modeling_clip import ClipTowers
from hf_mlrpl.clip.sources import read_clip


def same_weights(one: ClipTowers, other: ClipTowers) -> bool:
    return all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


def test_a_converted_folder_on_the_hub(online):
    folder = online.folder
    towers = tiny_towers()
    towers.save_pretrained(folder / "someone" / "clip")
    loaded = ClipTowers(ClipConfig(**TINY_RESNET))
    loaded.load_pretrained("someone/clip")
    assert same_weights(loaded, towers) and loaded.tokenizer("a cat").input_ids == towers.tokenizer("a cat").input_ids
    assert same_weights(ClipTowers.from_pretrained("someone/clip"), towers)
    assert ClipTowers.from_pretrained("someone/clip").has_tokenizer


def test_of_a_repository_of_open_clip_only_the_towers_are_fetched(online):
    """Such repositories hold the image tower for timm, too, and everything twice, for older programs."""
    folder, fetched = online.folder, online.fetched
    towers = tiny_towers(hidden_act="gelu")
    repository = folder / "timm" / "tiny_clip.openai"
    towers.tokenizer.save_pretrained(repository)
    save_file(as_openai(towers), repository / "open_clip_model.safetensors")
    (repository / "open_clip_config.json").write_text('{"model_cfg": {"vision_cfg": {}, "text_cfg": {"heads": 1}}}')
    for name in ("config.json", "model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin"):
        (repository / name).write_text("{}")
    loaded = ClipTowers(towers.config)
    loaded.load_pretrained("timm/tiny_clip.openai")
    assert same_weights(loaded, towers) and loaded.has_tokenizer
    expected = {"config.json", "open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"}
    assert set(fetched) == expected


def test_published_names_are_asked_for_by_default(online):
    for name, published in PUBLISHED.items():
        owner = "timm" if name.startswith("resnet") else "openai"
        assert published.hub_name.startswith(f"{owner}/")
    towers = tiny_towers()
    with pytest.raises(ValueError, match="no published weights for the backbone 'resnet_clip'"):
        towers.load_pretrained()
    published = ClipTowers(ClipConfig(backbone="resnet50_clip", vision_sizes={"width": 8}, text_sizes={"width": 64}))
    with pytest.raises(FileNotFoundError, match="'timm/resnet50_clip.openai' is neither a folder nor on the Hub"):
        published.load_pretrained()


def test_a_repository_without_weights_is_an_error(online):
    folder = online.folder
    tiny_towers().save_pretrained(folder / "someone" / "clip")
    (folder / "someone" / "clip" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="someone/clip has no file with weights: neither model.safetensors"):
        read_clip("someone/clip")


def test_pytorch_weights_where_there_are_no_others(tmp_path):
    towers = tiny_towers()
    towers.save_pretrained(tmp_path)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    loaded = ClipTowers(towers.config)
    loaded.load_pretrained(str(tmp_path))
    assert same_weights(loaded, towers)


@pytest.mark.parametrize("name", ["clip", "a/b/c", "runs/clip"])
def test_what_is_no_name_of_the_hub_is_not_asked_for(name, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"there is no file or folder {name}"):
        read_clip(name)


def test_a_file_has_to_be_converted(tmp_path):
    (tmp_path / "RN50.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="is a file. `hf-mlrpl convert clip .*RN50.pt FOLDER` makes a folder of it"):
        read_clip(str(tmp_path / "RN50.pt"))


def test_a_folder_without_a_config_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no config.json"):
        read_clip(str(tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        '{"model_type": "clip", "projection_dim": "many"}',
        '{"model_type": "mlrpl-clip", "embed_dim": "many"}',
        '{"model_type": "mlrpl-clip", "backbone": "resnet"}',
    ],
)
def test_a_config_with_wrong_values_is_an_error(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match="many|got 'resnet'"):
        read_clip(str(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_config_is_an_error(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match="config.json (is not valid JSON|must hold a JSON object)"):
        read_clip(str(tmp_path))


# ---- configs that are not what they should be ----

OPEN_CLIP = [
    "",
    "[]",
    "3",
    "[" * 5000,
    '{"model_cfg": []}',
    '{"model_cfg": null}',
    '{"model_cfg": 3}',
    '{"model_cfg": {"vision_cfg": [], "text_cfg": {}}}',
    '{"model_cfg": {"vision_cfg": 3}}',
    '{"model_cfg": {"vision_cfg": null}}',
    '{"model_cfg": {"vision_cfg": {"head_width": 0}, "text_cfg": {"heads": 1}}}',
    '{"model_cfg": {"vision_cfg": {"head_width": 0, "layers": 2, "width": 64}, "text_cfg": {"heads": 1}}}',
    '{"model_cfg": {"vision_cfg": {"head_width": "x", "layers": 2}, "text_cfg": {"heads": 1}}}',
    '{"model_cfg": {"vision_cfg": {"layers": 2, "width": "x"}, "text_cfg": {"heads": 1}}}',
    '{"model_cfg": {"vision_cfg": {}, "text_cfg": {"heads": 0}}}',
    '{"model_cfg": {"vision_cfg": {}, "text_cfg": {"heads": "x"}}}',
    '{"model_cfg": {"vision_cfg": {}, "text_cfg": {"heads": []}}}',
    '{"model_cfg": {"vision_cfg": {}, "text_cfg": {"heads": 1}}, "preprocess_cfg": []}',
    '{"model_cfg": {"vision_cfg": {}, "text_cfg": {"heads": 1}}, "preprocess_cfg": {"mean": 3}}',
    '{"model_cfg": {"vision_cfg": {}, "text_cfg": {"heads": 1}}, "preprocess_cfg": {"std": [0, 0, 0]}}',
]


@pytest.mark.parametrize("content", OPEN_CLIP, ids=range(len(OPEN_CLIP)))
def test_a_broken_config_of_open_clip_is_named(content, tmp_path):
    save_file(as_openai(tiny_towers(hidden_act="gelu")), tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(content)
    with pytest.raises(ValueError, match=str(tmp_path)) as error:
        read_clip(str(tmp_path))
    assert len(str(error.value)) < 600


CLIP = [
    "",
    "[]",
    "null",
    "[" * 5000,
    "{}",
    '{"model_type": ["clip"]}',
    '{"model_type": "clip", "vision_config": 3}',
    '{"model_type": "clip", "vision_config": {"num_hidden_layers": "x"}}',
    '{"model_type": "clip", "vision_config": {"patch_size": 0}}',
    '{"model_type": "clip", "text_config": {"num_attention_heads": 0}}',
    '{"model_type": "clip", "projection_dim": -1}',
    '{"model_type": "clip", "projection_dim": "x"}',
    '{"model_type": "mlrpl-clip", "backbone": 3}',
    '{"model_type": "mlrpl-clip", "backbone": "resnet_clip"}',
    '{"model_type": "mlrpl-clip", "vision_sizes": []}',
    '{"model_type": "mlrpl-clip", "vision_sizes": {"layers": 3}}',
    '{"model_type": "mlrpl-clip", "text_sizes": {"heads": 0}}',
    '{"model_type": "mlrpl-clip", "image_size": 7}',
    '{"model_type": "mlrpl-clip", "embed_dim": 0}',
]


@pytest.mark.parametrize("content", CLIP, ids=range(len(CLIP)))
def test_a_broken_config_of_towers_is_named(content, tmp_path):
    tiny_towers().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=str(tmp_path)) as error:
        read_clip(str(tmp_path))
    assert len(str(error.value)) < 900
