"""Section `data` of a recipe: which images are loaded, which labels are hidden, and what a model sees of an image."""

import dataclasses
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..data.columns import (
    FULL_LABELS,
    IMAGE_ID,
    LABELS,
    SplitNotFound,
    are_captions,
    label_matrix,
    label_names,
)
from ..data.held_out import hold_out
from ..data.hiding import hide_labels
from ..data.protocols.hierarchy import read_hierarchy, with_ancestors
from ..labels import POSITIVE, UNKNOWN, LabelSummary, describe_difference, summarize_labels
from ..registry import DATASETS, PROTOCOLS, VIEWS, load, lookup
from ..settings import check_keys, check_value, from_mapping

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from datasets import Dataset

    from ..data.images.torch_dataset import PartialLabelImages
    from ..models.configuration_utils import MultiLabelConfig

_NAMES_OF_A_BATCH = ("pixel_values", "input_ids", LABELS, FULL_LABELS, "index")
_OF_TRAINING_IMAGES = ("protocol", "hierarchy", "view", "further_views", "drop_unlabelled", "drop_empty")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The section's own keys. Further ones go to the protocol and to the loader of the data set.

    name: a data set of `hf-mlrpl list`.
    protocol: rule that hides labels of training images, or "none". Its settings are keys of this section, too; `seed`
        is always that of the rule.
    hierarchy: name of a shipped label hierarchy, or a JSON file, see `hf_mlrpl.data.protocols.hierarchy`: the labels
        above those of the data become labels, too.
    validation: part of the training images, in [0, 1), that is held out for model selection; or the name of a split of
        the data. These images keep the labels that the data came with, as in the literature; the test images are
        never used to select, unless `model_selection` says so.
    model_selection: "held_out" images select, or "test_as_published": with `validation: test`, as in most papers, the
        test images choose epoch and thresholds, and the metrics on them are too good. Log, card and tables say so.
    validation_seed: by default all our runs hold out the same images. With a seed they are those of Cole et al. 2021,
        whose code has 1200.
    stratify: hold out the same share of the images that show each label.
    drop_unlabelled: leave out the training images of which no label stays known.
    drop_empty: leave out the images that show none of the labels, those for training after the labels are hidden: the
        known ones are drawn as if they were there, where `annotated_only` of COCO leaves them out before.
    view: what happens to a training image, see `hf-mlrpl list`.
    further_views: other views of each training image, for methods that compare them: from the name that the method
        knows it by to a view.
    captions: a file of captions to learn from in the place of the training images, see `load_captions`; the method
        must be able to. Only `validation` takes some of the training images then.
    synonyms, caption_templates: further names of the labels in captions, and captions of each label, see there.
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
    model_selection: Literal["held_out", "test_as_published"] = "held_out"
    drop_unlabelled: bool = False
    drop_empty: bool = False
    view: str = "crop_flip"
    further_views: dict[str, str] = field(default_factory=dict)
    captions: str | None = None
    synonyms: str | dict[str, list[str]] | None = None
    caption_templates: list[str] = field(default_factory=list)
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
        if self.validation == "train":
            raise ValueError(
                "`data.validation` must not be train: a model has seen these images, and what they select suits them "
                "alone. Hold out a part of them, `data.validation=0.1`."
            )
        if (self.validation == "test") != self.selects_on_test:
            raise ValueError(
                f"`data.validation` is {self.validation} and `data.model_selection` {self.model_selection}: the test "
                "images select nothing, unless both say so, `data.validation=test "
                "data.model_selection=test_as_published`. Hold out a part of the training images to select, "
                "`data.validation=0.1`."
            )

    @property
    def selects_on_test(self) -> bool:
        """Whether the test images select epoch or thresholds."""
        return self.model_selection == "test_as_published"


@dataclass
class Splits:
    """Images and labels of a run: `validation` and `test` are `None` where there are none; `train` may be captions."""

    train: "Dataset"
    validation: "Dataset | None" = None
    test: "Dataset | None" = None

    @cached_property
    def names(self) -> list[str]:
        """The label names."""
        return label_names(self.train)

    @cached_property
    def known_labels(self) -> np.ndarray:
        """The labels that training may see, `(num_images, num_labels)` in {-1, 0, +1}."""
        return label_matrix(self.train)

    @cached_property
    def summary(self) -> LabelSummary:
        """Counts of the known labels of the training images or captions, and warnings about them."""
        return summarize_labels(self.known_labels, self.names, "captions" if are_captions(self.train) else "images")

    @property
    def measured(self) -> "tuple[str, Dataset | None]":
        """Name and images of what the final metrics come from: the test images, or else the validation part."""
        return ("test", self.test) if self.test is not None else ("validation", self.validation)


