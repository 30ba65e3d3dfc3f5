"""Training arguments: every default that differs from the Trainer's, with the reason."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from transformers import TrainingArguments

from ..settings import did_you_mean
from .argument_checks import check_arguments

Optimizer = Literal["adam", "adamw", "adamax", "sgd"]
LrSchedule = Literal["step", "one_cycle", "cosine", "transformers"]
DecayExempt = Literal["none", "biases_and_norms"]
FeatureDtype = Literal["float16", "bfloat16", "float32"]


# What a resumed run may change: where and when something is logged, measured, saved, shown or pushed, and how images
# are loaded. Everything else would end in other weights than the unbroken run.
MAY_CHANGE = frozenset(
    """
    output_dir disable_tqdm report_to run_name logging_dir logging_strategy logging_steps logging_first_step log_level
    save_strategy save_steps save_total_limit eval_strategy eval_steps eval_delay per_device_eval_batch_size
    eval_accumulation_steps dataloader_num_workers dataloader_prefetch_factor dataloader_pin_memory choose_thresholds
    ddp_find_unused_parameters ddp_broadcast_buffers cudnn_benchmark
    allow_no_negatives push_to_hub hub_model_id hub_strategy hub_private_repo hub_revision hub_always_push
    """.split()
)
MAY_GROW = frozenset(["num_train_epochs", "max_steps"])  # where rate and objective do not depend on them

_FRACTIONS = ("cp", "cr", "cf1", "op", "or", "of1")
MEASURED = ("map", "map_interpolated", "mean_f1", "loss", *_FRACTIONS, *(f"{name}_top3" for name in _FRACTIONS))


def _field(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass
class MultiLabelTrainingArguments(TrainingArguments):
    """The published settings of SST and SARB, on top of `transformers.TrainingArguments`."""

    output_dir: str = _field("runs/recipe", "Where results go; the command line names it after the recipe.")
    optimizer: str = _field(
        "adam", "adam (L2 added to the gradient, as published), adamw (decoupled decay), adamax or sgd."
    )
    momentum: float = _field(0.9, "Momentum of sgd.")
    lr_schedule: str = _field(
        "step",
        "step (published), one_cycle (also cycles Adam's beta1), cosine (changes between epochs), or transformers: "
        "`lr_scheduler_type` rules.",
    )
    lr_step_epochs: float | list[float] = _field(
        10, "Schedule `step`: the learning rate falls every so many epochs, or after each of the epochs of a list."
    )
    lr_step_factor: float = _field(0.1, "Schedule `step`: the learning rate falls by this factor.")
    one_cycle_epochs: float | None = _field(
        None, "Schedule `one_cycle`: epochs of the whole cycle, where training ends before it does."
    )
    warmup_epochs: int = _field(0, "Schedule `cosine`: epochs at a constant learning rate before it begins.")
    warmup_learning_rate: float = _field(1e-5, "The learning rate of these epochs.")
    lr_factors: dict[str, float] = field(
        default_factory=dict,
        metadata={"help": "Parts of the model that learn so many times faster, by the start of parameter names."},
    )
    decay_exempt: str = _field("none", "biases_and_norms: no weight decay for biases and one-dimensional weights.")
    ema_decay: float | None = _field(None, "Evaluate and save a moving average of the weights with this decay.")
    allow_no_negatives: bool = _field(
        False, "Train a method that learns from labels known to be absent on data without any, to compare with it."
    )
    hub_license: str | None = _field(None, "License of pushed weights, as the Hub calls it, such as apache-2.0.")
    choose_thresholds: bool = _field(False, "After training: per label the threshold with the best validation F1.")

    store_features: bool | None = _field(
        None,
        "Compute the features of the frozen part of the backbone once, keep them on the disk, and train on them. By "
        "default where the whole backbone is frozen, and the view gives few different images.",
    )
    views_per_image: int | None = _field(
        None,
        "Views of each photo whose features are stored: 1 is the plain photo, 2 that and its mirror image, more are "
        "random views, the same in every run. By default all that `data.view` gives (plain: 1, flip: 2).",
    )
    feature_dtype: str = _field("float16", "Of stored features: float16, bfloat16, or float32, which is exact.")

    # Published: Adam at 1e-5, decay 5e-4 on all trained parameters, 20 epochs of batch 32, no clipping.
    learning_rate: float = _field(1e-5, "Highest learning rate.")
    weight_decay: float = _field(5e-4, "L2 weight decay, on biases and norms, too.")
    num_train_epochs: float = _field(20, "Epochs; with 0 the model is measured as it is.")
    per_device_train_batch_size: int = _field(32, "Images per step on each device.")
    per_device_eval_batch_size: int = _field(64, "Images per evaluation step on each device.")
    max_grad_norm: float = _field(0.0, "Clip gradients to this norm; 0 does not clip.")

    dataloader_num_workers: int = _field(
        -1,
        "Processes that open images. -1: none where all images stay in memory or processes cannot be forked, one "
        "beside a CPU that trains, else as many as there are cores to spare, at most 8.",
    )
    cpu_threads: int | None = _field(
        None, "Threads of a CPU that trains, by default one for each core that workers leave. 1 suits tiny networks."
    )
    cudnn_benchmark: bool = _field(True, "cuDNN looks for its fastest convolutions, unless `full_determinism` is set.")
    ddp_find_unused_parameters: bool | None = _field(
        None, "Whether DDP looks for parameters without a gradient at every step; by default where there may be some."
    )
    ddp_broadcast_buffers: bool | None = _field(
        False, "Whether DDP sends buffers at every step; they are those of the first process whenever they are used."
    )

    do_train: bool = _field(True, "A trainer trains.")
    do_eval: bool = _field(True, "It evaluates when `eval_strategy` says.")
    remove_unused_columns: bool = _field(False, "Images reach the model through a transform, not through a column.")
    logging_nan_inf_filter: bool = _field(False, "A loss that is not a number shall be seen, not averaged away.")
    report_to: str | list[str] | None = _field("tensorboard", "Where logs go: tensorboard, wandb, none, ...")
    eval_strategy: str = _field("epoch", "When to evaluate on the validation part.")
    save_strategy: str = _field("epoch", "When to save a checkpoint to resume from.")
    save_total_limit: int | None = _field(2, "Checkpoints to keep.")
    metric_for_best_model: str | None = _field("map", "Validation metric for `load_best_model_at_end`.")
    greater_is_better: bool | None = _field(True, "Whether a larger value of that metric is better.")

    def __post_init__(self):
        check_arguments(self)
        for name, choices in (
            ("optimizer", Optimizer),
            ("lr_schedule", LrSchedule),
            ("decay_exempt", DecayExempt),
            ("feature_dtype", FeatureDtype),
        ):
            if getattr(self, name) not in get_args(choices):
                raise ValueError(
                    f"`{name}` must be one of {', '.join(get_args(choices))}, got {getattr(self, name)!r}."
                )
        if not torch.accelerator.is_available():
            self.use_cpu = True  # without it transformers refuses bf16 on machines without a GPU
        if not self.use_cpu:
            self.copy_without_waiting()
        try:
            super().__post_init__()
        except (KeyError, TypeError, AttributeError) as error:  # what it does not check itself
            raise ValueError(
                f"transformers refuses these training arguments: {type(error).__name__}: {error}"
            ) from error

    def copy_without_waiting(self) -> None:
        """Let batches travel to a GPU while it computes, unless `accelerator_config` says otherwise."""
        given = self.accelerator_config or {}
        if isinstance(given, dict) and self.dataloader_pin_memory:
            self.accelerator_config = {"non_blocking": True, **given}

    def check_metric(self) -> None:
        """Raise `ValueError` if `load_best_model_at_end` asks for a metric that is not measured."""
        metric = self.metric_for_best_model or ""
        if self.load_best_model_at_end and not any(f"_{metric}".endswith(f"_{name}") for name in MEASURED):
            raise ValueError(f"`metric_for_best_model` {metric!r} is not measured. {did_you_mean(metric, MEASURED)}")
