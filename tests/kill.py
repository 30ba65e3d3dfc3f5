"""`hf-mlrpl` that kills itself with SIGKILL."""

import os
import signal
from pathlib import Path

import torch
import transformers.modeling_utils
from transformers import TrainerState

from hf_mlrpl.cli.main import main
from hf_mlrpl.trainer import resuming
from hf_mlrpl.trainer.trainer import MultiLabelTrainer


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in(where: str, module, name: str, path_index: int) -> None:
    """Make the function `name` write half a file and die, where its path ends in `where`."""
    write = getattr(module, name)

    def write_or_die(*args, **kwargs):
        write(*args, **kwargs)
        path = Path(args[path_index])
        if str(path).endswith(where):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            die()

    setattr(module, name, write_or_die)


def die_at_batch(number: int) -> None:
    step = MultiLabelTrainer.training_step
    batches = 0

    def step_or_die(*args, **kwargs):
        nonlocal batches
        batches += 1
        if batches == number:
            die()
        return step(*args, **kwargs)

    MultiLabelTrainer.training_step = step_or_die


def run(where: str, arguments: list[str]) -> int:
    """The command `arguments`, up to `where`: `batch N`, or the end of the path of a file that a checkpoint is being
    written to; half of it will be there."""
    if where.startswith("batch "):
        die_at_batch(int(where.removeprefix("batch ")))
    die_in(where, torch, "save", 1)
    die_in(where, resuming, "save_file", 1)
    die_in(where, transformers.modeling_utils, "safe_save_file", 1)
    die_in(where, TrainerState, "save_to_json", 1)
    return main(arguments)
