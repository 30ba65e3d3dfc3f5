"""Which checkpoints a run is resumed from, and what becomes of the others."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from interruptions import Interruption, StopAt
from safetensors.torch import load_file
from tiny import make_trainer, tiny_recipe

from hf_mlrpl.trainer.checkpoints import latest_checkpoint, missing_from_checkpoint


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run with the checkpoints 1 to 6."""
    output = tmp_path_factory.mktemp("finished")
    training = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": None}
    make_trainer(tiny_recipe(training=training), output).train()
    return output


@pytest.fixture
def run(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_the_newest_checkpoint_is_the_one_with_the_highest_number(run):
    (run / "checkpoint-6").rename(run / "checkpoint-10")
    (run / "checkpoint-old").mkdir()
    assert latest_checkpoint(run) == str(run / "checkpoint-10")
    assert latest_checkpoint(run / "nothing") is None


@pytest.mark.parametrize("damage", [cut_off, Path.unlink])
def test_a_checkpoint_without_a_whole_trainer_state_is_never_taken(run, damage):
    damage(run / "checkpoint-6" / "trainer_state.json")
    assert missing_from_checkpoint(run / "checkpoint-6") == ["trainer_state.json"]
    assert latest_checkpoint(run) == str(run / "checkpoint-5")
    trainer = make_trainer(tiny_recipe(), run)
    with pytest.raises(ValueError, match="checkpoint-6 is not a complete checkpoint: trainer_state.json is missing"):
        trainer.train(resume_from_checkpoint=str(run / "checkpoint-6"))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_half_deleted_checkpoint_is_never_taken(run, name):
    (run / "checkpoint-6" / name).unlink()
    assert latest_checkpoint(run) == str(run / "checkpoint-5")
    with pytest.raises(ValueError, match="is not a complete checkpoint"):
        make_trainer(tiny_recipe(), run).train(resume_from_checkpoint=str(run / "checkpoint-6"))


def test_half_written_checkpoints_are_removed_when_a_run_goes_on(run, finished):
    """They would count as new ones when old checkpoints are deleted."""
    for step in (4, 5, 6):
        (run / f"checkpoint-{step}" / "trainer_state.json").unlink()
    (run / "checkpoint-6").rename(run / "checkpoint-7")
    training = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1}
    trainer = make_trainer(tiny_recipe(training=training), run, callbacks=[StopAt(4)])
    with pytest.raises(Interruption):
        trainer.train(resume_from_checkpoint=True)
    assert {path.name for path in run.glob("checkpoint-*")} == {"checkpoint-3", "checkpoint-4"}, "the best, the newest"
    assert not missing_from_checkpoint(run / "checkpoint-4")
    expected = load_file(finished / "checkpoint-4" / "model.safetensors")
    actual = load_file(run / "checkpoint-4" / "model.safetensors")
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_an_old_trainer_state_does_not_complete_a_new_checkpoint(run, monkeypatch):
    """Going on from an older checkpoint writes into the folders of the newer ones."""

    def fail(*args, **kwargs):
        raise Interruption

    recipe = tiny_recipe(training={"save_strategy": "steps", "save_steps": 1, "save_total_limit": None})
    trainer = make_trainer(recipe, run)
    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(Interruption):
        trainer.train(resume_from_checkpoint=str(run / "checkpoint-2"))
    assert (run / "checkpoint-3" / "model.safetensors").is_file()
    assert "trainer_state.json" in missing_from_checkpoint(run / "checkpoint-3")


def test_a_checkpoint_without_the_memory_of_the_objective_is_an_error(run):
    (run / "checkpoint-6" / "objective.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="objective.safetensors is missing: the checkpoint cannot be resumed"):
        make_trainer(tiny_recipe(), run).train(resume_from_checkpoint=True)


@pytest.mark.parametrize(
    "other, message",
    [
        (tiny_recipe("ssgrl"), "`model_type` is sst there and ssgrl here"),
        (tiny_recipe(model={"output_dim": 20}), "`output_dim` is 24 there and 20 here"),
        (tiny_recipe(objective={"bank_size": 5}), "size mismatch for bank"),
        (tiny_recipe(training={"ema_decay": 0.9}), "ema.safetensors is missing"),
    ],
)
def test_a_checkpoint_of_another_model_or_objective_is_an_error(run, other, message):
    with pytest.raises((ValueError, RuntimeError, FileNotFoundError), match=message):
        make_trainer(other, run).train(resume_from_checkpoint=True)


def test_a_checkpoint_of_another_label_set_is_an_error(run):
    config = json.loads((run / "checkpoint-6" / "config.json").read_text())
    config["id2label"]["3"] = "three"
    (run / "checkpoint-6" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="cannot be resumed, it holds another model: `id2label` is .*three"):
        make_trainer(tiny_recipe(), run).train(resume_from_checkpoint=True)


def test_a_full_disk_ends_with_a_clear_error_and_leaves_earlier_checkpoints_alone(tmp_path, monkeypatch):
    recipe = tiny_recipe(training={"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1})
    trainer = make_trainer(recipe, tmp_path)
    save = torch.save

    def save_while_there_is_room(content, path):
        if "checkpoint-4" in str(path):
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(content, path)

    monkeypatch.setattr(torch, "save", save_while_there_is_room)
    with pytest.raises(OSError, match="checkpoint-4 could not be written: .*No space left on device"):
        trainer.train()
    assert latest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")


def test_persistent_workers_are_refused(tmp_path):
    recipe = tiny_recipe(training={"dataloader_num_workers": 2, "dataloader_persistent_workers": True})
    with pytest.raises(ValueError, match="`dataloader_persistent_workers` must be false"):
        recipe.build_arguments(tmp_path)
