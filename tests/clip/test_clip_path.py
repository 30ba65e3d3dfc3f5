"""From published weights of CLIP to a tagger whose labels change, on the command line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import write_recipe
from tiny_clip import TINY_TEXT, as_openai, tiny_towers
from transformers import AutoModelForImageClassification

import hf_mlrpl.auto  # noqa: F401  registers the models
from hf_mlrpl.cli.main import main
from hf_mlrpl.clip.tokenizer import byte_tokenizer

CONTEXT_LENGTH = 24
STEPS = {"max_steps": 2, "eval_strategy": "no", "logging_steps": 1}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Untrained towers, and the folder that `hf-mlrpl convert clip` makes of their state dict."""
    folder = tmp_path_factory.mktemp("published")
    towers = tiny_towers(text_sizes=TINY_TEXT | {"context_length": CONTEXT_LENGTH}, image_size=32)
    torch.save(as_openai(towers), folder / "clip.pt")
    byte_tokenizer(CONTEXT_LENGTH).save_pretrained(folder / "words")
    command = ["convert", "clip", folder / "clip.pt", folder / "clip", "--tokenizer", folder / "words"]
    assert main([*map(str, command), "--activation", "quick_gelu"]) == 0
    return towers, folder / "clip"


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def tag(capsys, *arguments: str) -> dict[str, float]:
    """Labels of one photo with their scores, all of them."""
    capsys.readouterr()
    assert main(["tag", *arguments, "--json", "--threshold", "0"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    return {found["label"]: found["score"] for found in json.loads(line)["tags"]}


METHODS = {
    "scpnet": {"num_context": 9, "context_words": "a photo of a"},  # nine bytes
    "dualcoop": {"context_per_label": False, "trainable_backbone": []},
}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_converted_towers_become_a_tagger_with_any_labels(method, published, photo, tmp_path, capsys):
    towers, folder = published
    model = METHODS[method] | {"pretrained": str(folder)}
    recipe, run = write_recipe(tmp_path, method, model=model, training=STEPS), str(tmp_path / "run")
    assert main(["train", recipe, "--output", run, "--no-pictures"]) == 0

    trained = AutoModelForImageClassification.from_pretrained(run)
    state = towers.state_dict()
    frozen = "backbone." if method == "dualcoop" else "text_encoder."
    assert all(torch.equal(w, state[name]) for name, w in trained.state_dict().items() if name.startswith(frozen))
    if method == "scpnet":
        words = torch.tensor(trained.tokenizer("a photo of a", add_special_tokens=False)["input_ids"])
        steps = trained.prompts.context - towers.text_encoder.embed(words)
        assert 0 < steps.abs().max() < 2.1e-3, "two steps of Adam"

    own = tag(capsys, run, photo)
    assert sorted(own) == sorted("0123456789")
    others = tag(capsys, run, photo, "--labels", "zebra, traffic light,7")
    assert set(others) == {"zebra", "traffic light", "7"}
    trained.set_labels(["zebra", "traffic light", "7"])
    trained.save_pretrained(tmp_path / "other")
    assert tag(capsys, str(tmp_path / "other"), photo) == pytest.approx(others, abs=1e-6)


@pytest.mark.slow
def test_labels_with_contexts_of_their_own_can_be_chosen_from(published, photo, tmp_path, capsys):
    recipe = write_recipe(tmp_path, "dualcoop", model={"pretrained": str(published[1])}, training=STEPS)
    run = str(tmp_path / "run")
    assert main(["train", recipe, "--output", run, "--no-pictures"]) == 0
    own = tag(capsys, run, photo)
    assert tag(capsys, run, photo, "--labels", "7, 2") == pytest.approx({name: own[name] for name in "72"}, abs=1e-6)
    assert main(["tag", run, photo, "--labels", "7, zebra"]) == 2
    assert (
        "error: Each label of this model learned a context of its own, and zebra has none" in capsys.readouterr().err
    )
