"""Logs of a run: means of what an objective reports, and one short line for each of them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainerState
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK

from ..distributed import gather_rows
from ..labels import UNKNOWN
from ..objective import ObjectiveOutput
from .inputs import VALIDATION, main_part

_SHOWN = {"loss": "loss", "learning_rate": "learning rate", "eval_map": "validation mAP"}


class ConciseLog(TrainerCallback):
    """One short line per log in place of a dictionary."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        shown = [f"{label} {logs[name]:.4g}" for name, label in _SHOWN.items() if name in (logs or {})]
        if shown and state.is_world_process_zero:
            tqdm.write(f"epoch {state.epoch:.2f}/{args.num_train_epochs:g}  {'  '.join(shown)}")


class ConciseProgress(ConciseLog, ProgressCallback):
    """The Trainer's progress bar, with these lines above it."""


def use_concise_logs(trainer: Trainer) -> None:
    """Put these lines in the place of the dictionaries of the Trainer; a notebook keeps its table."""
    if trainer.args.disable_tqdm:
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(ConciseLog)
    elif DEFAULT_PROGRESS_CALLBACK is ProgressCallback:
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(ConciseProgress)


def last_evaluation(state: TrainerState, eval_dataset: Any, best: bool) -> tuple[str | None, dict[str, float]]:
    """Metrics of the last evaluation, or with `best` of the step whose weights were kept.

    Returns:
        The name of what was measured on, "validation" if it has none, and the metrics with it in front.
    """
    part = main_part(eval_dataset) or next(iter(eval_dataset)) if isinstance(eval_dataset, dict) else None
    prefix = "eval_" if part is None else f"eval_{part}_"
    metrics: dict[str, float] = {}
    for entry in state.log_history:
        if not best or entry["step"] == state.best_global_step:
            metrics |= {name: value for name, value in entry.items() if name.startswith(prefix)}
    part = part or VALIDATION
    measured = {
        f"{part}_{name.removeprefix(prefix)}": value
        for name, value in metrics.items()
        if not name.endswith(("_runtime", "_per_second"))
    }
    return (part if measured else None), measured


def completed_in_last_epoch(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Number of pseudo-labels in the last epoch, and how many percent of them are right.

    Args:
        history: entries of a log, of which an epoch may have several.
    """
    end = max((entry.get("epoch", 0.0) for entry in history), default=0.0)
    last = [entry for entry in history if entry.get("epoch", 0.0) > math.ceil(end) - 1]
    found: dict[str, float] = {}
    for name in dict.fromkeys(name for entry in last for name in entry if name.startswith("pseudo_labels_")):
        precision = name.replace("labels", "precision", 1)
        found[name] = sum(entry.get(name, 0.0) for entry in last)
        if any(precision in entry for entry in last):
            found[precision] = sum(entry.get(name, 0.0) * entry.get(precision, 0.0) for entry in last) / found[name]
    return found


class RunningMeans:
    """Sums of what an objective reports, on its device; they are read once per log."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], Tensor] = {}  # by kind and name: a log may have any name
        self._steps: dict[tuple[str, str], int] = {}

    @torch.no_grad()
    def add(self, outputs: ObjectiveOutput, labels: Tensor, full_labels: Tensor | None) -> None:
        for name, term in (outputs.terms or {}).items():
            self._accumulate("mean", f"loss_{name}", term)
        for name, value in (outputs.logs or {}).items():
            self._accumulate("mean", name, value)
        for rule, completed in (outputs.pseudo_labels or {}).items():
            added = labels.eq(UNKNOWN) & completed.ne(UNKNOWN)
            self._accumulate("added", rule, added.sum())
            if full_labels is not None:
                self._accumulate("correct", rule, (added & completed.eq(full_labels)).sum())

    def _accumulate(self, kind: str, name: str, value: Tensor | float) -> None:
        value, key = torch.as_tensor(value, dtype=torch.float64), (kind, name)
        self._sums[key] = self._sums[key] + value if key in self._sums else value
        self._steps[key] = self._steps.get(key, 0) + 1

    def move_to(self, logs: dict[str, float]) -> None:
        """Add to `logs`, over all processes, means per step, and by rule the number of pseudo-labels and how many
        percent of them are right; then begin anew.

        Raises:
            ValueError: where an objective logs something by a name that is taken.
        """
        if not self._sums:
            return
        device = next(iter(self._sums.values())).device
        sums = torch.stack([total.to(device) for total in self._sums.values()])
        gathered = gather_rows(sums.unsqueeze(0))  # (processes, numbers)
        totals = dict(zip(self._sums, gathered.sum(dim=0).tolist(), strict=True))
        steps = {key: count * len(gathered) for key, count in self._steps.items()}
        self._sums, self._steps = {}, {}
        for (kind, name), total in totals.items():
            if kind == "mean":
                shown, value = name, total / steps[kind, name]
            elif kind == "added":
                shown, value = f"pseudo_labels_{name}", total
            elif added := totals["added", name]:
                shown, value = f"pseudo_precision_{name}", 100 * total / added
            else:
                continue
            if shown in logs:
                raise ValueError(f"The objective logs `{shown}`, which is the name of another number. Rename it.")
            logs[shown] = value
