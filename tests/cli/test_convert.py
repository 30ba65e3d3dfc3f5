"""`hf-mlrpl convert clip`, on the golden models in every format that is published."""

import gzip
import json

import pytest
import torch
from golden_files import golden
from safetensors.torch import save_file
from tiny_clip import CLIP_FILES, golden_towers, golden_weights, outputs_of, tiny_towers, write_torchscript
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from hf_mlrpl.cli.main import main
from hf_mlrpl.clip.modeling_clip import ClipTowers
from hf_mlrpl.clip.tokenizer import build_tokenizer, byte_tokenizer
from hf_mlrpl.clip.weights import INTEGERS, transformers_place

QUICK_GELU = ["--activation", "quick_gelu"]


def published(name: str) -> dict[str, Tensor]:
    """The state dict of a golden model as OpenAI publishes it."""
    return {key.removeprefix("w."): t for key, t in golden(name).tensors.items() if key.startswith("w.")}


def without_integers(name: str) -> dict[str, Tensor]:
    """The same as open_clip has it."""
    return {key: tensor.contiguous() for key, tensor in published(name).items() if key not in INTEGERS}


def open_clip_config(name: str, quick_gelu: bool) -> dict:
    config = golden_weights(golden(name)).config
    text = {key: config.text_sizes[key] for key in ("context_length", "vocab_size", "width", "heads", "layers")}
    vision = {key: config.vision_sizes.get(key) for key in ("layers", "width", "patch_size")}
    model = {"embed_dim": config.embed_dim, "quick_gelu": quick_gelu, "vision_cfg": vision, "text_cfg": text}
    return {"model_cfg": model, "preprocess_cfg": {"mean": list(config.image_mean), "std": list(config.image_std)}}


def write_script(name, path):
    write_torchscript(published(name), path)


def write_trace(name, path):
    write_torchscript(published(name), path, traced=True)


def write_state_dict(name, path):
    torch.save(published(name), path)


def write_training_checkpoint(name, path):
    state = {f"module.{key}": tensor for key, tensor in without_integers(name).items()}
    torch.save({"epoch": 3, "name": "run", "state_dict": state, "optimizer": {"param_groups": [{"lr": 0.1}]}}, path)


def write_safetensors(name, path):
    save_file(without_integers(name), path)


def write_open_clip_folder(name, path, quick_gelu=True):
    path.mkdir()
    save_file(without_integers(name), path / "open_clip_model.safetensors")
    (path / "open_clip_config.json").write_text(json.dumps(open_clip_config(name, quick_gelu)))
    (path / "config.json").write_text('{"architecture": "resnet50_clip"}')  # timm's own, as in the repositories


def write_open_clip_folder_with_gelu(name, path):
    write_open_clip_folder(name, path, quick_gelu=False)


