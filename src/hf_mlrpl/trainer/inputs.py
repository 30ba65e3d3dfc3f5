"""Checks of the arguments and the objective of a trainer, before the training; what is left out is completed."""

import copy
import dataclasses
from typing import Any

from transformers.trainer_utils import IntervalStrategy, SaveStrategy
from transformers.utils import logging

from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import Objective, check_network
from ..registry import METHODS, PACKAGE, load, lookup
from .training_args import MultiLabelTrainingArguments

logger = logging.get_logger(__name__)

VALIDATION = "validation"  # among several data sets to evaluate on, the one that selects


def checked_arguments(args: Any, eval_dataset: Any) -> MultiLabelTrainingArguments:
    """A copy of `args` that fits what there is to evaluate on.

    Without an `eval_dataset`, nothing is evaluated during the training. Of several ones in a dictionary,
    `metric_for_best_model` means that of `selecting_part`.
    """
    if not isinstance(args, MultiLabelTrainingArguments):
        raise TypeError(
            f"`args` must be `MultiLabelTrainingArguments`, which have all settings of `TrainingArguments` and those "
            f"of this trainer, got {type(args).__name__}."
        )
    args = copy.copy(args)
    if eval_dataset is None:
        if args.choose_thresholds or args.load_best_model_at_end:
            setting = "choose_thresholds" if args.choose_thresholds else "load_best_model_at_end"
            raise ValueError(
                f"`{setting}` needs validation images: give an `eval_dataset`, in a recipe `data.validation`."
            )
        if args.eval_strategy == IntervalStrategy.EPOCH:  # our default
            logger.info("There is no `eval_dataset`, so nothing is evaluated during the training.")
            args.eval_strategy = IntervalStrategy.NO
    elif isinstance(eval_dataset, dict):
        metric = (args.metric_for_best_model or "").removeprefix("eval_")
        selects = args.load_best_model_at_end or args.save_strategy == SaveStrategy.BEST
        if metric and not any(metric.startswith(f"{part}_") for part in eval_dataset):
            part = selecting_part(eval_dataset, "metric_for_best_model") if selects else main_part(eval_dataset)
            args.metric_for_best_model = None if part is None else f"{part}_{metric}"
        if args.choose_thresholds:
            selecting_part(eval_dataset, "choose_thresholds")
    return args


def selecting_part(parts: dict[str, Any], setting: str) -> str:
    """The data set of several ones that models and thresholds are chosen with: "validation", or the only one.

    Args:
        setting: what asks for it, for the error where there is none.
    """
    part = main_part(parts)
    if part is None:
        raise ValueError(
            f"`{setting}` needs one data set to choose with, but `eval_dataset` has {', '.join(map(repr, parts))}. "
            f"Call one of them {VALIDATION!r}."
        )
    return part


def main_part(parts: dict[str, Any]) -> str | None:
    """The data set of several ones that is called "validation", or the only one; `None` where there is no such."""
    return VALIDATION if VALIDATION in parts else next(iter(parts)) if len(parts) == 1 else None


def make_objective(objective: Any, model: Any) -> Objective:
    """The objective that is meant, which fits `model`.

    Args:
        objective: the name of a method, with its default settings; the config of an objective; or an objective.
    """
    if isinstance(objective, Objective):
        _check_fits(type(objective), objective.config, model)
    else:
        if isinstance(objective, str):
            objective_class = load(lookup(METHODS, objective, "method").objective)
            config = _default_config(objective, objective_class.config_class)
        else:
            objective_class, config = _class_of_config(objective), objective
        _check_fits(objective_class, config, model)
        objective = objective_class(config, model.config)
    if parameters := [name for name, _ in objective.named_parameters()]:
        raise ValueError(
            f"An objective must not have parameters, got {', '.join(parameters)}. DDP would not average them: "
            "move them to the model."
        )
    return objective


def method_of(objective: Objective, model: Any) -> str | None:
    """The method that has this objective; of several ones, that of the network of `model`."""
    names = _methods_of(type(objective))
    return next((name for name in names if type(model) is load(METHODS[name].model)), next(iter(names), None))


def _methods_of(objective_class: type) -> list[str]:
    target = f"{objective_class.__module__}:{objective_class.__name__}"
    return [name for name, spec in METHODS.items() if target in (spec.objective, PACKAGE + spec.objective)]


def _default_config(method: str, config_class: type) -> Any:
    required = [
        field.name
        for field in dataclasses.fields(config_class)  # type: ignore[arg-type]
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if required:
        settings = ", ".join(f"{name}=..." for name in required)
        raise ValueError(
            f"The method {method!r} has no default for {', '.join(f'`{name}`' for name in required)}: give "
            f"`objective={config_class.__name__}({settings})`."
        )
    return config_class()


def _class_of_config(config: Any) -> type[Objective]:
    classes = {load(spec.objective) for spec in METHODS.values()}
    found = [cls.__name__ for cls in classes if cls.config_class is type(config)]
    if len(found) > 1:
        raise TypeError(
            f"{type(config).__name__} belongs to {' and '.join(sorted(found))}. Give the objective itself, such as "
            f"`{found[0]}(config, model.config)`."
        )
    if not found:
        raise TypeError(
            "`objective` must be the name of a method, such as 'sst', the config of an objective, or an objective, "
            f"got {config!r}."
        )
    return next(cls for cls in classes if cls.__name__ == found[0])


def _check_fits(objective_class: type[Objective], config: Any, model: Any) -> None:
    """Raise `ValueError` if the objective needs another network."""
    if not isinstance(model, MultiLabelPreTrainedModel):
        raise TypeError(
            f"`model` must be a model of this library, such as `SstForMultiLabelClassification`, got "
            f"{type(model).__name__}."
        )
    specs = [METHODS[name] for name in _methods_of(objective_class)]
    if not specs or any(spec.trains_any_model for spec in specs):
        return
    needed = [load(spec.model) for spec in specs]
    if not isinstance(model, tuple(needed)):
        anything = [name for name, spec in METHODS.items() if spec.trains_any_model]
        refusal = (
            f"{objective_class.__name__} trains a {needed[0].__name__}, got a {type(model).__name__}. Make one with "
            f"`{needed[0].__name__}.for_dataset(...)`, or choose an objective that trains any network: "
            f"{', '.join(anything)}."
        )
        check_network(config, model.config, refusal)
