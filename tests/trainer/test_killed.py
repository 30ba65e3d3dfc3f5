"""A run that was killed with SIGKILL and resumed ends exactly like an unbroken one."""

import time

import kill
import pytest
from interruptions import results
from processes import KILLED, exit_codes, start
from tiny import write_recipe

from hf_mlrpl.cli.main import main
from hf_mlrpl.trainer.checkpoints import faults_of_checkpoint, latest_checkpoint

pytestmark = pytest.mark.slow

TRAINING = {  # nine steps of two batches
    "per_device_train_batch_size": 8,
    "num_train_epochs": 3,
    "save_strategy": "steps",
    "save_steps": 2,
    "gradient_accumulation_steps": 2,
    "save_total_limit": None,
    "ema_decay": 0.9,
}


KILLS = {
    "sst": (
        "batch 3",
        "checkpoint-2/model.safetensors",
        "checkpoint-2/objective.safetensors",
        "checkpoint-4/ema.safetensors",
        "checkpoint-4/optimizer.pt",
        "checkpoint-6/scheduler.pt",
        "checkpoint-6/rng_state.pth",
        "batch 4",  # from the last checkpoint on
        "checkpoint-8/trainer_state.json",
    ),
    "sarb": ("batch 7", "checkpoint-4/objective.safetensors", "checkpoint-8/trainer_state.json"),
}


@pytest.mark.parametrize("method", KILLS)
def test_killed_at_batches_and_while_each_file_of_a_checkpoint_is_written(method, tmp_path):
    """One run that is killed and resumed again and again."""
    recipe, output = write_recipe(tmp_path, method, training=TRAINING), tmp_path / "run"
    assert main(["train", recipe, "--output", str(tmp_path / "unbroken"), "--no-pictures"]) == 0
    arguments = ["train", recipe, "--output", str(output), "--no-pictures", "--resume"]
    for where in KILLS[method]:
        assert exit_codes(start(kill.run, where, arguments)) == [KILLED], where
        assert where.startswith("batch") or faults_of_checkpoint(output / where.split("/")[0])
        assert not (output / "metrics.json").exists()
    assert main(arguments) == 0
    assert results(output) == results(tmp_path / "unbroken")


def test_killed_from_outside_at_some_moment(tmp_path):
    """With augmented images from a worker."""
    recipe, output = write_recipe(tmp_path, training=TRAINING | {"dataloader_num_workers": 1}), tmp_path / "run"
    assert main(["train", recipe, "--output", str(tmp_path / "unbroken"), "--no-pictures"]) == 0
    arguments = ["train", recipe, "--output", str(output), "--no-pictures", "--resume"]
    process = start(main, arguments)
    while not latest_checkpoint(output):
        assert process.is_alive()
        time.sleep(0.01)
    time.sleep(0.1)
    process.kill()
    assert exit_codes(process) == [KILLED]
    assert main(arguments) == 0
    assert results(output) == results(tmp_path / "unbroken")