class DataPart:
    """Section `data`, read and checked, before anything is loaded.

    settings: what the file says.
    config: the section's own keys, with their defaults.
    protocol: the rule that hides labels of training images, if any; `protocol_settings` are the keys that it has.
    """

    def __init__(self, settings: Mapping[str, Any]):
        self.settings = dict(settings)
        if "name" not in settings:
            raise ValueError(f"The recipe has no `data.name`. Available: {', '.join(DATASETS)}.")
        own = {f.name for f in dataclasses.fields(DataConfig)}
        self.config: DataConfig = from_mapping(DataConfig, _only(settings, own), "data")
        rule = None if self.config.protocol == "none" else load(PROTOCOLS[self.config.protocol].target)
        of_rule = set() if rule is None else {f.name for f in dataclasses.fields(rule)}
        self._loader = load(DATASETS[self.config.name].target)
        parameters = inspect.signature(self._loader).parameters
        of_loader = parameters.keys() - own - of_rule - {"split", "seed"}  # `seed` is that of the rule, or nothing
        self._check_seed(of_rule, of_loader)
        self._check_captions()
        check_keys(settings, own | of_rule | of_loader, "Recipe section `data`")
        self.protocol_settings = _only(settings, of_rule)
        self.protocol: Callable[..., np.ndarray] | None = rule and from_mapping(rule, self.protocol_settings, "data")
        self._loader_settings = _only(settings, of_loader)
        for key, value in self._loader_settings.items():
            annotation = parameters[key].annotation
            check_value(value, Any if isinstance(annotation, str) else annotation, f"data.{key}")

    def _check_seed(self, of_rule: set[str], of_loader: set[str]) -> None:
        """Point those who seed something else than the hiding of labels to the right key."""
        if "seed" in self.settings and "seed" not in of_rule:
            seeds = sorted({"validation_seed", *(key for key in of_loader if key.endswith("_seed"))})
            raise ValueError(
                "Recipe section `data` has no key `seed` here: it is that of a protocol that hides labels at random, "
                f"and `protocol: {self.config.protocol}` does not. Other seeds: "
                f"{', '.join(f'`data.{key}`' for key in seeds)}, `training.seed`."
            )

    def _check_captions(self) -> None:
        """Raise where settings of training images are given, and there are captions in their place."""
        given = [key for key in _OF_TRAINING_IMAGES if key in self.settings]
        if self.config.captions is not None and given:
            raise ValueError(
                f"`data.{given[0]}` is about training images, and `data.captions` takes their place: leave out one."
            )

    @property
    def hidden(self) -> str:
        """The way in which labels of training images are hidden, such as "random_known, proportion 0.1"."""
        if self.protocol is None:
            return "no labels hidden"
        return ", ".join(filter(None, [self.config.protocol, str(self.protocol)]))

    @property
    def known_part(self) -> tuple[str, float] | None:
        """The setting that says which part of the labels stays known, and its value, where the protocol has one."""
        name = getattr(self.protocol, "part_setting", None)
        return name and (name, getattr(self.protocol, name))

    def with_boxes(self) -> "DataPart":
        """The same with the boxes of objects, where the data set has them."""
        if "boxes" not in inspect.signature(self._loader).parameters:
            able = [name for name in DATASETS if "boxes" in inspect.signature(load(DATASETS[name].target)).parameters]
            raise ValueError(
                f"The data set {self.config.name!r} does not say where its objects are. Those of {', '.join(able)} do."
            )
        return DataPart({**self.settings, "boxes": True})

    # ---- loading ----

    def missing_settings(self) -> list[str]:
        """Settings that the loader needs and that the recipe leaves to the user, such as `path`."""
        parameters = inspect.signature(self._loader).parameters.values()
        given = (*self._loader_settings, "split")
        return [p.name for p in parameters if p.default is p.empty and p.name not in given]

    def load_split(self, split: str) -> "Dataset":
        """Images and labels of a split as they come, with the labels of the hierarchy, nothing hidden."""
        if missing := self.missing_settings():
            names = ", ".join(f"`data.{name}`" for name in missing)
            raise ValueError(
                f"The data set {self.config.name!r} needs {names}: see `help(hf_mlrpl.{self._loader.__name__})`."
            )
        dataset = self._loader(**self._loader_settings, split=split)
        hierarchy = self.config.hierarchy
        return dataset if hierarchy is None else with_ancestors(dataset, read_hierarchy(hierarchy))

    def load(self) -> Splits:
        """Load all images, hide labels of the training images, and hold out the validation part.

        With `captions`, they are what there is to train on.
        """
        if self.config.captions is None:
            train, validation = self._load_images()
        else:
            train, validation = None, self._load_validation()
        try:
            test = self.load_split("test")
        except SplitNotFound:
            test = None
        if train is None:
            train = self._load_captions(validation if test is None else test)
        splits = self._without_empty(Splits(train, validation, test))
        for kind, other in (("validation", validation), ("test", test)):
            if other is not None and label_names(other) != splits.names:
                raise ValueError(
                    f"Training and {kind} images have different labels: "
                    f"{describe_difference(splits.names, label_names(other), 'training', kind)}. Give both the same "
                    "label set and order."
                )
        self._check_selection(splits)
        return splits

    def _load_images(self) -> "tuple[Dataset, Dataset | None]":
        """Training images with the labels that stay known, and validation images."""
        for key in ("synonyms", "caption_templates"):
            if key in self.settings:
                raise ValueError(
                    f"`data.{key}` says how captions are read, but there are none: name their file, `data.captions`, "
                    "or leave it out to train on images."
                )
        images = self.load_split("train")
        return self._hold_out(images, images if self.protocol is None else hide_labels(images, self.protocol))

    def _load_validation(self) -> "Dataset | None":
        """The validation images, where no others are trained on."""
        part = self.config.validation
        if isinstance(part, str):
            return self.load_split(part)
        if not part:
            return None
        images = self.load_split("train")
        return self._hold_out(images, images)[1]

    def _load_captions(self, images: "Dataset | None") -> "Dataset":
        """The captions, for the labels of `images`."""
        from ..data.captions.load_captions import load_captions

        config = self.config
        if images is None or config.captions is None:
            raise ValueError(
                "`data.captions` needs images that say which labels there are, and the data have no test images: hold "
                "some of the training images out, `data.validation=0.1`."
            )
        return load_captions(config.captions, label_names(images), config.synonyms, config.caption_templates)

    def _without_empty(self, splits: Splits) -> Splits:
        """The images that stay with `drop_empty` and `drop_unlabelled`."""
        config, train = self.config, splits.train
        if config.drop_empty:
            truth = FULL_LABELS if FULL_LABELS in train.column_names else LABELS
            train = _showing(train, label_matrix(train, truth) == POSITIVE, "show none of the labels")
            others = [
                part and _showing(part, label_matrix(part) == POSITIVE, "show none of the labels")
                for part in (splits.validation, splits.test)
            ]
            splits = Splits(train, *others)
        if config.drop_unlabelled:
            splits = replace(splits, train=_showing(train, label_matrix(train) != UNKNOWN, "have no known label"))
        return splits

    def _check_selection(self, splits: Splits) -> None:
        """Raise where the images that select are test images by another name."""
        if self.config.selects_on_test or splits.validation is None or splits.test is None:
            return
        shared = set(splits.validation[IMAGE_ID]) & set(splits.test[IMAGE_ID])
        if shared and isinstance(self.config.validation, str):
            raise ValueError(
                f"{len(shared)} of the {len(splits.validation)} images of `data.validation: {self.config.validation}` "
                f"are test images, such as {min(shared)}, and the test images select nothing. Hold out a part of the "
                "training images, `data.validation=0.1`."
            )

    def _hold_out(self, images: "Dataset", partial: "Dataset") -> "tuple[Dataset, Dataset | None]":
        """Training images with `partial` labels, and validation images with those that `images` came with."""
        part = self.config.validation
        if isinstance(part, str):
            return partial, self.load_split(part)
        if not part:
            return partial, None
        count = round(part * len(images))
        if not 0 < count < len(images):
            raise ValueError(
                f"`data.validation` must leave images on both sides, but {part} holds out {count} of {len(images)}."
            )
        kept, held_out = hold_out(images, count, seed=self.config.validation_seed, stratify=self.config.stratify)
        return partial.select(kept), images.select(held_out)

    def images(
        self, dataset: "Dataset", model_config: "MultiLabelConfig", *, training: bool, seed: int = 0
    ) -> "PartialLabelImages":
        """Images of a split as a model sees them; random views only where `training`."""
        from ..trainer.images import prepare_images

        return prepare_images(
            dataset,
            model_config,
            view=self.config.view if training else None,
            further_views=self.config.further_views if training else None,
            seed=seed,
            on_bad_image=self.config.on_bad_image,
            draft=self.config.draft,
        )


def _showing(dataset: "Dataset", counted: np.ndarray, fault: str) -> "Dataset":
    """The images with at least one label that counts; says how many are left out because they `fault`."""
    kept = np.asarray(counted.any(axis=1))
    if kept.all():
        return dataset
    if not kept.any():
        raise ValueError(f"All {len(kept)} images {fault}, so none is left.")
    logger.warning(f"{(~kept).sum()} of {len(kept)} images {fault} and are left out.")
    return dataset.select(np.flatnonzero(kept))


def _only(settings: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key in keys}
