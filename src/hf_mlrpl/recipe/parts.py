"""Sections `model`, `objective` and `training` of a recipe, read and checked before anything is loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from huggingface_hub.errors import StrictDataclassError

from ..objective import check_network
from ..ranges import check_ranges
from ..registry import METHODS, load, lookup
from ..settings import check_values, field_types, from_mapping
from ..trainer.argument_checks import RANGES

if TYPE_CHECKING:
    from ..data.images.torch_dataset import PartialLabelImages
    from ..models.configuration_utils import MultiLabelConfig
    from ..models.modeling_utils import MultiLabelPreTrainedModel
    from ..objective import Objective
    from ..trainer.training_args import MultiLabelTrainingArguments

_ONLY_MEASURED = {  # nothing is trained, selected or logged
    "report_to": "none",
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "choose_thresholds": False,
    "ema_decay": None,
    "store_features": False,
    "views_per_image": None,
}
_ALONE = {  # trained for its scores alone
    "report_to": "none",
    "eval_strategy": "no",
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "choose_thresholds": False,
    "push_to_hub": False,
}


class ModelPart:
    """The network of a method.

    settings: those of the network, and two keys of a recipe alone. `pretrained` is whether the model gets weights, or
        from where: a tagger, see `models.warm_start`, or what `load_published` of the network takes. `name` is a
        method whose network takes the place of the method's own.
    objective: config of what trains it.
    """

    def __init__(self, settings: Mapping[str, Any], method: str, objective: Any = None):
        self.settings = dict(settings)
        name = settings.get("name", method)
        own, other = METHODS[method], lookup(METHODS, name, "method")
        self.model_class = load(other.model)
        if other.model != own.model and not own.trains_any_model:
            refusal = (
                f"`model.name` must not be {name!r}: {method} needs its own network. Methods that are only a loss "
                "train the network of any other."
            )
            check_network(objective, self.model_class.config_class.for_labels([]), refusal)
        kinds = self.model_class.config_class.own_settings()
        self._checked = check_values(settings, kinds | {"pretrained": bool | str, "name": str}, "model")
        check_ranges(self.model_class.config_class, self._checked, "model.")
        self.config([])

    def config(self, names: list[str]) -> "MultiLabelConfig":
        """The config of a model for the labels `names`."""
        settings = {key: value for key, value in self._checked.items() if key not in ("pretrained", "name")}
        try:
            return self.model_class.config_class.for_labels(names, **settings)
        except StrictDataclassError as error:
            raise ValueError(f"Recipe section `model`: {str(error).splitlines()[-1].strip()}") from error

    def build(
        self,
        config: "MultiLabelConfig",
        labels: np.ndarray,
        images: "PartialLabelImages | None" = None,
        num_workers: int = 0,
    ) -> "MultiLabelPreTrainedModel":
        """A model with its pretrained weights and its priors, see `for_training` of the models."""
        pretrained = self.settings.get("pretrained", True)
        return self.model_class.for_training(config, labels, images, pretrained=pretrained, num_workers=num_workers)


class ObjectivePart:
    """Settings of what a method minimises.

    config: all of them, with their defaults.
    """

    def __init__(self, settings: Mapping[str, Any], method: str):
        self.settings = dict(settings)
        self.objective_class = load(METHODS[method].objective)
        self.config = from_mapping(self.objective_class.config_class, settings, "objective")

    def build(self, model_config: "MultiLabelConfig") -> "Objective":
        return self.objective_class(self.config, model_config)


class TrainingPart:
    """Settings of the trainer."""

    def __init__(self, settings: Mapping[str, Any]):
        self.settings = dict(settings)
        self._arguments_class = load(".trainer.training_args:MultiLabelTrainingArguments")
        check_ranges(self._arguments_class, self._values, "training.", RANGES)

    @property
    def _values(self) -> dict[str, Any]:
        """The settings as their types want them."""
        return check_values(self.settings, field_types(self._arguments_class), "training")

    def arguments(self, output: str | Path, *, has_validation: bool = True) -> "MultiLabelTrainingArguments":
        """Arguments of a run whose results go to `output`."""
        settings = {**self._values, "output_dir": str(output)}
        if not has_validation:
            settings.setdefault("eval_strategy", "no")
            needs = {"eval_strategy": "no", "choose_thresholds": False, "load_best_model_at_end": False}
            for key, off in needs.items():
                if settings.get(key, off) != off:
                    raise ValueError(f"`training.{key}` needs validation images: set `data.validation`, such as 0.1.")
        return self._arguments_class(**settings)

    def arguments_alone(self, output: str | Path) -> "MultiLabelTrainingArguments":
        """Arguments of a run of which only the model counts, without validation images."""
        return self._arguments_class(**{**self._values, **_ALONE, "output_dir": str(output)})

    def arguments_to_measure(self, output: str | Path) -> "MultiLabelTrainingArguments":
        """Arguments of a trainer that measures a finished model."""
        return self._arguments_class(**{**self._values, **_ONLY_MEASURED, "output_dir": str(output)})
