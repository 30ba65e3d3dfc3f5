"""Recipes: a method, its data and its settings in one YAML file, checked before anything is loaded."""

import dataclasses
import inspect
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import yaml
from huggingface_hub.errors import StrictDataclassError

from ..data.columns import FULL_LABELS, LABELS, SplitNotFound, label_matrix, label_names
from ..data.held_out import hold_out
from ..data.hiding import hide_labels
from ..data.protocols.hierarchy import read_hierarchy, with_ancestors
from ..data.tables.table_files import SUFFIXES as TABLE_SUFFIXES
from ..hub.privacy import refuse_tokens
from ..hub.shipped import recipe_files
from ..labels import describe_difference
from ..registry import DATASETS, METHODS, PROTOCOLS, VIEWS, load, lookup
from ..settings import check_keys, check_value, check_values, field_types, from_mapping, parse_yaml

if TYPE_CHECKING:
    from collections.abc import Callable

    from datasets import Dataset

    from ..data.images.torch_dataset import PartialLabelImages
    from ..data.images.views import View
    from ..models.configuration_utils import MultiLabelConfig
    from ..models.modeling_utils import MultiLabelPreTrainedModel
    from ..objective import Objective
    from ..trainer.training_args import MultiLabelTrainingArguments

DEFAULT_RECIPE = "sst/digit_scenes_10"
SECTIONS = ("data", "model", "objective", "training")
_NAMES_OF_A_BATCH = ("pixel_values", LABELS, FULL_LABELS, "index")
_PLAIN_VIEWS = {"stretch": "plain", "crop": "center_crop"}  # what `resize` of a model means


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Section `data`. Further keys go to the protocol and to the loader of the data set.

    name: a data set of `hf-mlrpl list`.
    protocol: rule that hides labels of training images, or "none".
    hierarchy: name of a shipped label hierarchy, or a JSON file, see `hf_mlrpl.data.protocols.hierarchy`: the labels
        above those of the data become labels, too.
    validation: part of the training images, in [0, 1), that is held out for model selection; or the name of a split of
        the data. These images keep the labels that the data came with, as in the literature; the test images are
        never used to select.
    validation_seed: by default all our runs hold out the same images. With a seed they are those of Cole et al. 2021,
        whose code has 1200.
    stratify: hold out the same share of the images that show each label.
    view: what happens to a training image, see `hf-mlrpl list`.
    further_views: other views of each training image, for methods that compare them: from the name that the method
        knows it by to a view.
    on_bad_image: "error" stops at an unreadable image, "skip" goes on without it and counts it: another one takes its
        place in training.
    draft: decode JPEG photos that are at least twice as large as needed at a half, a quarter or an eighth of their
        size, several times as fast. Their pixels change a little, so published recipes leave it out.
    """

    name: str
    protocol: str = "none"
    hierarchy: str | None = None
    validation: float | str = 0.0
    validation_seed: int | None = None
    stratify: bool = False
    view: str = "crop_flip"
    further_views: dict[str, str] = field(default_factory=dict)
    on_bad_image: Literal["error", "skip"] = "error"
    draft: bool = False

    def __post_init__(self):
        lookup(DATASETS, self.name, "data set")
        lookup(VIEWS, self.view, "view")
        for name, view in self.further_views.items():
            if not isinstance(name, str) or not name.isidentifier() or name in _NAMES_OF_A_BATCH:
                raise ValueError(
                    f"Recipe key `data.further_views` must map names such as `strong` to views, got {name!r}. "
                    f"{', '.join(_NAMES_OF_A_BATCH)} are taken."
                )
            lookup(VIEWS, view, f"view in `data.further_views.{name}`:")
        if self.protocol != "none":
            lookup(PROTOCOLS, self.protocol, "protocol")
        if self.hierarchy is not None:
            read_hierarchy(self.hierarchy)
        if not isinstance(self.validation, str) and not 0 <= self.validation < 1:
            raise ValueError(f"`data.validation` must lie in [0, 1), got {self.validation}. Ten percent is 0.1.")


@dataclass
class Splits:
    """Data of a run: `validation` and `test` are `None` where there are none."""

    train: "Dataset"
    validation: "Dataset | None"
    test: "Dataset | None"

    @property
    def names(self) -> list[str]:
        return label_names(self.train)

    @property
    def measured(self) -> "tuple[str, Dataset | None]":
        """What the final metrics come from: the test images, or the validation part where there are none."""
        return ("test", self.test) if self.test is not None else ("validation", self.validation)


@dataclass
class Recipe:
    """A checked recipe; the four sections keep what the file says, without the defaults.

    model: settings of the network, and two keys of the recipe alone: `pretrained`, whether the model gets weights
        (or from where), and `name`, a method whose network takes the place of the plain one under a loss.
    name: file name without suffix, used for the output folder.
    """

    method: str
    data: dict[str, Any]
    model: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    name: str = "recipe"

    # ---- reading and checking ----

    @classmethod
    def load(cls, path: str | Path = DEFAULT_RECIPE, overrides: list[str] | None = None) -> "Recipe":
        """Read a file, or a shipped recipe by its name.

        Args:
            path: a path, or a name such as `sst/coco2014_10`.
            overrides: texts `section.key=value`, where values are YAML; `section.key=` takes a setting out.
        """
        file = _find(path)
        content = parse_yaml(file.read_text(encoding="utf-8"), str(file))
        if not isinstance(content, dict):
            raise ValueError(f"{file} must be a mapping with the keys method, {', '.join(SECTIONS)}.")
        for override in overrides or []:
            _apply(content, override)
        shipped = recipe_files().get(f"{file.parent.name}/{file.stem}")
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
        lookup(METHODS, content["method"], "method")
        sections = {section: content.get(section) or {} for section in SECTIONS}
        for section, values in sections.items():
            if not isinstance(values, dict):
                raise ValueError(f"Recipe section `{section}` must be a mapping of keys to values, got {values!r}.")
        recipe = cls(method=content["method"], name=name, **sections)
        recipe._check()
        return recipe

    def _check(self) -> None:
        from ..objective import check_views

        self.protocol()
        settings = _model_settings(self._model_class().config_class)
        check_values(self.model, settings | {"pretrained": bool | str, "name": str}, "model")
        self.model_config(["label"])
        check_views(self.objective_config(), self.data_config().further_views)
        check_values(
            self.training, field_types(load(".trainer.training_args:MultiLabelTrainingArguments")), "training"
        )

    def to_dict(self) -> dict[str, Any]:
        return {"method": self.method, **{section: getattr(self, section) for section in SECTIONS}}

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def save(self, path: str | Path) -> None:
        Path(path).write_text(self.to_yaml(), encoding="utf-8")

    def differences(self, other: "Recipe") -> list[str]:
        """Settings that `other` has otherwise, as texts; those of `training` do not count."""
        found = [] if self.method == other.method else [f"method is {self.method!r} and was {other.method!r}"]
        for section in ("data", "model", "objective"):
            ours, theirs = getattr(self, section), getattr(other, section)
            for key in sorted(ours.keys() | theirs.keys()):
                if ours.get(key) != theirs.get(key):
                    found.append(f"{section}.{key} is {ours.get(key)!r} and was {theirs.get(key)!r}")
        return found

    def _split_data_section(self) -> tuple[DataConfig, dict[str, Any], dict[str, Any]]:
        """The section's own keys, those of the loader, and those of the protocol, which may be own keys as well."""
        if "name" not in self.data:
            raise ValueError(f"The recipe has no `data.name`. Available: {', '.join(DATASETS)}.")
        own = {f.name for f in dataclasses.fields(DataConfig)}
        config = from_mapping(DataConfig, {k: v for k, v in self.data.items() if k in own}, "data")
        protocol_keys: set[str] = set()
        if config.protocol != "none":
            protocol_keys = {f.name for f in dataclasses.fields(load(PROTOCOLS[config.protocol].target))}
        parameters = inspect.signature(load(DATASETS[config.name].target)).parameters
        loader_keys = parameters.keys() - {"split"}
        check_keys(self.data, own | protocol_keys | loader_keys, "data")
        protocol = {k: v for k, v in self.data.items() if k in protocol_keys}
        loader = {k: v for k, v in self.data.items() if k in loader_keys - own - protocol_keys}
        for key, value in loader.items():
            annotation = parameters[key].annotation
            check_value(value, Any if isinstance(annotation, str) else annotation, f"data.{key}")
        return config, loader, protocol

    # ---- building ----

    def data_config(self) -> DataConfig:
        return self._split_data_section()[0]

    def protocol(self) -> "Callable[..., np.ndarray] | None":
        """The rule that hides labels of training images, if any."""
        config, _, settings = self._split_data_section()
        if config.protocol == "none":
            return None
        return from_mapping(load(PROTOCOLS[config.protocol].target), settings, "data")

    def load_split(self, split: str) -> "Dataset":
        """The images and labels of a split as they come, with those of the hierarchy, nothing hidden."""
        config, loader, _ = self._split_data_section()
        function = load(DATASETS[config.name].target)
        parameters = inspect.signature(function).parameters.values()
        missing = [p.name for p in parameters if p.default is p.empty and p.name not in (*loader, "split")]
        if missing:
            names = ", ".join(f"`data.{name}`" for name in missing)
            raise ValueError(f"The data set {config.name!r} needs {names}: see `help(hf_mlrpl.{function.__name__})`.")
        dataset = function(**loader, split=split)
        return dataset if config.hierarchy is None else with_ancestors(dataset, read_hierarchy(config.hierarchy))

    def load_data(self) -> Splits:
        """Load, hide labels of the training images, and hold out the validation part."""
        config, rule = self.data_config(), self.protocol()
        images = self.load_split("train")
        train = images if rule is None else hide_labels(images, rule)
        validation = None
        if isinstance(config.validation, str):
            validation = self.load_split(config.validation)
        elif config.validation:
            num_validation = round(config.validation * len(images))
            if not 0 < num_validation < len(images):
                raise ValueError(
                    f"`data.validation` must leave images on both sides, but {config.validation} holds out "
                    f"{num_validation} of {len(images)}."
                )
            kept, held_out = hold_out(images, num_validation, seed=config.validation_seed, stratify=config.stratify)
            train, validation = train.select(kept), images.select(held_out)  # with the labels that they came with
        try:
            test = self.load_split("test")
        except SplitNotFound:
            test = None
        for kind, other in (("validation", validation), ("test", test)):
            if other is not None and label_names(other) != label_names(train):
                raise ValueError(
                    f"Training and {kind} images have different labels: "
                    f"{describe_difference(label_names(train), label_names(other), 'training', kind)}. Give both the "
                    "same label set and order."
                )
        return Splits(train, validation, test)

    def _model_class(self) -> Any:
        """The network of the method that `model.name` names, by default the recipe's own."""
        own = METHODS[self.method]
        other = lookup(METHODS, self.model.get("name", self.method), "method")
        if other.model != own.model and not own.trains_any_model:
            raise ValueError(
                f"`model.name` must not be {self.model['name']!r}: {self.method} needs its own network. Methods that "
                "are only a loss train the network of any other."
            )
        return load(other.model)

    def model_config(self, names: list[str]) -> "MultiLabelConfig":
        """The config of a model for the labels `names`."""
        config_class = self._model_class().config_class
        settings = {key: value for key, value in self.model.items() if key not in ("pretrained", "name")}
        labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
        try:
            return config_class(**settings, **labels)
        except StrictDataclassError as error:
            raise ValueError(f"Recipe section `model`: {str(error).splitlines()[-1].strip()}") from error

    def build_model(
        self, names: list[str], train_labels: np.ndarray, train: "Dataset | None" = None
    ) -> "MultiLabelPreTrainedModel":
        """A model for `names`, with its pretrained weights and its priors from the known training labels.

        Args:
            train: the training images, which few priors come from.
        """
        model = self._model_class()(self.model_config(names))
        pretrained = self.model.get("pretrained", True)
        if pretrained:
            model.load_pretrained(None if pretrained is True else pretrained)
        images = None
        if train is not None:
            from ..data.images.training_images import TrainingImages

            workers = self.training.get("dataloader_num_workers", 0)
            images = TrainingImages(
                self.build_images(train, model.config, training=False),
                normalize=model.normalize,
                batch_size=64,
                num_workers=workers,
                show_progress=True,
            )
        model.set_priors(train_labels, images)
        return model

    def objective_config(self) -> Any:
        return from_mapping(load(METHODS[self.method].objective).config_class, self.objective, "objective")

    def build_objective(self, model_config: Any) -> "Objective":
        return load(METHODS[self.method].objective)(self.objective_config(), model_config)

    def build_arguments(self, output_dir: str) -> "MultiLabelTrainingArguments":
        settings = {**self.training, "output_dir": output_dir}
        if self.data_config().validation == 0:
            settings.setdefault("eval_strategy", "no")
            for key, off in {
                "eval_strategy": "no",
                "choose_thresholds": False,
                "load_best_model_at_end": False,
            }.items():
                if settings.get(key, off) != off:
                    raise ValueError(f"`training.{key}` needs validation images: set `data.validation`, such as 0.1.")
        return load(".trainer.training_args:MultiLabelTrainingArguments")(**settings)

    def build_images(
        self, dataset: "Dataset", model_config: Any, *, training: bool, seed: int = 0
    ) -> "PartialLabelImages":
        """Images of a split as the model sees them; random views only where `training`."""
        from ..data.images.torch_dataset import PartialLabelImages

        config = self.data_config()
        size = model_config.height_and_width

        @cache
        def view(name: str) -> "View":
            return load(VIEWS[name].target)(size)

        plain = view(_PLAIN_VIEWS[model_config.resize])
        further = config.further_views if training else {}
        replaces = training and config.on_bad_image == "skip"
        return PartialLabelImages(
            dataset,
            view(config.view) if training else plain,
            plain_view=plain,
            further_views={name: view(its_view) for name, its_view in further.items()},
            image_size=size,
            seed=seed,
            on_bad_image="replace" if replaces else config.on_bad_image,
            draft=config.draft,
            with_full_labels=training,
        )


