"""What was pushed is what others get, by every way to it."""

import copy
import json
import subprocess
import sys

import huggingface_hub.constants
import pytest
import torch
from hub_server import TOKEN, USER
from PIL import Image
from tiny import tiny_model
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification, pipeline

import hf_mlrpl.auto  # noqa: F401  registers the models and the pipeline
from hf_mlrpl.cli.main import main
from hf_mlrpl.hub.download import checkpoint_folder
from hf_mlrpl.hub.stub import MODULE
from hf_mlrpl.pipelines.image_tagging import ImageTaggingPipeline

NAME = f"{USER}/my-tagger"


@pytest.fixture(scope="module")
def model():
    """A tagger with thresholds that half of the labels reach."""
    model = tiny_model("ssgrl").eval()
    with torch.no_grad():
        scores = model(torch.zeros(1, 3, 32, 32)).logits.sigmoid()[0].tolist()
    model.config.thresholds = [score + (0.2 if i % 2 else -0.2) for i, score in enumerate(scores)]
    return model


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "a.png"
    Image.radial_gradient("L").convert("RGB").resize((40, 30)).save(path)
    return str(path)


@pytest.fixture
def pushed(online, model):
    assert model.push_to_hub(NAME) == f"{online.address}/{NAME}"
    return online


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    def clear(name="fresh"):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / name))

    return clear


def tags(printed):
    return {tag["label"]: tag["score"] for tag in json.loads(printed)["tags"]}


def fail(capsys, *command):
    assert main([str(part) for part in command]) == 2
    return capsys.readouterr().err


def test_logits_thresholds_and_tags_are_equal_in_a_fresh_cache(pushed, model, photo, capsys):
    pixels = torch.linspace(-2, 2, 3 * 32 * 32).view(1, 3, 32, 32)
    pulled = AutoModelForImageClassification.from_pretrained(NAME)
    with torch.no_grad():
        # In memory of its own: at the odd addresses of a mapped file some processors add in another order.
        assert torch.equal(copy.deepcopy(pulled)(pixels).logits, model(pixels).logits)
    assert pulled.config.thresholds == model.config.thresholds
    expected = ImageTaggingPipeline(model=model, device="cpu")(photo)
    assert 0 < len(expected) < 5
    assert pipeline("image-tagging", model=NAME, device="cpu")(photo) == expected
    assert main(["tag", NAME, photo, "--json"]) == 0
    assert tags(capsys.readouterr().out) == {tag["label"]: round(tag["score"], 6) for tag in expected}


def test_a_pipeline_without_a_task_is_the_tagger(pushed, photo):
    expected = pipeline("image-tagging", model=NAME, device="cpu")(photo)
    for options in ({}, {"trust_remote_code": True}):
        tagger = pipeline(model=NAME, device="cpu", **options)
        assert type(tagger) is ImageTaggingPipeline and tagger(photo) == expected
    assert len(pipeline(model=NAME, device="cpu", trust_remote_code=False)(photo)) == 5, "that of the Hub's task"


def test_a_folder_is_enough_for_a_pipeline(model, tmp_path, photo):
    model.save_pretrained(tmp_path)
    tagger = pipeline(model=str(tmp_path), device="cpu")
    assert tagger(photo) == ImageTaggingPipeline(model=model, device="cpu")(photo)


def test_a_pipeline_saves_loads_and_pushes(online, model, photo, tmp_path):
    processor = AutoImageProcessor.from_pretrained(_saved(model, tmp_path / "model"))
    processor.image_mean = [0.1, 0.2, 0.3]
    tagger = ImageTaggingPipeline(model=model, image_processor=processor, device="cpu")
    tagger.save_pretrained(tmp_path / "saved")
    assert not list((tmp_path / "saved").glob("*.py"))
    tagger.push_to_hub(NAME)
    for name in (str(tmp_path / "saved"), NAME):
        assert pipeline("image-tagging", model=name, device="cpu")(photo) == tagger(photo)


def _saved(model, folder):
    model.save_pretrained(folder)
    return folder


def test_saving_can_push(online, model, tmp_path):
    model.save_pretrained(tmp_path / "my-tagger", push_to_hub=True, commit_message="Saved")
    assert online.messages == ["Saved"] and "README.md" in online.main(NAME)


