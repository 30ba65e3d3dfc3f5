"""Stopping a run in the middle of an epoch, and resuming it."""

import json
from collections.abc import Container, Iterable
from pathlib import Path

import pytest
from tiny import make_trainer, without_clock
from transformers import TrainerCallback

from hf_mlrpl.recipe.document import Recipe
from hf_mlrpl.trainer.checkpoints import latest_checkpoint
from hf_mlrpl.trainer.trainer import MultiLabelTrainer

SIGNS_OF_MEMORY = {
    "sst": ("pseudo_labels_intra", "pseudo_labels_cross"),
    "sarb": ("blended_labels_instance", "blended_labels_prototype"),
}


class Interruption(Exception):
    pass


class StopAt(TrainerCallback):
    """Raises `Interruption` between the forward passes of the optimizer step after `step`, or at its beginning."""

    def __init__(self, step: int, between_batches: bool = False):
        self.step, self.between_batches = step, between_batches

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step and not self.between_batches:
            raise Interruption

    def on_substep_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise Interruption


def numbers(trainer: MultiLabelTrainer) -> list[dict[str, float]]:
    """All that was logged, without the summary at the end, which knows nothing of an interruption."""
    return [without_clock(entry) for entry in trainer.state.log_history if "train_runtime" not in entry]


def interrupted(
    recipe: Recipe, output: Path, steps: Iterable[int], between_batches: Container[int] = ()
) -> MultiLabelTrainer:
    """A run that was stopped at each of the `steps`, and resumed each time; of these it is stopped in the middle of
    `between_batches`."""
    for step in steps:
        trainer = make_trainer(recipe, output, callbacks=[StopAt(step, step in between_batches)])
        with pytest.raises(Interruption):
            trainer.train(resume_from_checkpoint=True)
    trainer = make_trainer(recipe, output)
    trainer.train(resume_from_checkpoint=True)
    return trainer


def results(output: Path) -> tuple[bytes, bytes, dict[str, float]]:
    """Weights, memory and metrics of a finished run."""
    last = latest_checkpoint(output)
    metrics = json.loads((output / "metrics.json").read_text())
    return (
        (output / "model.safetensors").read_bytes(),
        (Path(last) / "objective.safetensors").read_bytes(),
        without_clock(metrics),
    )
