"""Recipes: a method, its data and its settings in one YAML file, checked before anything is loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..data.columns import are_captions
from ..data.files import replace_text
from ..hub.privacy import refuse_tokens
from ..hub.shipped import find_recipe
from ..objective import Objective, check_learns_from_captions, check_views
from ..registry import METHODS, lookup
from ..settings import check_keys, shown
from .content import SECTIONS, apply_overrides, find_recipe_file, read_content
from .data_part import DataPart, Splits
from .parts import ModelPart, ObjectivePart, TrainingPart

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from ..models.modeling_utils import MultiLabelPreTrainedModel
    from ..trainer.trainer import MultiLabelTrainer
    from ..trainer.training_args import MultiLabelTrainingArguments

DEFAULT_RECIPE = "sst/digit_scenes_30"


@dataclass(frozen=True)
class Recipe:
    """A method, and what each section says; each part can be used alone, too.

    name: file name without suffix, used for the output folder.
    """

    method: str
    data: DataPart
    model: ModelPart
    objective: ObjectivePart
    training: TrainingPart
    name: str = "recipe"

    # ---- reading and checking ----

    @classmethod
    def load(cls, path: str | Path = DEFAULT_RECIPE, overrides: list[str] | None = None) -> "Recipe":
        """Read a file, or a shipped recipe by its name.

        Args:
            path: a path, or a name such as `sst/coco2014_10`.
            overrides: texts `section.key=value`, where values are YAML; `section.key=` takes a setting out.
        """
        file = find_recipe_file(path)
        content = read_content(file)
        apply_overrides(content, overrides or [])
        shipped = find_recipe(f"{file.parent.name}/{file.stem}")
        is_shipped = shipped is not None and shipped.samefile(file)
        return cls.from_dict(content, name=f"{file.parent.name}-{file.stem}" if is_shipped else file.stem)

    @classmethod
    def from_dict(cls, content: dict[str, Any], name: str = "recipe") -> "Recipe":
        """Check `content` as far as possible without loading data or weights."""
        check_keys(content, ("method", *SECTIONS))
        refuse_tokens(content)
        for key in ("method", "data"):
            if key not in content:
                raise ValueError(f"The recipe has no `{key}`. It needs at least `method` and `data.name`.")
        method = content["method"]
        lookup(METHODS, method, "method")
        sections = {section: content.get(section) or {} for section in SECTIONS}
        for section, values in sections.items():
            if not isinstance(values, dict):
                raise ValueError(
                    f"Recipe section `{section}` must be a mapping of keys to values, got {shown(values)}."
                )
        data, objective = DataPart(sections["data"]), ObjectivePart(sections["objective"], method)
        recipe = cls(
            method=method,
            data=data,
            model=ModelPart(sections["model"], method, objective.config),
            objective=objective,
            training=TrainingPart(sections["training"]),
            name=name,
        )
        check_views(recipe.objective.config, recipe.data.config.further_views)
        if recipe.data.config.captions is not None:
            check_learns_from_captions(recipe.objective.objective_class)
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """The content of the file, without the defaults."""
        return {"method": self.method, **{section: getattr(self, section).settings for section in SECTIONS}}

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def save(self, path: str | Path) -> None:
        replace_text(path, self.to_yaml())

    def differences(self, other: "Recipe") -> dict[str, str]:
        """Settings that `other` has otherwise: from a name such as `training.seed` to what it is and was."""
        found = (
            {} if self.method == other.method else {"method": f"method is {self.method!r} and was {other.method!r}"}
        )
        for section in SECTIONS:
            ours, theirs = getattr(self, section).settings, getattr(other, section).settings
            for key in sorted(ours.keys() | theirs.keys()):
                if ours.get(key) != theirs.get(key):
                    name = f"{section}.{key}"
                    found[name] = f"{name} is {shown(ours.get(key))} and was {shown(theirs.get(key))}"
        return found

    # ---- building ----

    def build_arguments(self, output: str | Path) -> "MultiLabelTrainingArguments":
        """Arguments of a run whose results go to `output`."""
        return self.training.arguments(output, has_validation=self.data.config.validation != 0)

    def build_trainer(
        self,
        output: "str | Path | MultiLabelTrainingArguments",
        splits: Splits | None = None,
        *,
        model: "MultiLabelPreTrainedModel | None" = None,
        callbacks: "list[TrainerCallback] | None" = None,
    ) -> "MultiLabelTrainer":
        """Everything that a run needs, ready to train; random numbers start from its seed.

        Args:
            output: folder of the results, or what `build_arguments` has made of it.
            splits: by default those of the section `data`, loaded now.
            model: a finished one, for a trainer that only measures; no data are loaded then.
        """
        from transformers import set_seed

        from ..trainer.devices import workers_for
        from ..trainer.trainer import MultiLabelTrainer

        if not isinstance(output, str | Path):
            arguments = output
        elif model is not None:
            arguments = self.training.arguments_to_measure(output)
        else:
            arguments = self.build_arguments(output)
        if model is not None:
            return MultiLabelTrainer(model, arguments, Objective(None, model.config), callbacks=callbacks)
        splits = splits or self.data.load()
        set_seed(arguments.seed)
        config = self.model.config(splits.names)
        images = None
        if not are_captions(splits.train):
            images = self.data.images(splits.train, config, training=True, seed=arguments.seed)
        model = self.model.build(config, splits.known_labels, images, num_workers=workers_for(images, arguments))
        validation = None
        if splits.validation is not None:
            validation = self.data.images(splits.validation, config, training=False)
        objective = self.objective.build(config)
        return MultiLabelTrainer(
            model,
            arguments,
            objective,
            train_dataset=splits.train if images is None else images,
            eval_dataset=validation,
            callbacks=callbacks,
        )
