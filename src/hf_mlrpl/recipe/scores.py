"""Scores of a model on photos, and scores of photos that a model of the same recipe has not learned from."""

import hashlib
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from sklearn.model_selection import KFold

from ..data.columns import image_files, label_matrix
from ..faults import writing
from ..metrics.multi_label import scores_of
from ..trainer.evaluation import logits_and_labels
from .data_part import Splits

if TYPE_CHECKING:
    from datasets import Dataset

    from ..models.modeling_utils import MultiLabelPreTrainedModel
    from .document import Recipe

logger = logging.getLogger(__name__)


def score_images(recipe: "Recipe", model: "MultiLabelPreTrainedModel", dataset: "Dataset") -> np.ndarray:
    """Scores of `dataset`, `(num_images, num_labels)` in [0, 1]; NaN in rows of images that cannot be read and
    are skipped.

    Args:
        recipe: says how photos are read; its own data are not loaded.
    """
    with TemporaryDirectory() as scratch:
        trainer = recipe.build_trainer(scratch, model=model)
        trainer.compute_metrics = None  # labels may be too few to measure anything
        images = recipe.data.images(dataset, model.config, training=False)
        scores = scores_of(logits_and_labels(trainer.predict(images))[0])
    scores[images.is_bad.numpy()] = np.nan
    return scores


def train_on(recipe: "Recipe", dataset: "Dataset", output: str | Path) -> "MultiLabelPreTrainedModel":
    """Train the method of `recipe` on all of `dataset`, with nothing held out, measured or saved."""
    trainer = recipe.build_trainer(recipe.training.arguments_alone(output), Splits(dataset))
    trainer.train()
    trainer.save_averaged_weights_to_model()
    return trainer.model


def cross_validated_scores(
    recipe: "Recipe", dataset: "Dataset", folds: int, *, seed: int = 0, cache: Path | None = None
) -> np.ndarray:
    """Scores of each image by a model that has been trained without it, `(num_images, num_labels)` in [0, 1].

    Args:
        folds: so many models are trained, each on all images but one part of so many.
        cache: folder where the scores of each part stay, so that an interrupted call goes on.
    """
    if not 2 <= folds <= len(dataset):
        raise ValueError(f"`folds` must lie between 2 and the number of images, {len(dataset)}, got {folds}.")
    labels = label_matrix(dataset)
    content = [recipe.to_yaml(), str(seed), *image_files(dataset)]
    digest = hashlib.sha256("\n".join(content).encode() + labels.tobytes()).hexdigest()[:16]
    scores = np.zeros(labels.shape, np.float32)
    parts = KFold(folds, shuffle=True, random_state=seed).split(labels)
    for number, (kept, left_out) in enumerate(parts, start=1):
        stored = None if cache is None else cache / f"fold{number}of{folds}-{digest}.npy"
        if stored is not None and stored.is_file():
            scores[left_out] = np.load(stored)
            continue
        logger.info("fold %d of %d: training on %d images", number, folds, len(kept))
        if not labels[kept].any():
            raise ValueError(f"Fold {number} of {folds} has no known label to train on. Use fewer folds.")
        with TemporaryDirectory() as scratch:
            model = train_on(recipe, dataset.select(kept), scratch)
        scores[left_out] = score_images(recipe, model, dataset.select(left_out))
        if stored is not None:
            with writing(stored):
                stored.parent.mkdir(parents=True, exist_ok=True)
                np.save(stored, scores[left_out])
    return scores