def known_labels(dataset: "Dataset") -> np.ndarray:
    """`(num_images, num_labels)` in {-1, 0, +1}: what training may see."""
    return label_matrix(dataset, LABELS)


def _model_settings(config_class: type) -> dict[str, Any]:
    """Types of the settings of a model, without those of transformers."""
    from transformers import PreTrainedConfig

    inherited = field_types(PreTrainedConfig)
    return {name: kind for name, kind in field_types(config_class).items() if name not in inherited}


def _find(path: str | Path) -> Path:
    shipped = recipe_files()
    found = Path(path) if Path(path).is_file() else shipped.get(Path(path).as_posix().removesuffix(".yaml"))
    if found is None:
        near = [str(file) for file in Path(path).parent.glob("*.yaml")]
        close = get_close_matches(str(path), [*near, *shipped], n=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise FileNotFoundError(
            f"There is no recipe {str(path)!r}, neither as a file nor among the shipped ones. {hint}"
            "`hf-mlrpl list recipes` shows those."
        )
    if found.suffix.lower() in TABLE_SUFFIXES:
        raise ValueError(
            f"{path} is a table, not a recipe. `hf-mlrpl data table path={path}` shows what is in it; a recipe names "
            "it as `data.path`."
        )
    return found


def _apply(content: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    parts = key.split(".")
    if not separator or not all(parts):
        raise ValueError(f"An override must look like section.key=value, got {override!r}.")
    target = content
    for part in parts[:-1]:
        if target.get(part) is None:  # missing, or a section without keys
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            raise ValueError(f"The override {override!r} needs `{part}` to be a section, but it is a value.")
    if value:
        target[parts[-1]] = parse_yaml(value, f"The override {override!r}")
    else:
        target.pop(parts[-1], None)
