"""Batches that cannot be trained are refused before the training, and evaluation shows every image."""

import pytest
import torch
from tiny import make_trainer, tiny_recipe

ONCE = {"max_steps": 1, "eval_strategy": "no", "save_strategy": "no"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per_device_train_batch_size": 1}, "`per_device_train_batch_size` must be at least 2 with this model"),
        (
            {"per_device_train_batch_size": 47},
            "The last of 48 images .*`per_device_train_batch_size=47`: give another",
        ),
        (
            {"per_device_train_batch_size": 64, "dataloader_drop_last": True},
            "`dataloader_drop_last` leaves out all 48 training images, for no batch of 64 is full",
        ),
    ],
)
def test_a_batch_that_cannot_be_trained_names_the_setting(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        make_trainer(tiny_recipe("partial_bce", training=ONCE | settings), tmp_path)


@pytest.mark.parametrize("settings", [{"per_device_train_batch_size": 47, "dataloader_drop_last": True}, {}])
def test_other_batches_are_fine_and_leave_the_model_as_it_is(settings, tmp_path):
    make_trainer(tiny_recipe("partial_bce", training=ONCE | settings), tmp_path)


def test_single_images_are_fine_where_the_map_has_several_places(tmp_path):
    training = ONCE | {"per_device_train_batch_size": 1}
    trainer = make_trainer(tiny_recipe("partial_bce", model={"image_size": 64}, training=training), tmp_path)
    counts = [value for name, value in trainer.model.named_buffers() if name.endswith("num_batches_tracked")]
    assert counts and not any(counts), "the trial left batch statistics as they were"
    trainer.train()


def test_evaluation_leaves_no_image_out(tmp_path):
    training = ONCE | {"dataloader_drop_last": True, "per_device_eval_batch_size": 10}
    trainer = make_trainer(tiny_recipe("partial_bce", training=training), tmp_path)
    assert len(trainer.predict(trainer.eval_dataset).predictions) == len(trainer.eval_dataset) == 16
    assert sum(len(batch["labels"]) for batch in trainer.get_eval_dataloader()) == 16
    assert sum(len(batch["labels"]) for batch in trainer.get_train_dataloader()) == 48
    assert trainer.args.dataloader_drop_last


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_schedules_count_real_epochs_where_steps_end_the_training(schedule, tmp_path):
    settings = {"num_train_epochs": 4, "lr_schedule": schedule, "save_strategy": "no"}
    settings |= {"lr_step_epochs": 1} if schedule == "step" else {}
    rates = {}
    for name, stop in (("epochs", {}), ("steps", {"max_steps": 5})):
        trainer = make_trainer(tiny_recipe("partial_bce", training=settings | stop), tmp_path)
        trainer.train()
        rates[name] = [logs["learning_rate"] for logs in trainer.state.log_history if "learning_rate" in logs]
    assert len(rates["steps"]) == 5 and len(set(rates["steps"])) == 2
    assert rates["steps"] == rates["epochs"][:5]


def test_a_cosine_that_would_rise_again_is_refused(tmp_path):
    settings = {"num_train_epochs": 1, "lr_schedule": "cosine", "max_steps": 9}
    with pytest.raises(
        ValueError, match="`max_steps` must not go beyond the end of `lr_schedule: cosine`.*got 9 steps"
    ):
        make_trainer(tiny_recipe("partial_bce", training=ONCE | settings), tmp_path).train()
    assert torch.is_grad_enabled()
