"""One `Trainer` for all methods."""

import json
import re
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import EvalPrediction, PrinterCallback, ProgressCallback, Trainer, TrainerCallback
from transformers.utils import logging

from ..data.images.torch_dataset import PartialLabelImages
from ..data.images.training_images import TrainingImages
from ..distributed import gather_rows, share_buffers
from ..labels import UNKNOWN
from ..losses import partial_bce
from ..metrics.f1 import choose_thresholds
from ..metrics.multi_label import multi_label_metrics, scores_of
from ..objective import OBJECTIVE_NAME, Objective, ObjectiveOutput
from ..schedules import Progress
from .ema import WeightEma
from .optimization import make_optimizer, make_schedule
from .training_args import MultiLabelTrainingArguments

logger = logging.get_logger(__name__)

EMA_NAME = "ema.safetensors"
_SHOWN_LOGS = {"loss": "loss", "learning_rate": "learning rate", "eval_map": "validation mAP"}


class MultiLabelTrainer(Trainer):
    """Runs any objective, logs its terms and its pseudo-labels, and saves its memory with each checkpoint.

    Args:
        objective: what to minimise. It may have buffers, which are saved, but no parameters.
        train_dataset: items with `pixel_values`, `labels`, and optionally `full_labels`, which only the count of
            correct pseudo-labels sees. An objective that looks through the training set needs `PartialLabelImages`.
    """

    loss_is_scaled_for_ga = False  # objectives return a mean over the micro-batch
    args: MultiLabelTrainingArguments
    model: Any  # a `MultiLabelPreTrainedModel`
    objective: Objective
    train_dataset: Any
    lr_scheduler: Any

    def __init__(self, model: nn.Module, args: MultiLabelTrainingArguments, objective: Objective, **kwargs: Any):
        parameters = [name for name, _ in objective.named_parameters()]
        if parameters:
            raise ValueError(
                f"An objective must not have parameters, got {', '.join(parameters)}. DDP would not average them: "
                "move them to the model."
            )
        model.to(memory_format=torch.channels_last)  # the layout in which the backbone runs
        kwargs.setdefault(
            "compute_metrics",
            lambda prediction: compute_metrics(
                prediction, self.model.config.thresholds, names=self.model.config.label_names
            ),
        )
        super().__init__(model=model, args=args, **kwargs)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled or self.args.n_gpu > 1:
            raise ValueError(
                "This trainer runs one process per device with DDP; FSDP, DeepSpeed and `DataParallel` are not "
                "supported. Start it with `accelerate launch` or `torchrun --nproc_per_node <number of devices>`."
            )
        if args.choose_thresholds and self.eval_dataset is None:
            raise ValueError(
                "`choose_thresholds` needs validation images: give an `eval_dataset`, in a recipe `data.validation`."
            )
        self.training_images: TrainingImages | None = None
        if isinstance(self.train_dataset, PartialLabelImages):
            objective.check_views(self.train_dataset.views)
            self.training_images = TrainingImages(
                self.train_dataset,
                batch_size=args.per_device_eval_batch_size,
                num_workers=args.dataloader_num_workers,
                seed=args.seed,
                show_progress=not args.disable_tqdm,
            )
            objective.prepare(self.training_images)
        self.objective = objective.to(self.args.device)
        self.ema = WeightEma(model, args.ema_decay) if args.ema_decay else None
        self._means = _RunningMeans()
        self.add_callback(_EpochAndEma(self))
        self.add_callback(_SaveLast())
        self.remove_callback(PrinterCallback if args.disable_tqdm else ProgressCallback)
        self.add_callback(_ConciseLog if args.disable_tqdm else _ConciseProgress)

    # ---- one step ----

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ):
        full_labels = inputs.pop("full_labels", None)
        if self.model.training:
            outputs = model(**inputs, objective=self.objective, progress=Progress.from_state(self.state))
            self._means.add(outputs, inputs["labels"], full_labels)
        else:  # the same plain loss for every method, so that `eval_loss` can be compared
            outputs = model(inputs["pixel_values"], labels=inputs["labels"])
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def before_epoch(self) -> None:
        """Let the objective look through the training set."""
        if self.training_images is None or type(self.objective).before_epoch is Objective.before_epoch:
            return
        share_buffers(self.model)
        self.model.eval()  # each training step puts it back
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.no_grad(), self.accelerator.autocast():
            self.objective.before_epoch(self.model, self.training_images, Progress.from_state(self.state))

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            logs.update(self._means.pop())
        super().log(logs, *args, **kwargs)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = make_optimizer(model or self.model, self.args)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None):
        if self.lr_scheduler is None and self.args.lr_schedule != "transformers":
            self.lr_scheduler = make_schedule(optimizer or self.create_optimizer(), self.args, num_training_steps)
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def evaluation_loop(self, *args: Any, **kwargs: Any):
        """The Trainer's loop over images, for the averaged weights where there are any, with the loss over all images.

        The Trainer's own loss is a mean of batches, in which the padding of the last one counts, and which depends on
        the number of processes.
        """
        with self.ema.applied_to(self.model) if self.ema else nullcontext():
            share_buffers(self.model)
            output = super().evaluation_loop(*args, **kwargs)
        if output.metrics is not None and output.predictions is not None and output.label_ids is not None:
            logits, labels = _logits_and_labels(output)
            loss = partial_bce(torch.from_numpy(logits).double(), torch.from_numpy(labels))
            output.metrics[f"{kwargs.get('metric_key_prefix', 'eval')}_loss"] = loss.item()
        return output

    def choose_thresholds(self, dataset: Any = None) -> list[float]:
        """Give the model the threshold of every label with the largest F1 on validation images.

        They become `config.thresholds`, from which evaluation and the tagging pipeline take them. The mean F1 is
        logged as `validation_mean_f1`, in percent.

        Args:
            dataset: by default `eval_dataset`.
        """
        images: Any = self.eval_dataset if dataset is None else dataset
        logits, labels = _logits_and_labels(self.predict(images, metric_key_prefix="validation"))
        thresholds = choose_thresholds(scores_of(logits), labels).tolist()
        self.model.config.thresholds = thresholds
        self.log({"validation_mean_f1": multi_label_metrics(logits, labels, thresholds=thresholds)["mean_f1"]})
        return thresholds

    # ---- checkpoints ----

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any):
        """Train; `resume_from_checkpoint=True` goes on from the newest complete checkpoint of `output_dir`."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = latest_checkpoint(self.args.output_dir)
            logger.info("Resuming from %s", resume_from_checkpoint or "the beginning: there is no complete checkpoint")
            self._remove_half_written_checkpoints()
        if resume_from_checkpoint:
            missing = missing_from_checkpoint(resume_from_checkpoint)
            if missing:
                raise ValueError(
                    f"{resume_from_checkpoint} is not a complete checkpoint: {', '.join(missing)} is missing or cut "
                    "off. Resume from an older one, or with `True` from the newest complete one."
                )
            _check_same_model(self.model, Path(resume_from_checkpoint))
        result = super().train(resume_from_checkpoint or None, *args, **kwargs)
        if self.args.choose_thresholds:
            self.choose_thresholds()
        return result

    def _remove_half_written_checkpoints(self) -> None:
        """What an interruption left behind; it would count when the Trainer deletes old checkpoints."""
        if self.args.should_save:
            for folder in _checkpoint_folders(self.args.output_dir):
                if not _has_trainer_state(folder):
                    shutil.rmtree(folder)
        self.accelerator.wait_for_everyone()

    def _init_training_state(self, max_steps: int, steps_per_epoch: int, num_epochs: int, *args: Any):
        """Epochs and steps to skip; the Trainer would go one step further than a run that ended in mid-epoch."""
        position = super()._init_training_state(max_steps, steps_per_epoch, num_epochs, *args)
        return (num_epochs, 0) if self.state.global_step >= max_steps else position

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save and folder.exists():
            shutil.rmtree(folder)  # its old trainer state would make a half-written checkpoint look complete
        self.accelerator.wait_for_everyone()
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise OSError(
                f"The checkpoint {folder} could not be written: {error}. Is the disk full? Earlier checkpoints are as "
                "they were; make room and resume."
            ) from error

    def save_averaged_weights_to_model(self) -> None:
        """After training: give the model the averaged weights for good, where there are any."""
        if self.ema:
            self.ema.copy_to(self.model)
            self.ema = None

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        # A pickle of the arguments, which nothing here reads: the recipe is kept instead.
        (Path(output_dir or self.args.output_dir) / "training_args.bin").unlink(missing_ok=True)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            for name, state in self._states().items():
                save_file({key: tensor.contiguous().cpu() for key, tensor in state.items()}, Path(output_dir) / name)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # The trainer state is written next and completes the checkpoint: all processes must be done with their part.
        self.accelerator.wait_for_everyone()

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
            self.ema.load_state_dict(load_file(Path(self.state.best_model_checkpoint) / EMA_NAME))

    def _states(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint holds beside the Trainer's own files, by file name."""
        states = {OBJECTIVE_NAME: self.objective.state_dict()}
        if self.ema:
            states[EMA_NAME] = self.ema.state_dict()
        return {name: state for name, state in states.items() if state}