def test_what_is_loaded_can_be_saved_and_pushed_again(pushed, tmp_path):
    loaded = AutoModelForImageClassification.from_pretrained(NAME, trust_remote_code=True)
    loaded.save_pretrained(tmp_path)
    assert "auto_map" not in json.loads((tmp_path / "config.json").read_text())
    assert not list(tmp_path.glob("*.py"))
    before = pushed.main(NAME)
    loaded.push_to_hub(NAME)
    assert pushed.main(NAME) == before


# ---- revisions, the cache, and what the Hub refuses ----


def test_revisions_by_both_ways_of_writing(pushed, model, photo, capsys):
    model.push_to_hub(NAME, tag="v1")
    changed = tiny_model("ssgrl")
    changed.config.thresholds = 0.0
    changed.push_to_hub(NAME)
    found = []
    for command in (["tag", f"{NAME}@v1"], ["tag", NAME, "--revision", "v1"], ["tag", NAME]):
        assert main([*command, photo, "--json"]) == 0
        found.append(tags(capsys.readouterr().out))
    assert found[0] == found[1] and len(found[0]) < 5 and len(found[2]) == 5
    assert "has no such revision" in fail(capsys, "tag", f"{NAME}@v2", photo)
    assert "names the revision 'v1', but 'v2'" in fail(capsys, "tag", f"{NAME}@v1", photo, "--revision", "v2")


def test_a_folder_has_no_revision(tmp_path):
    with pytest.raises(ValueError, match="is a folder, which has no revision 'v1'"):
        checkpoint_folder(tmp_path, revision="v1")


def test_the_cache_is_enough_without_a_network(pushed, photo, capsys, monkeypatch):
    assert main(["tag", NAME, photo, "--json"]) == 0
    online = capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
        assert main(["tag", NAME, photo, "--json"]) == 0
        assert capsys.readouterr().out == online
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert main(["tag", NAME, photo, "--json"]) == 0
    assert capsys.readouterr().out == online
    message = fail(capsys, "tag", f"{USER}/another", photo)
    assert f"The Hub cannot be reached, and {USER}/another is not complete in the cache" in message


def test_only_what_is_needed_is_fetched(pushed, photo, capsys):
    root = pushed.folder / NAME
    (root / "examples").mkdir()
    for name in ("training_args.bin", "pytorch_model.bin", "examples/000.png", "modeling_evil.py"):
        (root / name).write_bytes(b"x")
    assert main(["tag", NAME, photo]) == 0
    assert set(pushed.fetched) == {"config.json", "model.safetensors", "preprocessor_config.json"}


@pytest.mark.parametrize(
    "token, state, message",
    [
        (TOKEN, "none", f"{USER}/nothing is not on the Hub, or is private: check the name, and log in with"),
        ("", "none", f"{USER}/nothing is not on the Hub, or is private"),
        ("", "private", f"{NAME} is not on the Hub, or is private"),
        ("", "gated", f"{NAME} is gated: ask for access at "),
    ],
)
def test_what_cannot_be_read_is_explained(pushed, photo, capsys, monkeypatch, token, state, message):
    getattr(pushed, state, set()).add(NAME)
    monkeypatch.setenv("HF_TOKEN", token)
    name = f"{USER}/nothing" if state == "none" else NAME
    assert message in fail(capsys, "tag", name, photo)


def test_a_token_on_the_command_line_opens_a_private_model(pushed, photo, capsys, monkeypatch):
    pushed.private.add(NAME)
    monkeypatch.setenv("HF_TOKEN", "")
    assert main(["tag", NAME, photo, "--token", TOKEN]) == 0


@pytest.mark.parametrize("status", [503, 0])
def test_a_server_that_fails_now_and_then(pushed, photo, status):
    pushed.fail("GET .*model.safetensors", status)
    assert main(["tag", NAME, photo]) == 0


