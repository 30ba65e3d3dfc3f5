"""From a run to the Hub and back, through the real client and a Hub on this machine."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hub_server import TOKEN, USER
from huggingface_hub import ModelCard
from PIL import Image
from tiny import BACKBONE, make_trainer, tiny_recipe

from hf_mlrpl.cli.main import main
from hf_mlrpl.hub import publish
from hf_mlrpl.recipe.document import Recipe

NAME = f"{USER}/my-tagger"
PHOTO = "secret_beach"
CLEAN = {
    "README.md",
    "config.json",
    "facts.json",
    "metrics.json",
    "model.safetensors",
    "needs_hf_mlrpl.py",
    "preprocessor_config.json",
    "recipe.yaml",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The home folder of a person whose name nobody shall see, with photos, a recipe and a run of it."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home") / "bertha.mustermann"
        (home / "photos").mkdir(parents=True)
        patch.setenv("HOME", str(home))
        rng = np.random.default_rng(0)
        rows = ["image,dog,cat"]
        for i in range(16):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(home / "photos" / f"{PHOTO}_{i}.png")
            rows.append(f"{PHOTO}_{i}.png,{i % 2},{'' if i % 3 else int(i % 4 == 0)}")
        (home / "photos" / "table.csv").write_text("\n".join(rows))
        content = {
            "method": "asl",
            "data": {"name": "table", "path": str(home / "photos/table.csv"), "validation": 0.25, "view": "plain"},
            "model": BACKBONE,
            "training": {
                "num_train_epochs": 2,
                "per_device_train_batch_size": 4,
                "learning_rate": 0.01,
                "ema_decay": 0.5,
                "choose_thresholds": True,
                "disable_tqdm": True,
            },
        }
        (home / "mine.yaml").write_text(yaml.safe_dump(content))
        assert main(["train", str(home / "mine.yaml"), "--output", str(home / "run")]) == 0
        yield home


@pytest.fixture
def at_home(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def run(at_home):
    return at_home / "run"


def push(run, *options):
    assert main(["push", str(run), NAME, *options]) == 0


def fail(capsys, *command):
    assert main([str(part) for part in command]) == 2
    return capsys.readouterr().err


def logits(folder):
    from hf_mlrpl.cli.checkpoint import load_model

    pixels = torch.linspace(-2, 2, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
    with torch.no_grad():
        return load_model(folder).eval()(pixels).logits


def test_a_push_publishes_the_clean_folder_and_nothing_else(online, run, capsys):
    assert {"checkpoint-6", "examples", "runs"} <= {path.name for path in run.iterdir()}, "what must not go up"
    push(run)
    assert set(online.main(NAME)) == CLEAN
    assert f"published: {online.address}/{NAME}" in capsys.readouterr().out
    assert torch.equal(logits(online.folder / NAME), logits(run)), "the averaged weights, bit for bit"
    thresholds = json.loads((run / "config.json").read_text())["thresholds"]
    assert json.loads(online.main(NAME)["config.json"])["thresholds"] == thresholds != 0.5


@pytest.mark.parametrize("options", [(), ("--pictures",)])
def test_no_byte_that_goes_up_names_the_person_the_photos_or_the_token(online, run, options):
    push(run, *options)
    sent = b"".join([*online.received, *online.main(NAME).values()])
    for secret in (TOKEN, "bertha", "mustermann", str(run.parent), PHOTO):
        assert secret.encode() not in sent, secret
    assert b"validation_map" in sent, "the test sees what goes up"


def test_pictures_go_up_only_on_request(online, run):
    push(run, "--pictures")
    added = set(online.main(NAME)) - CLEAN
    assert added and all(name.startswith("examples/") for name in added)
    assert ModelCard(online.main(NAME)["README.md"].decode()).data.widget[0]["src"].endswith("examples/000.png")


def test_a_dry_run_lists_the_files_and_asks_nobody(online, run, capsys):
    push(run, "--dry-run")
    printed = capsys.readouterr().out
    assert all(name in printed for name in CLEAN) and "would go to" in printed
    assert online.requests == []


def test_the_recipe_is_without_paths_and_loads(online, run, tmp_path):
    push(run)
    text = online.main(NAME)["recipe.yaml"].decode()
    assert text.startswith("# Paths of the author were left out: data.path. Give yours.\n")
    (tmp_path / "recipe.yaml").write_bytes(online.main(NAME)["recipe.yaml"])
    recipe = Recipe.load(tmp_path / "recipe.yaml", ["data.path=elsewhere"])
    assert recipe.training.settings["ema_decay"] == 0.5


def test_private_branches_and_tags(online, run):
    push(run, "--private", "--revision", "second", "--tag", "v1", "--message", "Try")
    assert NAME in online.private and online.messages == ["Try"]
    assert online.main(NAME) == {}, "the branch main has nothing"
    assert set(online.tree(NAME, "second")[1]) == set(online.tree(NAME, "v1")[1]) == CLEAN


def test_a_tag_that_is_there_is_told_before_anything_goes_up(online, run, capsys):
    push(run, "--tag", "v1")
    asked = "--license", "mit", "--tag", "v1"
    assert f"{NAME} has a tag v1 already. Give another one; nothing was uploaded" in fail(
        capsys, "push", run, NAME, *asked
    )
    assert len(online.messages) == 1


def test_a_copy_of_what_is_on_the_hub_keeps_recipe_metrics_and_what_the_author_wrote(online, run):
    push(run)
    card = online.folder / NAME / "README.md"
    card.write_text(card.read_text().replace("license: unknown", "license: mit") + "\nThanks to Ada.\n")
    assert main(["push", NAME, "alice/copy"]) == 0
    copied, first = online.main("alice/copy"), online.main(NAME)
    for name in ("recipe.yaml", "metrics.json", "facts.json"):
        assert yaml.safe_load(copied[name]) == yaml.safe_load(first[name])
    copy = ModelCard(copied["README.md"].decode())
    assert copy.data.license == "mit" and copy.text.strip().endswith("Thanks to Ada.")


def test_a_public_repository_is_not_taken_for_a_private_one(online, run, capsys):
    push(run)
    assert "is there already, and public" in fail(capsys, "push", run, NAME, "--private")


def test_a_second_push_takes_old_weights_away_and_leaves_other_files(online, run):
    root = online.folder / NAME
    root.mkdir(parents=True)
    for name in ("training_args.bin", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "notes.txt"):
        (root / name).write_text("{}")
    push(run)
    assert set(online.main(NAME)) == CLEAN | {"notes.txt"}


@pytest.mark.parametrize("status", [503, 0])
def test_a_push_survives_a_server_that_fails_now_and_then(online, run, status):
    online.fail("PUT /lfs", status)
    online.fail("POST .*/preupload", status)
    online.fail("POST .*/commit", status)
    push(run)
    assert set(online.main(NAME)) == CLEAN
    assert sum("/commit" in request for request in online.requests) == 2


def test_an_interrupted_push_goes_on_without_sending_the_weights_again(online, run, capsys):
    online.fail("POST .*/commit", 0, times=3)
    assert "The connection to the Hub broke" in fail(capsys, "push", run, NAME)
    sent = sum("PUT /lfs" in request for request in online.requests)
    push(run)
    assert sum("PUT /lfs" in request for request in online.requests) == sent == 1
    assert set(online.main(NAME)) == CLEAN


@pytest.mark.parametrize(
    "token, repository, message",
    [
        ("", NAME, "Nobody is logged in to the Hub, or the token is wrong: log in with `hf auth login`"),
        ("hf_wrong", NAME, "Nobody is logged in"),
        (TOKEN, "somebody/else", "This account may not write to somebody/else"),
        (TOKEN, "a/b/c", "'a/b/c' is no name of a repository"),
    ],
)
def test_what_the_hub_refuses_is_explained(online, run, capsys, monkeypatch, token, repository, message):
    monkeypatch.setenv("HF_TOKEN", token)
    assert message in fail(capsys, "push", run, repository)
    assert online.names() == []


def test_a_dry_run_refuses_what_is_no_name(online, run, capsys):
    assert "'a/b/c' is no name of a repository" in fail(capsys, "push", run, "a/b/c", "--dry-run")


def test_no_network_is_explained(online, run, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "The connection to the Hub broke" in fail(capsys, "push", run, NAME)


def test_a_token_in_a_text_file_stops_the_upload(online, run, tmp_path):
    (tmp_path / "notes.md").write_text(f"my token is {TOKEN}")
    with pytest.raises(RuntimeError, match="notes.md has the token in it, so nothing was uploaded"):
        publish.upload(tmp_path, publish.Destination(repo_id=NAME))
    assert online.main(NAME) == {}


def test_a_pickle_stops_the_upload(online, tmp_path):
    (tmp_path / "optimizer.pt").write_bytes(b"")
    with pytest.raises(RuntimeError, match="Pickles are never uploaded, but there is optimizer.pt"):
        publish.upload(tmp_path, publish.Destination(repo_id=NAME))


# ---- the trainer ----

PUSHING = {"push_to_hub": True, "hub_model_id": NAME, "logging_strategy": "no"}


def small_trainer(output, **training):
    """Two epochs of one step, with a checkpoint after each."""
    data = {"num_scenes": 20, "validation": 0.0}
    training = {"eval_strategy": "no", "per_device_train_batch_size": 20} | PUSHING | training
    return make_trainer(tiny_recipe("asl", data=data, training=training), output)


@pytest.mark.parametrize("strategy", ["end", "every_save", "checkpoint", "all_checkpoints"])
def test_every_strategy_of_the_trainer_pushes_the_clean_folder(online, tmp_path, strategy):
    training = {"hub_strategy": strategy, "hub_always_push": True, "ema_decay": 0.5, "hub_license": "mit"}
    trainer = small_trainer(tmp_path / "run", **training)
    trainer.train()
    pushes = 0 if strategy == "end" else 2
    assert len(online.messages) == pushes
    trainer.save_averaged_weights_to_model()
    assert trainer.push_to_hub() == f"{online.address}/{NAME}"
    files = online.main(NAME)
    model = CLEAN - {"facts.json", "metrics.json", "recipe.yaml"}  # which the command adds
    places = {"end": [], "every_save": [], "checkpoint": ["last-checkpoint/"]}
    places["all_checkpoints"] = ["checkpoint-1/", "checkpoint-2/"]
    assert set(files) == {place + name for place in ["", *places[strategy]] for name in model}
    assert len(online.messages) == pushes + 1
    trainer.model.save_pretrained(tmp_path / "final")
    assert torch.equal(logits(online.folder / NAME), logits(tmp_path / "final"))
    if pushes:
        last = {"checkpoint": "last-checkpoint/", "all_checkpoints": "checkpoint-2/"}.get(strategy, "")
        assert files[f"{last}model.safetensors"] == files["model.safetensors"], "the averaged weights in between, too"
    assert ModelCard(files["README.md"].decode()).data.license == "mit"
    assert not any(TOKEN.encode() in content for content in files.values())


def test_a_push_in_between_that_fails_does_not_stop_the_training(online, tmp_path):
    trainer = small_trainer(tmp_path)
    online.fail("POST .*/commit", 500, times=6)
    trainer.train()
    assert trainer.state.global_step == 2 and online.messages == []


def test_a_wrong_token_stops_the_training_before_it_begins(online, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(PermissionError, match="hf auth login"):
        small_trainer(tmp_path)


def test_a_token_of_the_arguments_is_used_and_written_nowhere(online, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    recipe = tiny_recipe("asl", training=PUSHING | {"report_to": "tensorboard"})
    recipe.training.settings["hub_token"] = TOKEN  # only in memory: a recipe with it cannot be read
    trainer = make_trainer(recipe, tmp_path)
    trainer.train()
    trainer.push_to_hub()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 5 and not [path for path in written if TOKEN.encode() in path.read_bytes()]
    assert list(tmp_path.rglob("training_args.bin")) == []


@pytest.mark.parametrize("key", ["hub_token", "push_to_hub_token"])
def test_a_recipe_with_a_token_is_refused_with_the_way_out(tmp_path, capsys, at_home, key):
    message = fail(capsys, "train", at_home / "mine.yaml", f"training.{key}=hf_x123", "--output", tmp_path / "run")
    assert f"must not hold `{key}`" in message and "hf auth login" in message and "hf_x123" not in message
    assert not (tmp_path / "run").exists()


def test_training_pushes_what_it_has_saved(online, at_home, tmp_path, capsys):
    settings = ["training.push_to_hub=true", f"training.hub_model_id={NAME}", "training.hub_strategy=end"]
    assert main(["train", str(at_home / "mine.yaml"), "--output", str(tmp_path / "run"), *settings]) == 0
    assert f"published: {online.address}/{NAME}" in capsys.readouterr().out
    assert set(online.main(NAME)) == CLEAN
    assert online.main(NAME)["model.safetensors"] == Path(tmp_path / "run" / "model.safetensors").read_bytes()
    assert "push_to_hub" not in online.main(NAME)["recipe.yaml"].decode()