class _SaveLast(TrainerCallback):
    """Puts a checkpoint behind the logs and the evaluation of its step, so that a resumed run misses neither."""

    _postponed = False

    def on_step_end(self, args, state, control, **kwargs):
        if control.should_save and (state.epoch == int(state.epoch) or control.should_training_stop):
            control.should_save, self._postponed = False, True  # the evaluation at the end of the epoch comes first
        control.should_log |= control.should_save or control.should_evaluate

    def on_epoch_end(self, args, state, control, **kwargs):
        control.should_save |= self._postponed
        control.should_log |= control.should_save or control.should_evaluate
        self._postponed = False


class _EpochAndEma(TrainerCallback):
    """Tells the training images and the objective that an epoch begins, and updates the averaged weights."""

    def __init__(self, trainer: MultiLabelTrainer):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        if hasattr(self.trainer.train_dataset, "set_epoch"):
            self.trainer.train_dataset.set_epoch(int((state.epoch or 0) + 1e-6))
        self.trainer.before_epoch()

    def on_optimizer_step(self, args, state, control, **kwargs):
        if self.trainer.ema:
            self.trainer.ema.update(self.trainer.model)


class _ConciseLog(TrainerCallback):
    """One short line per log in place of a dictionary."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        shown = [f"{label} {logs[name]:.4g}" for name, label in _SHOWN_LOGS.items() if name in (logs or {})]
        if shown and state.is_world_process_zero:
            tqdm.write(f"epoch {state.epoch:.2f}/{args.num_train_epochs:g}  {'  '.join(shown)}")


class _ConciseProgress(_ConciseLog, ProgressCallback):
    """The Trainer's progress bar, with these lines above it."""


