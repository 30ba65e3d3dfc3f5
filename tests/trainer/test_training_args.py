"""Settings that transformers checks for their type only."""

import math

import pytest

from hf_mlrpl import MultiLabelTrainingArguments

NOT_FINITE = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("gradient_accumulation_steps", [-1, 0]),
        ("per_device_train_batch_size", [-3, 0]),
        ("per_device_eval_batch_size", [0]),
        ("max_steps", [0, -2]),
        ("num_train_epochs", [-1, 0, *NOT_FINITE]),
        ("learning_rate", [-1e-3, *NOT_FINITE]),
        ("weight_decay", [-1.0, *NOT_FINITE]),
        ("max_grad_norm", [-1.0, math.nan]),
        ("lr_step_factor", [-1, 0, 1.5, *NOT_FINITE]),
        ("momentum", [-0.1, math.nan]),
        ("adam_beta1", [-0.1, 1.1, math.nan]),
        ("logging_steps", [-1, 0]),
        ("save_total_limit", [-1, 0]),
        ("seed", [-1]),
        ("dataloader_num_workers", [-1]),
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
