"""Checkpoints that an interrupted training goes on from, to the bit."""

import hashlib
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.utils import logging

from ..data.labelled_items import LabelledItems
from ..faults import writing
from ..models.warm_start import AVERAGED_WEIGHTS
from ..objective import OBJECTIVE_NAME
from .checkpoints import (
    check_complete,
    check_resumable,
    latest_checkpoint,
    remove_half_written_checkpoints,
    remove_old_checkpoints,
    write_checksums,
)
from .ema import WeightEma
from .pushing import PushingTrainer

logger = logging.get_logger(__name__)


class ResumableTrainer(PushingTrainer):
    """Saves the memory of the objective and the averaged weights with each checkpoint, and goes on only from one that
    is complete and of the same data."""

    train_dataset: Any
    ema: WeightEma | None

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any):
        """Train; `resume_from_checkpoint=True` goes on from the newest complete checkpoint of `output_dir`."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = latest_checkpoint(self.args.output_dir)
            logger.info("Resuming from %s", resume_from_checkpoint or "the beginning: there is no complete checkpoint")
            if self.args.should_save:
                remove_half_written_checkpoints(self.args.output_dir)
            self.accelerator.wait_for_everyone()
        elif resume_from_checkpoint:
            check_complete(resume_from_checkpoint)
        if resume_from_checkpoint:
            check_resumable(resume_from_checkpoint, self.model, self._data_digests, self.args.world_size)
        return super().train(resume_from_checkpoint or None, *args, **kwargs)

    def _init_training_state(self, max_steps: int, steps_per_epoch: int, num_epochs: int, *args: Any):
        """Epochs and steps to skip; the Trainer would go one step further than a run that ended in mid-epoch."""
        position = super()._init_training_state(max_steps, steps_per_epoch, num_epochs, *args)
        if self.state.global_step > max_steps:
            raise ValueError(
                f"The checkpoint is of step {self.state.global_step}, and this training ends after {max_steps}: what "
                "was learned since cannot be taken back. Raise `num_train_epochs` or `max_steps`, or start afresh."
            )
        return (num_epochs, 0) if self.state.global_step == max_steps else position

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save and folder.exists():
            shutil.rmtree(folder)  # its old trainer state would make a half-written checkpoint look complete
        self.accelerator.wait_for_everyone()
        limit, self.args.save_total_limit = self.args.save_total_limit, None  # the Trainer deletes any checkpoint-*
        try:
            as_before = "Earlier checkpoints are as they were: resume."
            with writing(f"The checkpoint {folder}", as_before, RuntimeError, SafetensorError):
                super()._save_checkpoint(model, trial)
                if self.args.should_save:
                    remove_old_checkpoints(folder.parent, limit, self.state.best_model_checkpoint)
        finally:
            self.args.save_total_limit = limit

    @cached_property
    def _data_digests(self) -> dict[str, str]:
        """Digests of what a run must not change in its training set when it is resumed."""
        items = self.train_dataset
        if not isinstance(items, LabelledItems):
            return {}
        labels = hashlib.sha256(items.labels.tobytes()).hexdigest()
        return {**items.digests(), "labels": labels}

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Save the model alone; the Trainer would add a pickle of the arguments, with the token of the Hub in it."""
        if self.args.should_save:
            self.model.save_pretrained(output_dir or self.args.output_dir, state_dict=state_dict)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            for name, state in self._states().items():
                save_file({key: tensor.contiguous().cpu() for key, tensor in state.items()}, Path(output_dir) / name)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # The trainer state is written next and completes the checkpoint: all processes must be done with their part.
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            write_checksums(output_dir, self._data_digests)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        for name in self._states():
            path = Path(checkpoint) / name
            if not path.exists():
                raise FileNotFoundError(
                    f"{path} is missing: the checkpoint cannot be resumed exactly. Was it written by another method?"
                )
            owner: Any = self.objective if name == OBJECTIVE_NAME else self.ema
            owner.load_state_dict(load_file(path))

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self.ema and self.state.best_model_checkpoint:
            self.ema.load_state_dict(load_file(Path(self.state.best_model_checkpoint) / AVERAGED_WEIGHTS))

    def _states(self) -> dict[str, dict[str, Tensor]]:
        """Tensors of a checkpoint beside the Trainer's own files, by file name."""
        states = {OBJECTIVE_NAME: self.objective.state_dict()}
        if self.ema:
            states[AVERAGED_WEIGHTS] = self.ema.state_dict()
        return {name: state for name, state in states.items() if state}
