"""Parameter groups, optimizer and learning rate, from the training arguments."""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

if TYPE_CHECKING:
    from .training_args import MultiLabelTrainingArguments


def make_optimizer(model: nn.Module, args: "MultiLabelTrainingArguments") -> torch.optim.Optimizer:
    """Adam with L2 on all trained parameters, as published, or what `optimizer` names."""
    groups = parameter_groups(model, args)
    options: dict[str, Any] = {"lr": args.learning_rate, "weight_decay": args.weight_decay}
    if args.optimizer == "sgd":
        return FusedSgd(groups, momentum=args.momentum, **options)
    options |= {"betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon}
    if args.optimizer == "adamax":
        return torch.optim.Adamax(groups, **options)
    optimizer = torch.optim.Adam if args.optimizer == "adam" else torch.optim.AdamW
    return optimizer(groups, fused=True, **options)


class FusedSgd(torch.optim.SGD):
    """SGD in one kernel, also where some parameters get their first gradient later than others.

    torch then finds some momenta of `None` and fails, and so it does behind a checkpoint with such. Here a momentum
    begins with zeros, from which the first step is the same.
    """

    def __init__(self, params: Any, **options: Any):
        super().__init__(params, fused=True, **options)
        self._fill_momenta()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._fill_momenta()

    def _fill_momenta(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"] if group["momentum"] else ():
                if self.state[parameter].get("momentum_buffer") is None:
                    self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def parameter_groups(model: nn.Module, args: "MultiLabelTrainingArguments") -> list[dict[str, Any]]:
    """The trained parameters by learning rate and weight decay; one group where all have the same.

    Raises:
        ValueError: where no trained parameter begins with a name in `lr_factors`.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for prefix in args.lr_factors:
        if not any(name.startswith(prefix) for name in trained):
            parts = ", ".join(dict.fromkeys(name.split(".")[0] for name in trained))
            raise ValueError(
                f"`lr_factors` names {prefix!r}, but no trained parameter of the model begins so. Its trained parts "
                f"are {parts}."
            )
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        matching = [prefix for prefix in args.lr_factors if name.startswith(prefix)]
        rate = args.learning_rate * (args.lr_factors[max(matching, key=len)] if matching else 1.0)
        exempt = args.decay_exempt == "biases_and_norms" and (parameter.ndim == 1 or name.endswith(".bias"))
        groups.setdefault((rate, 0.0 if exempt else args.weight_decay), []).append(parameter)
    return [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()]


def make_schedule(
    optimizer: torch.optim.Optimizer,
    args: "MultiLabelTrainingArguments",
    num_training_steps: int,
    steps_per_epoch: float | None = None,
) -> LRScheduler:
    """The learning rate of every step, for every `lr_schedule` but that of transformers.

    Args:
        steps_per_epoch: by default `num_training_steps` are `num_train_epochs`; with `max_steps` they are not.
    """
    if args.lr_schedule == "one_cycle":
        cycle_epochs = args.one_cycle_epochs or args.num_train_epochs
        total_steps = round(num_training_steps * cycle_epochs / args.num_train_epochs)
        return OneCycleLR(
            optimizer,
            [group["lr"] for group in optimizer.param_groups],
            total_steps=total_steps,
            pct_start=0.3 if total_steps == 5 else 0.2,  # a fifth of 5 steps ends in a division by zero
            cycle_momentum=args.optimizer != "sgd",
        )
    steps_per_epoch = steps_per_epoch or num_training_steps / args.num_train_epochs
    if args.lr_schedule == "cosine" and num_training_steps > math.ceil(args.num_train_epochs * steps_per_epoch):
        raise ValueError(
            f"`max_steps` must not go beyond the end of `lr_schedule: cosine`, which is that of `num_train_epochs`, "
            f"got {num_training_steps} steps and {args.num_train_epochs} epochs of {steps_per_epoch:g} steps."
        )
    factor = _cosine_factor if args.lr_schedule == "cosine" else _step_factor
    return LambdaLR(optimizer, lambda step: factor((step + 1e-6) / steps_per_epoch, args))


def _step_factor(epoch: float, args: "MultiLabelTrainingArguments") -> float:
    every = args.lr_step_epochs
    falls = sum(epoch >= e for e in every) if isinstance(every, list) else int(epoch // every)
    return args.lr_step_factor**falls


def _cosine_factor(epoch: float, args: "MultiLabelTrainingArguments") -> float:
    """A constant first rate, then half a cosine that begins at the full rate and changes between epochs."""
    if epoch < args.warmup_epochs:
        return args.warmup_learning_rate / args.learning_rate
    return (1 + math.cos(math.pi * (math.floor(epoch) - args.warmup_epochs) / args.num_train_epochs)) / 2
