"""Settings that transformers checks for their type only."""

import math
import re

import pytest

from hf_mlrpl import MultiLabelTrainingArguments
from hf_mlrpl.settings import field_types
from hf_mlrpl.trainer.argument_checks import REFUSED

NOT_FINITE = [math.nan, math.inf, -math.inf]


NUMBERS = [
    name
    for name, kind in field_types(MultiLabelTrainingArguments).items()
    if kind in (int, float, int | None, float | None) or "float" in str(kind)
]


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_a_range(name, tmp_path):
    for value in (*NOT_FINITE, 1e308, -1e308, 10**400, 10**15, -2):
        with pytest.raises(ValueError, match=name):
            MultiLabelTrainingArguments(str(tmp_path), **{name: {"part": value} if name == "lr_factors" else value})


OTHER = {  # values that the Trainer would take
    "liger_kernel_config": {"rope": True},
    "length_column_name": "size",
    "label_names": ["classes"],
    "include_for_metrics": ["loss"],
    "label_smoothing_factor": 0.1,
    "optim": "sgd",
    "optim_args": "a=1",
    "optim_target_modules": "all",
    "neftune_noise_alpha": 5.0,
    "include_num_input_tokens_seen": "all",
    "train_sampling_strategy": "group_by_length",
    "resume_from_checkpoint": "somewhere",
    "fsdp": "full_shard",
    "deepspeed": {"a": 1},
    "parallelism_config": "x",
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_setting_that_means_nothing_here_is_refused_with_the_reason(name, tmp_path):
    allowed, reason = REFUSED[name]
    value = OTHER.get(name, not allowed[0])
    with pytest.raises(ValueError, match=f"`{name}` must stay .*{re.escape(reason)}"):
        MultiLabelTrainingArguments(str(tmp_path), **{name: value})
    for fine in allowed:
        MultiLabelTrainingArguments(str(tmp_path), **{name: fine})


@pytest.mark.parametrize(
    ("setting", "choice", "other"),
    [
        ({"lr_scheduler_type": "cosine"}, {"lr_schedule": "transformers"}, "step"),
        ({"warmup_steps": 10}, {"lr_schedule": "transformers"}, "step"),
        ({"lr_scheduler_kwargs": {"a": 1}}, {"lr_schedule": "transformers"}, "step"),
        ({"lr_step_epochs": [3.0]}, {"lr_schedule": "step"}, "one_cycle"),
        ({"lr_step_factor": 0.5}, {"lr_schedule": "step"}, "cosine"),
        ({"one_cycle_epochs": 80}, {"lr_schedule": "one_cycle"}, "step"),
        ({"warmup_epochs": 1}, {"lr_schedule": "cosine"}, "step"),
        ({"warmup_learning_rate": 0.1}, {"lr_schedule": "cosine"}, "one_cycle"),
        ({"momentum": 0.8}, {"optimizer": "sgd"}, "adam"),
    ],
)
def test_what_one_choice_alone_knows_is_refused_with_another(setting, choice, other, tmp_path):
    (name,), ((option, needed),) = setting, choice.items()
    with pytest.raises(ValueError, match=f"`{name}` belongs to `{option}: {needed}`, but that is {other}"):
        MultiLabelTrainingArguments(str(tmp_path), **setting, **{option: other})
    MultiLabelTrainingArguments(str(tmp_path), **setting, **choice)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("gradient_accumulation_steps", [-1, 0]),
        ("per_device_train_batch_size", [-3, 0]),
        ("per_device_eval_batch_size", [0]),
        ("max_steps", [0, -2]),
        ("num_train_epochs", [-1, *NOT_FINITE]),
        ("learning_rate", [-1e-3, *NOT_FINITE]),
        ("weight_decay", [-1.0, *NOT_FINITE]),
        ("max_grad_norm", [-1.0, math.nan]),
        ("lr_step_factor", [-1, 0, 1.5, *NOT_FINITE]),
        ("momentum", [-0.1, math.nan]),
        ("adam_beta1", [-0.1, 1.1, math.nan]),
        ("logging_steps", [-1, 0]),
        ("save_total_limit", [-1, 0]),
        ("seed", [-1]),
        ("dataloader_num_workers", [-2]),
        ("cpu_threads", [0]),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(name, values, tmp_path):
    for value in values:
        with pytest.raises(ValueError, match=f"`{name}` must"):
            MultiLabelTrainingArguments(str(tmp_path), **{name: value})


@pytest.mark.parametrize("metric", ["mAP", "accuracy", "maps", "eval_f1"])
def test_a_metric_that_is_not_measured_is_refused_before_the_training(metric, tmp_path):
    arguments = {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch"}
    with pytest.raises(ValueError, match="`metric_for_best_model` .* is not measured. "):
        MultiLabelTrainingArguments(str(tmp_path), metric_for_best_model=metric, **arguments).check_metric()
    for fine in ("map", "eval_map", "loss", "cf1_top3", "eval_photos_map"):
        MultiLabelTrainingArguments(str(tmp_path), metric_for_best_model=fine, **arguments).check_metric()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"log_level": "loud"}, "log_level"),
        ({"log_level_replica": 3}, "log_level_replica"),
        ({"accelerator_config": {"split": True}}, "accelerator_config"),
        ({"accelerator_config": {3: True}}, "accelerator_config"),
        ({"hub_strategy": {}}, ""),
    ],
)
def test_what_transformers_does_not_check_is_an_error_all_the_same(settings, name, tmp_path):
    with pytest.raises(ValueError, match=name):
        MultiLabelTrainingArguments(str(tmp_path), **settings)
