"""Checks of training arguments that transformers leaves out: ranges, and settings that mean nothing here."""

from dataclasses import fields
from typing import Any

from ..ranges import check_ranges, interval
from ..settings import check_keys, shown

RANGES = {  # of arguments whose range is not the default one
    name: interval(text)
    for text, names in {
        "[1, 1e6]": "per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps "
        "save_total_limit eval_accumulation_steps torch_empty_cache_steps ddp_bucket_cap_mb "
        "dataloader_prefetch_factor views_per_image",
        "(0, 1e6]": "one_cycle_epochs lr_step_epochs lr_factors adam_epsilon",
        "(0, 1e12]": "logging_steps save_steps eval_steps",
        "[0, 1)": "adam_beta1 adam_beta2 momentum",
        "(0, 1)": "ema_decay",
        "(0, 1]": "lr_step_factor",
        "[-1, 1024]": "dataloader_num_workers",
        "[1, 1024]": "cpu_threads",
        "[0, 4294967295]": "seed data_seed",
        "[-1, 1e12]": "max_steps",
        "[-1, 1e6]": "local_rank",
    }.items()
    for name in names.split()
}

_METRICS = "the metrics of this library need all scores and labels, and nothing else"
_OPTIMIZER = "`optimizer` chooses among adam, adamw, adamax and sgd"
_TEXT = "it is for models of language"
_WHEN = "`eval_strategy` says when to evaluate, and `hf-mlrpl evaluate` does it alone"
_REPEATABLE = "a run that is resumed must end like an unbroken one"
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {  # what a setting must stay, and why
    "do_train": ((True,), "a trainer trains; `num_train_epochs: 0` leaves the model as it is"),
    "do_eval": ((True,), _WHEN),
    "do_predict": ((False,), _WHEN),
    "prediction_loss_only": ((False,), _METRICS),
    "batch_eval_metrics": ((False,), _METRICS),
    "eval_do_concat_batches": ((True,), _METRICS),
    "include_for_metrics": (([],), _METRICS),
    "label_names": ((None, ["labels"]), "labels are always in `labels`"),
    "remove_unused_columns": ((False,), "images reach the model through a transform, not through a column"),
    "label_smoothing_factor": ((0,), "objectives have their own loss; `lsan` has smooth labels"),
    "optim": (("adamw_torch", "adamw_torch_fused"), _OPTIMIZER),
    "optim_args": ((None,), _OPTIMIZER),
    "optim_target_modules": ((None,), _OPTIMIZER),
    "use_liger_kernel": ((False,), _TEXT),
    "liger_kernel_config": ((None,), _TEXT),
    "use_cache": ((False,), _TEXT),
    "length_column_name": (("length",), _TEXT),
    "neftune_noise_alpha": ((None,), _TEXT),
    "include_num_input_tokens_seen": (("no", False), _TEXT),
    "train_sampling_strategy": (("random", "sequential"), "images have no length"),
    "save_only_model": ((False,), f"{_REPEATABLE}; `save_strategy: no` keeps the final weights only"),
    "ignore_data_skip": ((False,), _REPEATABLE),
    "auto_find_batch_size": ((False,), "what objectives remember would be that of several batch sizes"),
    "dataloader_persistent_workers": (
        (False,),
        "the workers for training images live through epochs anyway, and those for evaluation would show the images "
        "of the first call in all later ones",
    ),
    "resume_from_checkpoint": ((None,), "`hf-mlrpl train --resume` and `trainer.train(...)` resume"),
    "fsdp": ((None, "", []), "one process per device, with DDP, is what there is"),
    "deepspeed": ((None,), "one process per device, with DDP, is what there is"),
    "parallelism_config": ((None,), "one process per device, with DDP, is what there is"),
}
_LOG_LEVELS = ("passive", "debug", "detail", "info", "warning", "error", "critical")
_BELONGS = {  # what has an effect with one choice only, and that choice
    "lr_scheduler_type": ("lr_schedule", "transformers"),
    "lr_scheduler_kwargs": ("lr_schedule", "transformers"),
    "warmup_steps": ("lr_schedule", "transformers"),
    "lr_step_epochs": ("lr_schedule", "step"),
    "lr_step_factor": ("lr_schedule", "step"),
    "one_cycle_epochs": ("lr_schedule", "one_cycle"),
    "warmup_epochs": ("lr_schedule", "cosine"),
    "warmup_learning_rate": ("lr_schedule", "cosine"),
    "momentum": ("optimizer", "sgd"),
}


def check_arguments(args: Any) -> None:
    """Raise `ValueError` for numbers with which the Trainer would train nothing, fail late or do something else, and
    for settings that mean nothing, or something else, here."""
    from transformers.trainer_pt_utils import AcceleratorConfig  # which imports torch

    check_ranges(type(args), vars(args), ranges=RANGES)
    if args.max_steps == 0:
        raise ValueError("`max_steps` must be at least 1, or -1 for all epochs, got 0.")
    for name, (allowed, reason) in REFUSED.items():
        value = getattr(args, name)
        if value not in allowed:
            raise ValueError(f"`{name}` must stay {allowed[0]!r} here, got {value!r}: {reason}.")
    for name in ("log_level", "log_level_replica"):
        if getattr(args, name) not in _LOG_LEVELS:
            raise ValueError(f"`{name}` must be one of {', '.join(_LOG_LEVELS)}, got {shown(getattr(args, name))}.")
    if isinstance(args.accelerator_config, dict):
        check_keys(
            args.accelerator_config, (field.name for field in fields(AcceleratorConfig)), "`accelerator_config`"
        )
    defaults = {field.name: field.default for field in fields(args)}
    for name, (choice, needed) in _BELONGS.items():
        if getattr(args, choice) != needed and getattr(args, name) != defaults[name]:
            raise ValueError(
                f"`{name}` belongs to `{choice}: {needed}`, but that is {getattr(args, choice)}. Leave it out, or "
                f"choose {needed}."
            )
    check_sizes(args)


def check_sizes(args: Any) -> None:
    """Raise `ValueError` for settings whose ranges depend on others."""
    if args.one_cycle_epochs is not None and args.one_cycle_epochs < args.num_train_epochs:
        raise ValueError(
            f"`one_cycle_epochs` must not be less than `num_train_epochs`, got {args.one_cycle_epochs:g} and "
            f"{args.num_train_epochs:g}: training would go on after the cycle."
        )
    if args.warmup_epochs and args.warmup_epochs >= args.num_train_epochs:
        raise ValueError(
            f"`warmup_epochs` must lie in [0, `num_train_epochs`), got {args.warmup_epochs} and "
            f"{args.num_train_epochs:g}."
        )
    for prefix, factor in args.lr_factors.items():
        if not isinstance(factor, int | float):
            raise ValueError(f"`lr_factors.{prefix}` must be a number above 0, got {factor!r}.")
