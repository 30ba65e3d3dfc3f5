"""Photos of a review: their labels, their scores, and whether the model has learned from them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset

    from ..models.modeling_utils import MultiLabelPreTrainedModel
    from ..recipe.document import Recipe

PATHS = ("path", "dataset", "image_folder")  # settings of the data that may be relative to the current folder
SHARED = ("view", "further_views", "draft")  # settings of the run's data that are those of its network


@dataclass(frozen=True)
class Photos:
    """The training and validation images of a review, one part after the other.

    recipe: its section `data` names them; the others are those of the run, where it has any.
    """

    parts: "dict[str, Dataset]"
    recipe: "Recipe"

    @cached_property
    def labels(self) -> np.ndarray:
        """`(num_images, num_labels)` in {-1, 0, +1}."""
        from ..data.columns import label_matrix

        return np.concatenate([label_matrix(part) for part in self.parts.values()])

    @cached_property
    def names(self) -> list[str]:
        from ..data.columns import label_names

        return label_names(next(iter(self.parts.values())))

    @cached_property
    def files(self) -> list[str]:
        """The path of each image, or its id."""
        from ..data.columns import image_files

        return [file for part in self.parts.values() for file in image_files(part)]

    @cached_property
    def ids(self) -> list[str]:
        from ..data.columns import IMAGE_ID

        return [image_id for part in self.parts.values() for image_id in part[IMAGE_ID]]

    @cached_property
    def part_of(self) -> list[str]:
        return [name for name, part in self.parts.items() for _ in range(len(part))]

    def file(self, row: int, folder: Path) -> str:
        """The file of an image; one that is in the data set itself is written into `folder`."""
        from ..data.images.photos import open_image

        if Path(self.files[row]).is_file():
            return self.files[row]
        folder.mkdir(exist_ok=True)
        file = folder / f"{row:06d}.png"
        open_image(self.stored([row])[0], name=self.ids[row]).save(file)
        return str(file.absolute())

    def stored(self, rows: list[int]) -> list[Any]:
        """The images of these rows, undecoded."""
        from datasets import Image, concatenate_datasets

        from ..data.columns import IMAGE, keep_columns

        joined = concatenate_datasets([keep_columns(part, [IMAGE]) for part in self.parts.values()])
        return joined.select(rows).cast_column(IMAGE, Image(decode=False))[IMAGE]


def load_photos(source: str | None, overrides: list[str], run: "Recipe | None") -> tuple[Photos, dict[str, Any]]:
    """The photos that were asked for, and the settings of the data that they come from.

    Args:
        source: a file, folder, data set or recipe, as `hf-mlrpl data` takes it; by default the data of the run.
        run: the recipe of the run, where it has one.
    """
    from ..recipe.document import Recipe
    from .data import find_recipe_of_data

    if source is not None and "=" in source and not Path(source).is_file():
        overrides, source = [source, *overrides], None
    if source is None and run is None:
        raise ValueError("The checkpoint has no recipe.yaml, which would tell its data: name a table or folder.")
    if source is None and run is not None:
        prefixed = [text if text.startswith("data.") else f"data.{text}" for text in overrides]
        recipe = Recipe.from_dict(_overridden(run.to_dict(), prefixed), run.name)
    else:
        recipe = find_recipe_of_data(source, overrides)
        if run is not None:
            own = {key: value for key, value in run.data.settings.items() if key in SHARED}
            recipe = Recipe.from_dict({**run.to_dict(), "data": own | recipe.data.settings}, run.name)
    settings = {key: _absolute(value) if key in PATHS else value for key, value in recipe.data.settings.items()}
    return load_parts(recipe), settings


def _absolute(value: Any) -> Any:
    return str(Path(value).absolute()) if isinstance(value, str) and Path(value).exists() else value


def load_parts(recipe: "Recipe") -> Photos:
    if recipe.data.config.captions is not None:
        raise ValueError(
            "The run learned from captions, and a review is about photos: name photos with their labels, such as "
            "photos/labels.csv, or take `data.captions` and what belongs to it out."
        )
    splits = recipe.data.load()
    parts = {"train": splits.train, "validation": splits.validation}
    return Photos({name: part for name, part in parts.items() if part is not None}, recipe)


def _overridden(content: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    from ..recipe.content import apply_overrides

    content = {**content, "data": dict(content["data"])}
    apply_overrides(content, overrides)
    return content


def learned_from(photos: Photos, run: "Recipe | None") -> np.ndarray | None:
    """`(num_images,)` bool, which photos the run was trained on; `None` where its data cannot be read any more."""
    from ..data.columns import image_files

    if run is None:
        return None
    if run.data.settings == photos.recipe.data.settings:
        trained = set(image_files(photos.parts["train"]))
    else:
        try:
            trained = set(image_files(run.data.load().train))
        except (OSError, ValueError):
            return None
    return np.array([file in trained for file in photos.files])


def score_photos(photos: Photos, model: "MultiLabelPreTrainedModel", folds: int | None, cache: Path) -> np.ndarray:
    """Scores of all photos, `(num_images, num_labels)`; NaN where a photo cannot be read and is skipped.

    Args:
        folds: training photos are scored by models that have not seen them, one for each of so many parts.
    """
    from ..recipe.scores import cross_validated_scores, score_images

    scores = []
    for name, part in photos.parts.items():
        if folds is not None and name == "train":
            scores.append(cross_validated_scores(photos.recipe, part, folds, cache=cache))
        else:
            scores.append(score_images(photos.recipe, model, part))
    return np.concatenate(scores)
