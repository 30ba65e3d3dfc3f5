"""Pictures of what a trained model has learned, and those that a method has of its own."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..data.columns import label_matrix
from ..data.images.photos import open_image
from ..labels import POSITIVE
from ..models.image_processing import processor_for
from ..objective import OBJECTIVE_NAME, Objective
from ..recipe.document import Recipe
from ..registry import load
from ..settings import did_you_mean
from ..visualization.figures import plot_matrix, plot_points
from ..visualization.photo import LabelledPhoto
from .checkpoint import load_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def label_graph(arguments: argparse.Namespace) -> "Figure":
    """How much each label hears of each other one; the diagonal is left out."""
    model: Any = load_model(Path(arguments.of[0]), arguments.of[0])
    graph = getattr(model, "graph", getattr(model, "label_graph", None))
    if graph is None:
        raise ValueError(f"The model of {arguments.of[0]} has no graph of labels.")
    matrix = graph.numpy().copy()
    np.fill_diagonal(matrix, np.nan)
    names = model.config.label_names
    kept = _chosen(arguments.labels, names) or list(range(len(names)))
    title = "row: a label; column: what it hears of"
    return plot_matrix(matrix[np.ix_(kept, kept)], [names[i] for i in kept], title, "weight in the graph of labels")


@torch.no_grad()
def label_vectors(arguments: argparse.Namespace) -> "Figure":
    """Vectors of the labels by t-SNE on their cosines, or with few labels by principal components."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    model: Any = load_model(Path(arguments.of[0]), arguments.of[0]).eval()
    if not hasattr(model, "label_vectors"):
        raise ValueError(f"The model of {arguments.of[0]} has no vectors of labels. Those that start from CLIP have.")
    names = model.config.label_names
    kept = _chosen(arguments.labels, names) or list(range(len(names)))
    vectors = model.label_vectors()[-len(names) :][kept].float().numpy()  # of several prompts, the positive one
    if len(vectors) < 2:
        raise ValueError("A picture of vectors needs at least two labels.")
    if len(vectors) < 12:
        points, how = PCA(2).fit_transform(vectors), "principal components"
    else:
        perplexity = min(30.0, (len(vectors) - 1) / 3)
        points = TSNE(2, perplexity=perplexity, metric="cosine", init="random", random_state=0).fit_transform(vectors)
        how = "t-SNE of cosines"
    return plot_points(points, [names[i] for i in kept], f"vectors of the labels, {how}")


def picture_of_method(arguments: argparse.Namespace, takes: str) -> "Figure":
    """A picture that the objective of a run offers, see `Objective.pictures`.

    Args:
        takes: "run", or "photo".
    """
    folder = Path(arguments.of[0])
    recipe = Recipe.load(folder / "recipe.yaml")
    target = recipe.objective.objective_class.pictures.get(arguments.kind)
    if target is None:
        raise ValueError(f"The run {folder} is of {recipe.method}, which has no picture {arguments.kind!r}.")
    draw = load(target)
    if takes == "run":
        return draw(recipe.objective.build(recipe.model.config(["a label"])))
    model: Any = load_model(folder, str(folder)).eval()
    objective = recipe.objective.build(model.config)
    if arguments.kind != "cooccurrence":
        _remember(objective, folder)
    train = recipe.data.load().train
    photo = _read_photo(train, model, arguments.of[1], arguments.known)
    chosen = _chosen(arguments.labels, model.config.label_names)
    return draw(objective, model, photo, chosen, images=_Images(train), top=arguments.top)


class _Images:
    """The photos of a data set by their row."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __getitem__(self, row: int) -> Any:
        return open_image(self.dataset[row]["image"])


def _remember(objective: Objective, folder: Path) -> None:
    """Give an objective what it remembered in the newest checkpoint of a run."""
    from safetensors.torch import load_file

    from ..trainer.checkpoints import checkpoint_folders

    files = [checkpoint / OBJECTIVE_NAME for checkpoint in checkpoint_folders(folder)]
    files = [file for file in files if file.is_file()]
    if not files:
        raise FileNotFoundError(
            f"The run {folder} has no checkpoint, and what it remembered is nowhere else. Train it again, with "
            "`training.save_strategy=epoch`."
        )
    objective.load_state_dict(load_file(files[-1]))


def _read_photo(train: Any, model: Any, name: str, known: str | None) -> LabelledPhoto:
    """A training image by its number, or a file."""
    names = model.config.label_names
    if name.isdigit() and not Path(name).is_file():
        if known is not None:
            raise ValueError("`--known` is for a photo of yours: a training image comes with its known labels.")
        if int(name) >= len(train):
            raise ValueError(f"There is no training image {name}: there are {len(train)}, from 0 on.")
        row = train.select([int(name)])
        image, labels = open_image(row[0]["image"]), torch.from_numpy(label_matrix(row)[0].copy())
    else:
        image, labels = open_image(name), torch.zeros(len(names), dtype=torch.int8)
        labels[_chosen(known, names) or []] = POSITIVE
    pixel_values = processor_for(model.config)([image], return_tensors="pt")["pixel_values"]
    title = f"training image {name}" if name.isdigit() else Path(name).name
    return LabelledPhoto(image, pixel_values, labels, title)


def _chosen(text: str | None, names: list[str]) -> list[int] | None:
    """Places of the labels that a text names, separated by commas; `None` without one."""
    if text is None:
        return None
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    for name in wanted:
        if name not in names:
            raise ValueError(f"The model has no label {name!r}. {did_you_mean(name, names)}")
    return [names.index(name) for name in wanted]
