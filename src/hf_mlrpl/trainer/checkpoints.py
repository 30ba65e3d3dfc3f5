"""Checkpoints of a run: which of them are complete, which belong to a model, and when one is saved."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy
from transformers.utils import logging

logger = logging.get_logger(__name__)

CHECKSUMS_NAME = "checksums.json"
_OF_A_CHECKPOINT = ("config.json", "model.safetensors", "optimizer.pt", "trainer_state.json", CHECKSUMS_NAME)
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def write_checksums(folder: str | Path, data: dict[str, str]) -> None:
    """Write down the SHA-256 of all files of a checkpoint, when all processes have written theirs.

    Args:
        data: digests of the training data by name; a run does not go on with other data.
    """
    sums = {file.name: _sha256(file) for file in sorted(Path(folder).iterdir()) if file.is_file()}
    text = json.dumps({"files": sums, "data": data}, indent=2)
    (Path(folder) / CHECKSUMS_NAME).write_text(text + "\n")


def faults_of_checkpoint(folder: str | Path) -> list[str]:
    """Reasons why `folder` cannot be resumed from, such as "optimizer.pt is damaged"; empty where it can.

    A checkpoint is complete if every file that the run wrote is there with its checksum, and the trainer state, which
    is written last, can be read and is that of its step.
    """
    folder = Path(folder)
    if not _has_trainer_state(folder):
        return ["trainer_state.json is missing or damaged"]
    try:
        content = json.loads((folder / CHECKSUMS_NAME).read_text())
        sums = content["files"]
        if not sums or not isinstance(content["data"], dict):
            raise ValueError("it names nothing")
        return [
            f"{name} is {'damaged' if (folder / name).is_file() else 'missing'}"
            for name, expected in sums.items()
            if not (folder / name).is_file() or _sha256(folder / name) != expected
        ]
    except _UNREADABLE:
        return [f"{CHECKSUMS_NAME} is missing or damaged"]


def latest_checkpoint(output_dir: str | Path) -> str | None:
    """The newest complete `checkpoint-<step>` of `output_dir`; says which newer ones are passed over.

    Returns:
        `None` where the run was interrupted before its first checkpoint was finished.

    Raises:
        ValueError: if there are finished checkpoints, all of them damaged: starting afresh would replace them.
    """
    damaged = []
    for folder in reversed(checkpoint_folders(output_dir)):
        faults = faults_of_checkpoint(folder)
        if not faults:
            return str(folder)
        logger.warning(f"{folder} is passed over: {', '.join(faults)}.")
        damaged += [] if _is_half_written(folder) else [f"{folder.name} ({', '.join(faults)})"]
    if damaged:
        raise ValueError(
            f"No checkpoint of {output_dir} can be resumed from: {'; '.join(damaged)}. Bring back their files, or "
            "start afresh in another folder; checkpoints of earlier versions have no checksums."
        )
    return None


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def checkpoint_folders(output_dir: str | Path) -> list[Path]:
    """The folders `checkpoint-<step>` that a run wrote, the oldest first."""
    found = [path for path in _named_like_checkpoints(output_dir) if _is_of_a_run(path)]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def foreign_checkpoints(output_dir: str | Path) -> list[Path]:
    """What is called as a checkpoint of a run, and is none: a file, a link, or a folder with other files."""
    return sorted(path for path in _named_like_checkpoints(output_dir) if not _is_of_a_run(path))


def _named_like_checkpoints(output_dir: str | Path) -> list[Path]:
    return [path for path in Path(output_dir).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]


def _is_of_a_run(path: Path) -> bool:
    if path.is_symlink() or not path.is_dir():
        return False
    names = {file.name for file in path.iterdir()}
    return not names or not names.isdisjoint(_OF_A_CHECKPOINT)


def _has_trainer_state(folder: Path) -> bool:
    try:
        state = json.loads((folder / "trainer_state.json").read_text())
        is_whole = all(
            isinstance(state[key], int | float) for key in ("max_steps", "logging_steps", "train_batch_size")
        )
        of_this_step = folder.name == f"checkpoint-{state['global_step']}"
        return is_whole and of_this_step and isinstance(state["log_history"], list)
    except _UNREADABLE:
        return False


def remove_old_checkpoints(output_dir: str | Path, limit: int | None, best: str | None) -> None:
    """Keep the newest `limit` checkpoints, and the best one; folders that no run wrote stay, whatever their names."""
    if limit is None or limit <= 0:
        return
    newest_first = checkpoint_folders(output_dir)[::-1]
    kept = {Path(best).name} if best else set()
    for place, folder in enumerate(newest_first):
        if place == 0 or len(kept) < limit:  # the newest one is there to resume from
            kept.add(folder.name)
        elif folder.name not in kept:
            shutil.rmtree(folder)


def remove_half_written_checkpoints(output_dir: str | Path) -> None:
    """Delete what an interruption left behind; it would count when old checkpoints are deleted."""
    for folder in checkpoint_folders(output_dir):
        if _is_half_written(folder):
            shutil.rmtree(folder)


def _is_half_written(folder: Path) -> bool:
    """Whether the trainer state, which is written last, is missing or cut off; otherwise something damaged it."""
    try:
        json.loads((folder / "trainer_state.json").read_text())
    except (OSError, ValueError):
        return True
    except RecursionError:
        return False
    return False


def check_complete(checkpoint: str | Path) -> None:
    """Raise `ValueError` if `checkpoint` is not complete."""
    faults = faults_of_checkpoint(checkpoint)
    if faults:
        raise ValueError(
            f"{checkpoint} is not a complete checkpoint: {', '.join(faults)}. Resume from an older one, or with "
            "`True` from the newest complete one."
        )


def check_resumable(checkpoint: str | Path, model: Any, data: dict[str, str], num_processes: int) -> None:
    """Raise `ValueError` if a complete `checkpoint` holds another model, other sizes or other labels, or was trained
    on other `data`; warns where the number of processes is another one."""
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
    saved = json.loads((Path(checkpoint) / CHECKSUMS_NAME).read_text())["data"]
    if changed := [name for name, digest in saved.items() if data.get(name) != digest]:
        raise ValueError(
            f"{checkpoint} cannot be resumed, for the {' and the '.join(changed)} of the training set have changed "
            "since. Bring back the data of the run, or start afresh."
        )
    before = len(list(Path(checkpoint).glob("rng_state*.pth")))
    if before != num_processes:
        logger.warning(
            f"{checkpoint} was written by {before} process(es), and now there are {num_processes}: what is remembered "
            "goes on, but random numbers are others than those of an unbroken run."
        )


class SaveLast(TrainerCallback):
    """Saves the checkpoint of a step after everything else that belongs to the step, and logs each epoch.

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
        control.should_log |= (
            args.logging_strategy != IntervalStrategy.NO
        )  # also with fewer steps than `logging_steps`
        control.should_log |= control.should_save or control.should_evaluate
        self._postponed = False
