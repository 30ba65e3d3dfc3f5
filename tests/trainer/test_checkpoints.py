"""Which checkpoints a run is resumed from, and what becomes of the others."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from interruptions import Interruption, StopAt
from safetensors.torch import load_file
from tiny import make_trainer, tiny_recipe

from hf_mlrpl.cli import train_folder
from hf_mlrpl.trainer.checkpoints import (
    CHECKSUMS_NAME,
    checkpoint_folders,
    faults_of_checkpoint,
    foreign_checkpoints,
    latest_checkpoint,
    remove_old_checkpoints,
    write_checksums,
)


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


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def seal(checkpoint: Path) -> None:
    """Make the checksums of a changed checkpoint right again."""
    data = json.loads((checkpoint / CHECKSUMS_NAME).read_text())["data"]
    (checkpoint / CHECKSUMS_NAME).unlink()
    write_checksums(checkpoint, data)


FILES = ["model", "objective", "ema"]
FILES = [f"{name}.safetensors" for name in FILES] + ["optimizer.pt", "scheduler.pt", "rng_state.pth", "config.json"]


def test_the_newest_checkpoint_is_the_one_with_the_highest_number(run):
    state = json.loads((run / "checkpoint-6" / "trainer_state.json").read_text()) | {"global_step": 10}
    (run / "checkpoint-6" / "trainer_state.json").write_text(json.dumps(state))
    (run / "checkpoint-6").rename(run / "checkpoint-10")
    (run / "checkpoint-old").mkdir()
    assert latest_checkpoint(run) == str(run / "checkpoint-10")
    assert latest_checkpoint(run / "nothing") is None


@pytest.mark.parametrize("damage", [cut_off, Path.unlink])
def test_a_checkpoint_without_a_whole_trainer_state_is_never_taken(run, damage):
    damage(run / "checkpoint-6" / "trainer_state.json")
    assert faults_of_checkpoint(run / "checkpoint-6") == ["trainer_state.json is missing or damaged"]
    assert latest_checkpoint(run) == str(run / "checkpoint-5")
    trainer = make_trainer(tiny_recipe(), run)
    with pytest.raises(ValueError, match="checkpoint-6 is not a complete checkpoint: trainer_state.json is missing"):
        trainer.train(resume_from_checkpoint=str(run / "checkpoint-6"))


@pytest.mark.parametrize(
    "content",
    [
        *("{}", "[]", "null", "[" * 100_000),
        '{"global_step": 5, "log_history": []}',
        '{"global_step": 6, "log_history": []}',
        '{"global_step": 6}',
    ],
)
def test_another_trainer_state_is_a_damaged_one(run, content):
    (run / "checkpoint-6" / "trainer_state.json").write_text(content)
    assert latest_checkpoint(run) == str(run / "checkpoint-5")


@pytest.mark.parametrize("damage", [Path.unlink, cut_off, flip_a_bit, empty])
def test_a_checkpoint_with_a_damaged_file_is_passed_over_and_named(run, damage, caplog):
    files = [name for name in FILES if (run / "checkpoint-6" / name).is_file()]
    assert len(files) >= 6
    for name in files:
        original = (run / "checkpoint-6" / name).read_bytes()
        damage(run / "checkpoint-6" / name)
        caplog.clear()
        assert latest_checkpoint(run) == str(run / "checkpoint-5")
        assert f"checkpoint-6 is passed over: {name} is" in caplog.text
        (run / "checkpoint-6" / name).write_bytes(original)
    assert latest_checkpoint(run) == str(run / "checkpoint-6")


@pytest.mark.parametrize(
    "content",
    ["{}", "[]", "null", "[" * 100_000, '{"files": {}, "data": {}}', '{"files": {"a": 1}}', '{"data": {}}']
    + [f'{{"files": {{"config.json": "x"}}, "data": {data}}}' for data in ("[]", "null", "3")],
)
def test_checksums_that_are_none_verify_nothing(run, content):
    (run / "checkpoint-6" / CHECKSUMS_NAME).write_text(content)
    assert faults_of_checkpoint(run / "checkpoint-6") == [f"{CHECKSUMS_NAME} is missing or damaged"]
    assert latest_checkpoint(run) == str(run / "checkpoint-5")


@pytest.mark.parametrize("training", [{"max_steps": 5}, {"max_steps": 1}, {"num_train_epochs": 1}])
def test_what_was_learned_is_not_taken_back(run, training):
    with pytest.raises(ValueError, match="The checkpoint is of step 6, and this training ends after"):
        make_trainer(tiny_recipe(training=training), run).train(resume_from_checkpoint=True)


def test_a_damaged_checkpoint_is_not_resumed_on_request_either(run):
    flip_a_bit(run / "checkpoint-6" / "optimizer.pt")
    with pytest.raises(ValueError, match="checkpoint-6 is not a complete checkpoint: optimizer.pt is damaged"):
        make_trainer(tiny_recipe(), run).train(resume_from_checkpoint=str(run / "checkpoint-6"))


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_again(run):
    """Checkpoints of the first version have no checksums; none is deleted, and none replaced."""
    for step in range(1, 7):
        (run / f"checkpoint-{step}" / CHECKSUMS_NAME).unlink()
    (run / "checkpoint-6" / "trainer_state.json").write_text("{}")
    before = sorted(path for path in run.rglob("*"))
    with pytest.raises(ValueError, match="No checkpoint of .* can be resumed from: checkpoint-6 .trainer_state.json"):
        make_trainer(tiny_recipe(), run).train(resume_from_checkpoint=True)
    assert sorted(path for path in run.rglob("*")) == before


def test_a_run_does_not_go_on_with_other_labels(run):
    other = tiny_recipe(data={"proportion": 0.9})
    with pytest.raises(ValueError, match="cannot be resumed, for the labels of the training set have changed"):
        make_trainer(other, run).train(resume_from_checkpoint=True)


@pytest.mark.parametrize(
    ("limit", "best", "kept"),
    [(None, 2, [2, 5, 9, 10]), (0, 2, [2, 5, 9, 10]), (2, None, [9, 10]), (2, 2, [2, 10]), (1, 5, [5, 10])]
    + [(1, None, [10]), (2, 10, [9, 10]), (3, 2, [2, 9, 10]), (9, 2, [2, 5, 9, 10])],
)
def test_only_checkpoints_of_the_run_are_deleted(limit, best, kept, tmp_path):
    for name in (10, 2, 5, 9, "my-backup", "5-backup"):
        (tmp_path / f"checkpoint-{name}").mkdir()
    remove_old_checkpoints(tmp_path, limit, best and f"elsewhere/checkpoint-{best}")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"checkpoint-{name}" for name in (*kept, "my-backup", "5-backup")}


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
    assert not faults_of_checkpoint(run / "checkpoint-4")
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
    assert faults_of_checkpoint(run / "checkpoint-3") == ["trainer_state.json is missing or damaged"]


def test_a_checkpoint_without_the_memory_of_the_objective_is_an_error(run):
    (run / "checkpoint-6" / "objective.safetensors").unlink()
    seal(run / "checkpoint-6")
    with pytest.raises(FileNotFoundError, match="objective.safetensors is missing: the checkpoint cannot be resumed"):
        make_trainer(tiny_recipe(), run).train(resume_from_checkpoint=True)


@pytest.mark.parametrize(
    "other, message",
    [
        (tiny_recipe("ssgrl"), "`model_type` is mlrpl-sst there and mlrpl-ssgrl here"),
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
    seal(run / "checkpoint-6")
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
    with pytest.raises(ValueError, match="`dataloader_persistent_workers` must stay False"):
        recipe.build_arguments(tmp_path)


def test_what_is_only_called_like_a_checkpoint_is_never_one(tmp_path):
    for name, file in (("checkpoint-3", "trainer_state.json"), ("checkpoint-12", "thesis.txt")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
    (tmp_path / "checkpoint-7").write_text("a file")
    (tmp_path / "checkpoint-9").symlink_to(tmp_path / "checkpoint-3")
    (tmp_path / "checkpoint-10").mkdir()  # a run that was killed at once
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["checkpoint-3", "checkpoint-10"]
    assert {path.name for path in foreign_checkpoints(tmp_path)} == {"checkpoint-7", "checkpoint-9", "checkpoint-12"}
    remove_old_checkpoints(tmp_path, 1, None)
    assert (tmp_path / "checkpoint-12" / "thesis.txt").exists()
    recipe = tiny_recipe()
    for options in ({"overwrite": True, "resume": False}, {"overwrite": False, "resume": True}):
        with pytest.raises(ValueError, match=r"checkpoint-\d+ is called like a checkpoint .* no run wrote it"):
            train_folder.check_output(tmp_path, recipe, **options)
