"""Objectives that learn from the moving average of the weights."""

import copy

import pytest
import torch
from interruptions import interrupted, numbers
from tiny import Taught, make_trainer, tiny_model, tiny_recipe, weights

from hf_mlrpl.objective import logits_of
from hf_mlrpl.recipe.parts import ObjectivePart
from hf_mlrpl.trainer.ema import WeightEma

TRAINING = {"ema_decay": 0.8, "save_strategy": "steps", "save_steps": 1, "eval_strategy": "no"}


@pytest.fixture
def taught(monkeypatch):
    monkeypatch.setattr(ObjectivePart, "build", lambda self, config: Taught(None, config))


def test_the_teacher_is_the_averaged_model_of_the_last_step(taught, tmp_path):
    trainer = make_trainer(tiny_recipe("partial_bce", training=TRAINING | {"max_steps": 3}), tmp_path)
    states = [copy.deepcopy(trainer.ema.state_dict())]
    update = trainer.ema.update

    def update_and_keep(model):
        update(model)
        states.append(copy.deepcopy(trainer.ema.state_dict()))

    trainer.ema.update = update_and_keep
    trainer.train()
    pixel_values, targets = trainer.objective.seen
    model = copy.deepcopy(trainer.model).eval()
    model.load_state_dict(states[-2])  # as it was when the last step began
    with torch.no_grad():
        assert torch.equal(targets, logits_of(model, pixel_values).sigmoid())
    assert not targets.requires_grad and not trainer.objective.teacher().training
    assert trainer.objective.state_dict() == {}, "the trainer saves the average"


def test_a_resumed_run_has_the_same_teacher(taught, tmp_path):
    recipe = tiny_recipe("partial_bce", training=TRAINING | {"per_device_train_batch_size": 24})
    unbroken = make_trainer(recipe, tmp_path / "unbroken")
    unbroken.train()
    resumed = interrupted(recipe, tmp_path / "stopped", (3,))  # two steps make an epoch
    assert (weights(resumed), numbers(resumed)) == (weights(unbroken), numbers(unbroken))


def test_what_a_teacher_computed_from_earlier_weights_is_forgotten():
    """Networks with texts compute the vectors of their labels once for all in evaluation mode."""
    model = tiny_model("scpnet")
    ema, pixel_values = WeightEma(model, 0.5), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = logits_of(ema.as_model(), pixel_values)
        for parameter in model.prompts.parameters():
            parameter.add_(torch.randn_like(parameter))
        ema.update(model)
        after = logits_of(ema.as_model(), pixel_values)
        model.load_state_dict(ema.state_dict())
        assert torch.equal(after, logits_of(model.eval(), pixel_values)) and not torch.equal(after, before)


def test_without_an_average_there_is_no_teacher(taught, tmp_path):
    trainer = make_trainer(tiny_recipe("partial_bce", training=TRAINING | {"ema_decay": None}), tmp_path)
    with pytest.raises(RuntimeError, match="Taught learns from the moving average .*set `training.ema_decay`"):
        trainer.train()
