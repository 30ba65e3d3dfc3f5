"""Runs `hf-mlrpl` until it kills itself with SIGKILL: `python kill.py WHERE train ...`.

WHERE is `batch N`, or the end of the path of a file that a checkpoint is being written to: half of it will be there.
"""

import os
import signal
import sys
from pathlib import Path

import torch
import transformers.modeling_utils
from transformers import TrainerState

import hf_mlrpl.trainer.trainer as trainer
from hf_mlrpl.cli.main import main


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
    step = trainer.MultiLabelTrainer.training_step
    batches = 0

    def step_or_die(*args, **kwargs):
        nonlocal batches
        batches += 1
        if batches == number:
            die()
        return step(*args, **kwargs)

    trainer.MultiLabelTrainer.training_step = step_or_die


def run(where: str, arguments: list[str]) -> int:
    if where.startswith("batch "):
        die_at_batch(int(where.removeprefix("batch ")))
    die_in(where, torch, "save", 1)
    die_in(where, trainer, "save_file", 1)
    die_in(where, transformers.modeling_utils, "safe_save_file", 1)
    die_in(where, TrainerState, "save_to_json", 1)
    return main(arguments)


def run_in_silence(where: str, arguments: list[str], num_threads: int) -> None:
    """As a process that a fork server starts, so that nothing has to be imported again."""
    torch.set_num_threads(num_threads)
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    sys.exit(run(where, arguments))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2:]))
