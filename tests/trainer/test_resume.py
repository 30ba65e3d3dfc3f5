"""A run that was interrupted and resumed ends exactly like an unbroken one."""

import pytest
from interruptions import SIGNS_OF_MEMORY, interrupted, numbers
from tiny import WITH_MEMORY, make_trainer, memory, tiny_recipe, weights

from hf_mlrpl.distributed import state_digest

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
EVERY_STEP, EACH_EPOCH, BEST = SCENARIOS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "scenario", "stops"),
    [
        ("sst", EVERY_STEP, range(1, 9)),
        ("sarb", EVERY_STEP, range(1, 9)),
        ("sst", EACH_EPOCH, (1, 3, 4, 8)),  # three steps an epoch
        ("sarb", EACH_EPOCH, (4, 6)),
        ("sst", BEST, (2, 3, 5, 9)),
    ],
)
def test_a_run_that_is_stopped_again_and_again_ends_like_an_unbroken_one(method, scenario, stops, tmp_path):
    recipe = tiny_recipe(method, training=BATCH_OF_8 | SCENARIOS[scenario])
    unbroken = make_trainer(recipe, tmp_path / "unbroken")
    unbroken.train()
    for sign in SIGNS_OF_MEMORY[method]:
        assert any(entry.get(sign, 0) > 0 for entry in numbers(unbroken)), f"the run must have {sign}"
    assert all(buffer.any() for buffer in unbroken.objective.buffers())

    accumulates = unbroken.args.gradient_accumulation_steps > 1
    resumed = interrupted(recipe, tmp_path / "stopped", stops, between_batches=stops[1::2] if accumulates else ())
    assert numbers(resumed) == numbers(unbroken), "the first number that differs tells the step"
    assert (weights(resumed), memory(resumed)) == (weights(unbroken), memory(unbroken))
    if unbroken.ema is not None:
        assert state_digest(resumed.ema.state_dict()) == state_digest(unbroken.ema.state_dict())


WITHOUT_MEMORY = ["logic_mix", "partial_bce"]  # two for all: with random numbers, and without


@pytest.mark.slow
@pytest.mark.parametrize("method", WITH_MEMORY + WITHOUT_MEMORY)
def test_a_method_goes_on_in_mid_epoch_and_between_epochs(method, tmp_path):
    training = {"per_device_train_batch_size": 24, "save_strategy": "steps", "save_steps": 1, "eval_strategy": "no"}
    recipe = tiny_recipe(method, training=training)
    unbroken = make_trainer(recipe, tmp_path / "unbroken")
    unbroken.train()
    resumed = interrupted(recipe, tmp_path / "stopped", (2, 3))  # two steps make an epoch
    assert numbers(resumed) == numbers(unbroken)
    assert (weights(resumed), memory(resumed)) == (weights(unbroken), memory(unbroken))


def test_a_finished_run_that_is_resumed_stays_as_it_is(tmp_path):
    recipe = tiny_recipe(training={"save_strategy": "steps", "save_steps": 2, "max_steps": 4})  # in mid-epoch
    first = make_trainer(recipe, tmp_path)
    first.train()
    again = make_trainer(recipe, tmp_path)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 4
    assert (weights(again), numbers(again)) == (weights(first), numbers(first))
