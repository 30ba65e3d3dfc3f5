"""Checkpoints of a run: which of them are complete, which belong to a model, and when one is saved."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback


def missing_from_checkpoint(folder: str | Path) -> list[str]:
    """Files that `folder` lacks to resume from it; the trainer state is written last, after all processes met."""
    patterns = ("model*.safetensors", "optimizer.pt", "scheduler.pt", "rng_state*.pth")
    missing = [pattern for pattern in patterns if not any(Path(folder).glob(pattern))]
    return missing if _has_trainer_state(Path(folder)) else [*missing, "trainer_state.json"]


def latest_checkpoint(output_dir: str | Path) -> str | None:
    """The newest complete `checkpoint-<step>` of `output_dir`, or `None`."""
    complete = [folder for folder in _checkpoint_folders(output_dir) if not missing_from_checkpoint(folder)]
    return str(complete[-1]) if complete else None


def _checkpoint_folders(output_dir: str | Path) -> list[Path]:
    found = [path for path in Path(output_dir).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def _has_trainer_state(folder: Path) -> bool:
    try:
        json.loads((folder / "trainer_state.json").read_text())
    except (OSError, ValueError):
        return False
    return True


def remove_half_written_checkpoints(output_dir: str | Path) -> None:
    """Delete what an interruption left behind; it would count when the Trainer deletes old checkpoints."""
    for folder in _checkpoint_folders(output_dir):
        if not _has_trainer_state(folder):
            shutil.rmtree(folder)


def check_resumable(checkpoint: str | Path, model: Any) -> None:
    """Raise `ValueError` if `checkpoint` is not complete, or holds another model, other sizes or other labels."""
    missing = missing_from_checkpoint(checkpoint)
    if missing:
        raise ValueError(
            f"{checkpoint} is not a complete checkpoint: {', '.join(missing)} is missing or cut off. Resume from an "
            "older one, or with `True` from the newest complete one."
        )
    theirs = json.loads((Path(checkpoint) / "config.json").read_text())
    ours = json.loads(model.config.to_json_string())
    incidental = ("architectures", "dtype", "transformers_version")
    different = [
        f"`{key}` is {str(theirs.get(key))[:200]} there and {str(ours.get(key))[:200]} here"
        for key in sorted((theirs.keys() | ours.keys()) - {*incidental})
        if theirs.get(key) != ours.get(key)
    ]
    if different:
        raise ValueError(f"{checkpoint} cannot be resumed, it holds another model: {'; '.join(different)}.")


class SaveLast(TrainerCallback):
    """Saves the checkpoint of a step after everything else that belongs to the step.

    The Trainer may save first, then log and evaluate. A run that is interrupted in between and goes on from there
    would never log nor evaluate that step.
    """

    _postponed = False

    def on_step_end(self, args, state, control, **kwargs):
        if control.should_save and (state.epoch == int(state.epoch) or control.should_training_stop):
            control.should_save, self._postponed = False, True  # the evaluation at the end of the epoch comes first
        control.should_log |= control.should_save or control.should_evaluate

    def on_epoch_end(self, args, state, control, **kwargs):
        control.should_save |= self._postponed
        control.should_log |= control.should_save or control.should_evaluate
        self._postponed = False
