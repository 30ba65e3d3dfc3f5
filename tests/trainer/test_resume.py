"""A run that was interrupted and resumed ends exactly like an unbroken one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from interruptions import SIGNS_OF_MEMORY, Interruption, StopAt, interrupted, numbers, results
from safetensors.torch import load_file
from tiny import make_trainer, memory, tiny_recipe, weights, write_recipe

from hf_mlrpl.cli.main import main
from hf_mlrpl.registry import METHODS
from hf_mlrpl.trainer.checkpoints import latest_checkpoint, missing_from_checkpoint

KILLED = -signal.SIGKILL
BATCH_OF_8 = {"per_device_train_batch_size": 8, "num_train_epochs": 3}  # six batches an epoch


SCENARIOS = {
    "every second step, accumulated, averaged weights": {
        "save_strategy": "steps",
        "save_steps": 2,
        "gradient_accumulation_steps": 2,
        "ema_decay": 0.9,
        "logging_steps": 5,
    },
    "after each epoch, last batches smaller": {
        "save_strategy": "epoch",
        "per_device_train_batch_size": 20,
        "optimizer": "sgd",
        "lr_schedule": "one_cycle",
        "bf16": True,
    },
    "the best is kept, stopped in mid-epoch": {
        "save_strategy": "steps",
        "save_steps": 3,
        "eval_strategy": "steps",
        "eval_steps": 3,
        "max_steps": 10,
        "load_best_model_at_end": True,
        "save_total_limit": 1,
    },
}

RUNS = [("sst", scenario) for scenario in SCENARIOS] + [("sarb", scenario) for scenario in [*SCENARIOS][:2]]


@pytest.mark.parametrize(("method", "scenario"), RUNS)
def test_stopped_at_any_step_a_run_ends_like_an_unbroken_one(method, scenario, tmp_path):
    recipe = tiny_recipe(method, training=BATCH_OF_8 | SCENARIOS[scenario])
    unbroken = make_trainer(recipe, tmp_path / "unbroken")
    unbroken.train()
    expected = weights(unbroken), memory(unbroken), numbers(unbroken)
    for sign in SIGNS_OF_MEMORY[method]:
        assert any(entry.get(sign, 0) > 0 for entry in expected[2]), f"the run must have {sign}"
    assert all(buffer.any() for buffer in unbroken.objective.buffers())

    accumulates = unbroken.args.gradient_accumulation_steps > 1
    for step in range(1, unbroken.state.max_steps):
        output = tmp_path / f"stopped-{step}"
        resumed = interrupted(recipe, output, step=step, between_batches=accumulates and step % 2 == 0)
        assert (weights(resumed), memory(resumed), numbers(resumed)) == expected, f"stopped after step {step}"
        shutil.rmtree(output)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_goes_on_in_mid_epoch_and_between_epochs(method, tmp_path):
    training = {"per_device_train_batch_size": 24, "save_strategy": "steps", "save_steps": 1, "eval_strategy": "no"}
    recipe = tiny_recipe(method, training=training)
    unbroken = make_trainer(recipe, tmp_path / "unbroken")
    unbroken.train()
    expected = weights(unbroken), memory(unbroken), numbers(unbroken)
    for step in (2, 3):  # two steps make an epoch
        resumed = interrupted(recipe, tmp_path / f"stopped-{step}", step=step)
        assert (weights(resumed), memory(resumed), numbers(resumed)) == expected, f"stopped after step {step}"


def test_averaged_weights_are_those_of_an_unbroken_run(tmp_path):
    recipe = tiny_recipe(training={"ema_decay": 0.9, "save_strategy": "steps", "save_steps": 1})
    unbroken = make_trainer(recipe, tmp_path / "unbroken")
    unbroken.train()
    resumed = interrupted(recipe, tmp_path / "stopped", step=4)
    for name, average in unbroken.ema.state_dict().items():
        assert torch.equal(average, resumed.ema.state_dict()[name]), name
    assert weights(unbroken) == weights(resumed)
    unbroken.save_averaged_weights_to_model()
    assert weights(unbroken) != weights(resumed)


def test_a_finished_run_that_is_resumed_stays_as_it_is(tmp_path):
    recipe = tiny_recipe(training={"save_strategy": "steps", "save_steps": 2, "max_steps": 4})  # in mid-epoch
    first = make_trainer(recipe, tmp_path)
    first.train()
    again = make_trainer(recipe, tmp_path)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 4
    assert (weights(again), numbers(again)) == (weights(first), numbers(first))


# ---- which checkpoints count ----


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


# ---- SIGKILL ----

FEW_STEPS = BATCH_OF_8 | {  # nine steps, augmented images from two workers
    "save_strategy": "steps",
    "save_steps": 2,
    "gradient_accumulation_steps": 2,
    "dataloader_num_workers": 2,
    "save_total_limit": None,
}
MANY_STEPS = BATCH_OF_8 | {"num_train_epochs": 8, "save_strategy": "steps", "save_steps": 8}


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}


def start(*command: str) -> subprocess.Popen:
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, *command], env=environment(), **nowhere)


@pytest.fixture(scope="module", params=["sst", "sarb"])
def unbroken(request, tmp_path_factory):
    output = tmp_path_factory.mktemp("unbroken")
    recipe = write_recipe(tmp_path_factory.mktemp("recipe"), request.param, training=FEW_STEPS)
    assert main(["train", recipe, "--output", str(output)]) == 0
    return recipe, results(output)


@pytest.mark.slow
@pytest.mark.parametrize(
    "where",
    [
        "batch 7",
        "checkpoint-4/model.safetensors",
        "checkpoint-8/trainer_state.json",
    ],
)
def test_killed_at_a_step_or_while_a_checkpoint_is_written(unbroken, tmp_path, where):
    recipe, expected = unbroken
    output = tmp_path / "run"
    killer = str(Path(__file__).parents[1] / "kill.py")
    assert start(killer, where, "train", recipe, "--output", str(output)).wait(timeout=120) == KILLED
    half_written = output / where.split("/")[0]
    assert where.startswith("batch") or missing_from_checkpoint(half_written)
    assert not (output / "metrics.json").exists()
    assert main(["train", recipe, "--output", str(output), "--resume"]) == 0
    assert results(output) == expected


@pytest.mark.slow
def test_killed_at_some_moment_in_mid_epoch(tmp_path):
    recipe = write_recipe(tmp_path, training=MANY_STEPS)
    command = ("-m", "hf_mlrpl.cli.main", "train", recipe, "--output")
    assert main([*command[2:], str(tmp_path / "unbroken")]) == 0
    process = start(*command, str(tmp_path / "run"))
    deadline = time.monotonic() + 120
    while not latest_checkpoint(tmp_path / "run"):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)
    process.kill()
    assert process.wait() == KILLED
    resume = [sys.executable, *command, str(tmp_path / "run"), "--resume"]
    resumed = subprocess.run(resume, env=environment(), capture_output=True, text=True, timeout=120)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert results(tmp_path / "run") == results(tmp_path / "unbroken")