def write_transformers_folder(name, path):
    """Saved by transformers itself."""
    weights = golden_weights(golden(name))
    vision, text = weights.config.vision_sizes, weights.config.text_sizes
    names = {"num_hidden_layers": "layers", "hidden_size": "width", "num_attention_heads": "heads"}
    shared = {"hidden_act": "quick_gelu", "projection_dim": weights.config.embed_dim}
    towers = [
        {key: sizes[ours] for key, ours in names.items()} | {"intermediate_size": 4 * sizes["width"]} | shared
        for sizes in (vision, text)
    ]
    towers[0] |= {"patch_size": vision["patch_size"], "image_size": weights.config.image_size}
    towers[1] |= {"vocab_size": text["vocab_size"], "max_position_embeddings": text["context_length"]}
    towers[1] |= {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    sizes = {"vision_config": towers[0], "text_config": towers[1], "projection_dim": weights.config.embed_dim}
    model = CLIPModel(CLIPConfig(**sizes))
    model.load_state_dict({transformers_place(key).name: tensor for key, tensor in weights.tensors.items()})
    model.save_pretrained(path)


FORMATS = {
    "script.pt": (write_script, []),
    "trace.pt": (write_trace, []),
    "state_dict.pt": (write_state_dict, []),
    "training.pt": (write_training_checkpoint, QUICK_GELU),
    "open_clip.safetensors": (write_safetensors, QUICK_GELU),
    "open_clip.bin": (write_state_dict, QUICK_GELU),
    "open_clip_folder": (write_open_clip_folder, []),
    "open_clip_folder_gelu": (write_open_clip_folder_with_gelu, []),
    "transformers_folder": (write_transformers_folder, []),
}
CASES = [
    (name, kind) for name in CLIP_FILES for kind in FORMATS if name == "clip_vit" or kind != "transformers_folder"
]


@pytest.mark.golden
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_converted_weights_give_the_published_numbers(name, kind, tmp_path, capsys):
    write, options = FORMATS[kind]
    write(name, tmp_path / kind)
    assert main(["convert", "clip", str(tmp_path / kind), str(tmp_path / "out"), *options]) == 0
    towers = ClipTowers.from_pretrained(tmp_path / "out").eval()
    tensors, prefix = golden(name).tensors, "openclip_gelu_" if kind.endswith("_gelu") else ""
    with torch.no_grad():
        outputs = outputs_of(towers, tensors["in.image"], tensors["in.token_ids"])
    for key in ("image_features", "text_features", "logits_per_image"):
        assert (outputs[key] - tensors[f"out.{prefix}{key}"]).abs().max() <= 1e-5, key
    assert "There is no tokenizer" in capsys.readouterr().out


@pytest.mark.golden
@pytest.mark.parametrize("name", CLIP_FILES)
def test_half_precision_becomes_float32(name, tmp_path, capsys):
    half = {key: t.half() if t.is_floating_point() else t for key, t in published(name).items()}
    write_torchscript(half, tmp_path / "half.pt")
    assert main(["convert", "clip", str(tmp_path / "half.pt"), str(tmp_path / "out")]) == 0
    towers = ClipTowers.from_pretrained(tmp_path / "out")
    assert {p.dtype for p in towers.parameters()} == {torch.float32}
    whole = golden_towers(golden(name), torch.float32).state_dict()
    for key, tensor in towers.state_dict().items():
        assert torch.equal(tensor, whole[key].half().float() if tensor.is_floating_point() else whole[key]), key


# ---- the tokenizer ----

MERGES = [("a", "n</w>"), ("t", "h"), ("th", "e</w>")]
TEXT = {"layers": 1, "width": 64, "vocab_size": 514 + len(MERGES), "context_length": 16}


@pytest.fixture
def towers(tmp_path) -> ClipTowers:
    """Towers with the vocabulary of `MERGES`, and a folder of transformers' layout in ours without a tokenizer."""
    towers = tiny_towers(text_sizes=TEXT)
    towers.save_pretrained(tmp_path / "weights")
    for file in (tmp_path / "weights").glob("tokenizer*"):
        file.unlink()
    return towers


def write_merges(path):
    """As OpenAI's file: a line about the version, and more merges than belong to the weights."""
    lines = ["#version: 0.2", *(" ".join(pair) for pair in MERGES), "too many", "lines</w> here", ""]
    content = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda weight: weight * torch.nan,
        lambda weight: weight.index_fill(0, torch.tensor([0]), -torch.inf),
        lambda weight: weight.to(torch.int8),
        lambda weight: weight.to(torch.complex64),
        lambda weight: weight > 0,
    ],
    ids=["nan", "inf", "int8", "complex", "bool"],
)
def test_weights_that_are_no_finite_real_numbers_are_refused(spoil, tmp_path, capsys):
    tensors = published("clip_resnet")
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.ndim == 2)
    torch.save(tensors | {name: spoil(tensors[name])}, tmp_path / "clip.pt")
    command = ["convert", "clip", str(tmp_path / "clip.pt"), str(tmp_path / "out"), "--activation", "quick_gelu"]
    assert main(command) == 2
    assert f"1 without finite real numbers ({name} (" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ["bpe_simple_vocab_16e6.txt.gz", "merges.txt", "tokenizer.json", "folder"])