class _RunningMeans:
    """Sums of what objectives report, on the device; read once per log."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps: dict[str, int] = {}

    @torch.no_grad()
    def add(self, outputs: ObjectiveOutput, labels: Tensor, full_labels: Tensor | None) -> None:
        for name, term in (outputs.terms or {}).items():
            self._accumulate(f"loss_{name}", term)
        for name, value in (outputs.logs or {}).items():
            self._accumulate(name, value)
        for name, completed in (outputs.pseudo_labels or {}).items():
            added = labels.eq(UNKNOWN) & completed.ne(UNKNOWN)
            self._accumulate(f"pseudo_labels_{name}", added.sum())
            if full_labels is not None:
                self._accumulate(f"correct_{name}", (added & completed.eq(full_labels)).sum())

    def _accumulate(self, name: str, value: Tensor | float) -> None:
        value = torch.as_tensor(value, dtype=torch.float64)
        self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._steps[name] = self._steps.get(name, 0) + 1

    def pop(self) -> dict[str, float]:
        """Means per step over all processes; pseudo-labels as a total number, and their precision in percent."""
        if not self._sums:
            return {}
        device = next(iter(self._sums.values())).device
        sums = torch.stack([total.to(device) for total in self._sums.values()])
        gathered = gather_rows(sums.unsqueeze(0))  # (processes, numbers)
        totals = dict(zip(self._sums, gathered.sum(dim=0).tolist(), strict=True))
        steps = {name: count * len(gathered) for name, count in self._steps.items()}
        self._sums, self._steps = {}, {}
        logs = {}
        for name, total in totals.items():
            if name.startswith("correct_"):
                rule = name.removeprefix("correct_")
                added = totals[f"pseudo_labels_{rule}"]
                if added:
                    logs[f"pseudo_precision_{rule}"] = 100 * total / added
            else:
                logs[name] = total if name.startswith("pseudo_labels_") else total / steps[name]
        return logs


def compute_metrics(
    prediction: EvalPrediction, thresholds: float | Sequence[float] = 0.5, *, names: list[str] | None = None
) -> dict[str, float]:
    """All metrics of `hf_mlrpl.metrics`, in percent, over the known labels; see `multi_label_metrics`."""
    return multi_label_metrics(*_logits_and_labels(prediction), thresholds=thresholds, names=names)


def _logits_and_labels(output: Any) -> tuple[np.ndarray, np.ndarray]:
    logits = output.predictions[0] if isinstance(output.predictions, tuple) else output.predictions
    labels = output.label_ids[0] if isinstance(output.label_ids, tuple) else output.label_ids
    return np.asarray(logits), np.asarray(labels)


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


def _check_same_model(model: Any, checkpoint: Path) -> None:
    """Raise `ValueError` if `checkpoint` holds another model, other sizes or other labels."""
    theirs = json.loads((checkpoint / "config.json").read_text())
    ours = json.loads(model.config.to_json_string())
    incidental = ("architectures", "dtype", "transformers_version")
    different = [
        f"`{key}` is {str(theirs.get(key))[:200]} there and {str(ours.get(key))[:200]} here"
        for key in sorted((theirs.keys() | ours.keys()) - {*incidental})
        if theirs.get(key) != ours.get(key)
    ]
    if different:
        raise ValueError(f"{checkpoint} cannot be resumed, it holds another model: {'; '.join(different)}.")