def test_evaluate_takes_the_recipe_from_the_hub(online, tmp_path, capsys):
    from tiny import make_trainer, tiny_recipe

    recipe = tiny_recipe("asl", training={"num_train_epochs": 1, "logging_strategy": "no"})
    trainer = make_trainer(recipe, tmp_path / "run")
    (tmp_path / "run").mkdir(exist_ok=True)
    recipe.save(tmp_path / "run" / "recipe.yaml")
    trainer.push_to_hub()
    assert main(["evaluate", f"{USER}/run", "--json"]) == 0
    pulled = json.loads(capsys.readouterr().out)
    trainer.model.save_pretrained(tmp_path / "run")
    assert main(["evaluate", str(tmp_path / "run"), "--json"]) == 0
    assert pulled["test_map"] == json.loads(capsys.readouterr().out)["test_map"]


# ---- without the import, and without the package ----


@pytest.fixture
def published(pushed, tmp_path):
    """The files of the repository in a folder."""
    folder = tmp_path / "published"
    for name, content in pushed.main(NAME).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.slow
def test_it_works_without_the_import_and_names_a_missing_package(published, photo, tmp_path, model):
    code = f"""
import sys
from transformers import AutoConfig, pipeline
class Missing:
    def find_spec(name, *_):
        if name == "hf_mlrpl":
            raise ModuleNotFoundError("No module named 'hf_mlrpl'")
sys.meta_path.insert(0, Missing)
try:
    AutoConfig.from_pretrained(r"{published}", trust_remote_code=True)
except ImportError as error:
    print("Run `pip install hf_mlrpl`" in str(error))
sys.meta_path.remove(Missing)
tagger = pipeline(model=r"{published}", trust_remote_code=True, device="cpu")
print(type(tagger).__name__, len(tagger(r"{photo}")))
tagger.save_pretrained(r"{published}/again")
"""
    environment = {"HF_HOME": str(tmp_path / "home"), "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    count = len(ImageTaggingPipeline(model=model, device="cpu")(photo))
    assert done.stdout.split() == ["True", "ImageTaggingPipeline", str(count)]


def test_the_only_code_in_a_repository_imports_the_package(pushed):
    code = {name: content.decode() for name, content in pushed.main(NAME).items() if name.endswith(".py")}
    assert list(code) == [f"{MODULE}.py"] and "pip install hf-mlrpl" in code[f"{MODULE}.py"]
    lines = [line for line in code[f"{MODULE}.py"].splitlines() if line and not line.startswith('"""')]
    assert all(line.startswith(("import hf_mlrpl", "from hf_mlrpl import")) for line in lines)


def test_code_of_a_repository_does_not_run_unasked(pushed, photo, capsys, monkeypatch):
    """Neither for our models, nor for others: also not if somebody would say yes."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    root = pushed.folder / NAME
    (root / f"{MODULE}.py").write_text("raise SystemExit('it ran')")
    assert main(["tag", NAME, photo]) == 0
    AutoConfig.from_pretrained(NAME)
    config = json.loads((root / "config.json").read_text()) | {"model_type": "unheard-of"}
    (root / "config.json").write_text(json.dumps(config))
    assert "cannot be read" in fail(capsys, "tag", NAME, photo)


# ---- earlier formats, and checkpoints of an unfinished run ----


def test_a_checkpoint_without_a_processor_tags(model, photo, tmp_path):
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    expected = ImageTaggingPipeline(model=model, device="cpu")(photo)
    assert pipeline("image-tagging", model=str(tmp_path), device="cpu")(photo) == expected


def test_an_unfinished_run_tags_with_the_averaged_weights(photo, tmp_path, capsys):
    from tiny import make_trainer, tiny_recipe

    recipe = tiny_recipe("asl", training={"num_train_epochs": 1, "ema_decay": 0.5, "logging_strategy": "no"})
    trainer = make_trainer(recipe, tmp_path)
    trainer.train()
    folder = tmp_path / "checkpoint-3"
    capsys.readouterr()
    assert main(["tag", str(folder), photo, "--json", "--threshold", "0"]) == 0
    found = tags(capsys.readouterr().out)
    trainer.save_averaged_weights_to_model()
    expected = ImageTaggingPipeline(model=trainer.model.eval(), device="cpu")(photo, threshold=0.0)
    assert found == pytest.approx({tag["label"]: tag["score"] for tag in expected}, abs=1e-5)


def test_types_of_models_have_a_common_prefix():
    from hf_mlrpl.registry import METHODS, load

    assert all(load(spec.model).config_class.model_type.startswith("mlrpl-") for spec in METHODS.values())