def test_the_tokenizer_comes_from_a_file(file, towers, tmp_path, capsys):
    expected = build_tokenizer(MERGES, TEXT["context_length"])
    if file.endswith((".gz", ".txt")):
        write_merges(tmp_path / file)
    else:
        expected.save_pretrained(tmp_path / "folder")
    path = tmp_path / "folder" / file if file.endswith(".json") else tmp_path / file
    assert main(["convert", "clip", str(tmp_path / "weights"), str(tmp_path / "out"), "--tokenizer", str(path)]) == 0
    assert "tokenizer.json" in capsys.readouterr().out
    tokenizer = ClipTowers.from_pretrained(tmp_path / "out").tokenizer
    ids = tokenizer("The an tan").input_ids
    assert ids == expected("The an tan").input_ids and ids[0] == TEXT["vocab_size"] - 2 and max(ids) == ids[-1]
    assert len(ids) == 6, "the merges make two words one token each, and the third one two"
    assert CLIPTokenizer.from_pretrained(tmp_path / "out")("The an tan").input_ids == ids


def test_the_tokenizer_of_a_folder_is_taken_over(towers, tmp_path, capsys):
    build_tokenizer(MERGES, 16).save_pretrained(tmp_path / "weights")
    assert main(["convert", "clip", str(tmp_path / "weights"), str(tmp_path / "out")]) == 0
    assert ClipTowers.from_pretrained(tmp_path / "out").tokenizer("the").input_ids == [515, 514, 516]


def error_of(arguments: list, capsys) -> str:
    assert main(["convert", "clip", *map(str, arguments)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1, "one line"
    return message


def test_a_tokenizer_of_another_model_is_an_error(towers, tmp_path, capsys):
    byte_tokenizer(16).save_pretrained(tmp_path / "other")
    message = error_of([tmp_path / "weights", tmp_path / "out", "--tokenizer", tmp_path / "other"], capsys)
    assert "start and end are its tokens 512 and 513, and must be the last of 517" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"#version\na n</w>\n", "their 517 tokens are 514 and 3 merges, and it has 1"),
        (b"\xff\xfe", "is no list of merges"),
    ],
)
def test_a_bad_list_of_merges_is_an_error(content, fault, towers, tmp_path, capsys):
    (tmp_path / "merges.txt").write_bytes(content)
    arguments = [tmp_path / "weights", tmp_path / "out", "--tokenizer", tmp_path / "merges.txt"]
    assert fault in error_of(arguments, capsys)


@pytest.mark.parametrize("content", ["{}", "[1]", '{"model": {"vocab": {"a": 0}, "merges": []}}'])
def test_a_bad_tokenizer_file_is_an_error(content, towers, tmp_path, capsys):
    (tmp_path / "tokenizer.json").write_text(content)
    arguments = [tmp_path / "weights", tmp_path / "out", "--tokenizer", tmp_path / "tokenizer.json"]
    assert "has no tokenizer of CLIP" in error_of(arguments, capsys)


def test_a_missing_tokenizer_is_an_error(towers, tmp_path, capsys):
    arguments = [tmp_path / "weights", tmp_path / "out", "--tokenizer", tmp_path / "nothing.json"]
    assert "There is no tokenizer" in error_of(arguments, capsys)


# ---- what cannot be converted ----


def test_a_file_that_does_not_tell_its_activation_is_an_error(tmp_path, capsys):
    write_safetensors("clip_resnet", tmp_path / "a.safetensors")
    assert "Add `--activation quick_gelu` for OpenAI's" in error_of([tmp_path / "a.safetensors", "out"], capsys)


def test_another_activation_than_that_of_the_folder_is_an_error(tmp_path, capsys):
    write_open_clip_folder("clip_resnet", tmp_path / "a")
    message = error_of([tmp_path / "a", tmp_path / "out", "--activation", "gelu"], capsys)
    assert "says that its activation is quick_gelu" in message


@pytest.mark.parametrize("name", CLIP_FILES)
def test_missing_unknown_and_misshapen_weights_are_named(name, tmp_path, capsys):
    tensors = published(name)
    del tensors["transformer.resblocks.0.attn.in_proj_weight"]
    tensors["transformer.resblocks.0.ln_3.weight"] = torch.zeros(2)
    width = len(tensors["ln_final.bias"])
    tensors["ln_final.bias"] = torch.zeros(width + 1)
    torch.save(tensors, tmp_path / "a.pt")
    message = error_of([tmp_path / "a.pt", tmp_path / "out"], capsys)
    assert "1 missing (transformer.resblocks.0.attn.in_proj_weight)" in message
    assert "1 unknown (transformer.resblocks.0.ln_3.weight)" in message
    assert f"ln_final.bias ({width + 1},) instead of ({width},)" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("write", [lambda t, f: torch.save(t, f), lambda t, f: write_torchscript(t, f)])
def test_weights_of_another_architecture_are_an_error(write, tmp_path, capsys):
    tensors = {"conv1.weight": torch.zeros(3, 3), "fc.bias": torch.zeros(2)}
    write(tensors, tmp_path / "a.pt")
    message = error_of([tmp_path / "a.pt", tmp_path / "out", *QUICK_GELU], capsys)
    assert "holds no CLIP model under the names of OpenAI's code: there is no `token_embedding.weight`" in message
    assert "It has 2 tensors (conv1.weight, fc.bias)" in message


def test_a_wide_vit_needs_its_config(tmp_path, capsys):
    """The tensors of a ViT-H are those of a model with other heads."""
    tensors = published("clip_vit")
    tensors["visual.conv1.weight"] = torch.zeros(1280, 3, 14, 14)
    torch.save(tensors, tmp_path / "a.pt")
    assert "tensors do not tell how many heads" in error_of([tmp_path / "a.pt", tmp_path / "out"], capsys)


def test_an_open_clip_model_that_is_no_plain_clip_is_an_error(tmp_path, capsys):
    write_open_clip_folder("clip_vit", tmp_path / "a")
    config = open_clip_config("clip_vit", True)
    config["model_cfg"]["vision_cfg"]["global_average_pool"] = True
    (tmp_path / "a" / "open_clip_config.json").write_text(json.dumps(config))
    assert "its `vision_cfg` sets global_average_pool" in error_of([tmp_path / "a", tmp_path / "out"], capsys)


def test_a_transformers_model_of_another_kind_is_an_error(tmp_path, capsys):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text('{"model_type": "siglip"}')
    assert "holds a model of the type 'siglip'" in error_of([tmp_path / "a", tmp_path / "out"], capsys)


@pytest.mark.parametrize("source", ["nothing.pt", "no/such/folder", "/no/folder"])
def test_a_missing_file_is_an_error(source, tmp_path, capsys):
    assert f"there is no file or folder {source}" in error_of([source, tmp_path / "out"], capsys)


def test_a_folder_with_something_in_it_is_not_written_to(tmp_path, capsys):
    write_state_dict("clip_vit", tmp_path / "a.pt")
    assert "exists and is no empty folder" in error_of([tmp_path / "a.pt", tmp_path], capsys)


def test_towers_are_no_tagger(tmp_path, capsys):
    tiny_towers().save_pretrained(tmp_path / "clip")
    (tmp_path / "photo.jpg").write_bytes(b"")
    assert main(["tag", str(tmp_path / "clip"), str(tmp_path / "photo.jpg")]) == 2
    assert "clip` has the towers of CLIP without labels. Train a model from it" in capsys.readouterr().err


def test_each_kind_has_a_help(capsys):
    with pytest.raises(SystemExit) as end:
        main(["convert", "clip", "--help"])
    assert end.value.code == 0 and "What is trusted" in capsys.readouterr().out
