"""Recipes that train in a second, and trainers made from them."""

import copy
import json
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import yaml
from datasets import Dataset
from PIL import Image
from transformers import TrainerCallback

from hf_mlrpl.data.columns import make_dataset
from hf_mlrpl.data.images.torch_dataset import PartialLabelImages
from hf_mlrpl.data.images.training_images import TrainingImages
from hf_mlrpl.data.images.views import normalized, plain_view
from hf_mlrpl.distributed import state_digest
from hf_mlrpl.hub.shipped import page_of
from hf_mlrpl.losses import partial_bce
from hf_mlrpl.models.modeling_utils import MultiLabelPreTrainedModel
from hf_mlrpl.objective import Objective, ObjectiveOutput, logits_of, sum_of_terms
from hf_mlrpl.recipe.document import Recipe
from hf_mlrpl.registry import METHODS
from hf_mlrpl.schedules import Progress
from hf_mlrpl.trainer.trainer import MultiLabelTrainer

BACKBONE = {"backbone": "test_resnet", "pretrained": False, "image_size": 32, "output_stride": None}
_SSGRL = {
    "trainable_backbone": None,
    "feature_pool": 1,
    "label_embeddings": "orthogonal",
    "word_embedding_dim": 16,
    "representation_dim": 24,
    "attention_dim": 16,
    "output_dim": 24,
}
_CLIP = {
    "backbone": "resnet_clip",
    "vision_sizes": {"layers": [1, 1, 1, 1], "width": 8},
    "text_sizes": {"layers": 1, "width": 64, "vocab_size": 514, "context_length": 24},
    "embed_dim": 24,
    "pretrained": False,
    "image_size": 32,
    "trainable_backbone": None,
    "num_context": 4,
}
MODELS = dict.fromkeys(METHODS, BACKBONE) | {  # those with a network of their own
    "sst": BACKBONE | _SSGRL | {"cooccurrence_dim": 16, "cooccurrence_hidden_dim": 16},
    "sarb": BACKBONE | _SSGRL,
    "dsrb": BACKBONE | _SSGRL,
    "hst": BACKBONE | _SSGRL | {"cooccurrence_dim": 16, "cooccurrence_hidden_dim": 16, "initial_threshold": 0.2},
    "ssgrl": BACKBONE | _SSGRL,
    "kggr": BACKBONE | _SSGRL,
    "gcn_ml": BACKBONE | {"label_embeddings": "orthogonal", "word_embedding_dim": 16, "graph_hidden_dim": 12},
    "add_gcn": BACKBONE | {"representation_dim": 24},
    "ml_decoder": BACKBONE | {"representation_dim": 24, "feedforward_dim": 32},
    "query2label": BACKBONE | {"feedforward_dim": 32},
    "mime": BACKBONE | {"feedforward_dim": 32, "latent_dim": 12},
    "scpnet": _CLIP | {"context_words": None, "graph_dim": 32},
    "dualcoop": _CLIP | {"region_scale": 4.0, "scale": 20.0},  # the published ones are for pretrained towers
    "tai_dpt": _CLIP | {"image_sharpness": 4.0, "scale": 20.0},
    "positivecoop": _CLIP | {"region_scale": 4.0, "scale": 20.0, "residual_std": 0.1},
    "negativecoop": _CLIP | {"region_scale": 4.0, "scale": 20.0},
    "clip_linear": {name: setting for name, setting in _CLIP.items() if name not in ("text_sizes", "num_context")},
    "dualcoop_pp": _CLIP | {"region_scale": 4.0, "scale": 20.0, "competition_scale": 4.0},
    "zero_shot_clip": _CLIP | {"num_context": 0, "dense_weight": 0.5, "initial_scale": 20.0, "initial_bias": 0.0},
    "imcl": BACKBONE | {"class_graph": "cooccurrence"},
    "ip_mixup": BACKBONE | _SSGRL,
    "fm_mixup": BACKBONE | _SSGRL,
}
CLIP = str(Path(__file__).parent / "clip" / "vit")  # `ClipTowers` whose weights were drawn from N(0, 0.5)
NETWORKS = sorted({spec.model: name for name, spec in METHODS.items()}.values())  # a method for each network
PAGES = {method: page_of(method) for method in sorted(METHODS)}
WITH_MEMORY = [  # methods whose pages say that a checkpoint holds what their objectives remember
    method for method, page in PAGES.items() if page is not None and "objective.safetensors" in page.read_text("utf-8")
]
EAGER = {"start_epoch": 1, "first": 0.1, "floor": 0.1}  # pseudo-labels from the second epoch on
OBJECTIVES = {  # settings that are needed, that let a method act within two epochs, or that make it remember
    "sst": {"bank_size": 4, "intra_threshold": EAGER, "cross_threshold": EAGER},
    "sarb": {"start_epoch": 1, "prototype_interval": 1, "num_prototypes": 2},
    "dsrb": {"start_epoch": 1, "prototype_interval": 1},
    "hst": {"start_epoch": 1, "prototype_interval": 1, "num_prototypes": 2},
    "curriculum": {"relabel_after": [1], "threshold": 0.05},
    "curriculum_graph": {"relabel_after": [1], "threshold": 0.05},
    "p_asl": {"unknown": "ignore"},
    "epr": {"expected_positives": 2.0},
    "role": {"expected_positives": 2.0, "table_learning_rate": 0.01},
    "large_loss": {"scheme": "LL-Cp", "rate": 0.05},
    "boost_lu": {"scheme": "LL-Cp", "rate": 0.05, "strict": False},
    "em_apl": {"warmup_epochs": 1},
    "mime": {"warmup_epochs": 1, "threshold": 0.3},
    "vlpl": {"clip": CLIP, "temperature": 0.1, "negative_fraction": 0.2, "negative_weight": 0.5},
    "gpr": {"clip": CLIP, "temperature": 0.1, "grid": 2, "threshold": 0.2, "expected_positives": 2.0},
    "asl": {"gamma_negative": 1.0, "clip": 0.0},  # learns in a few steps
    "ml_decoder": {"gamma_negative": 0.0, "clip": 0.0},
    "query2label": {"gamma_negative": 0.0},
    "logic_mix": {"gamma_negative": 0.0, "clip": 0.0, "mixed_gamma_positive": 0.0},  # learns in a few steps
}
DATA = {  # what a method needs of its data
    "scpnet": {"further_views": {"weak": "shift", "strong": "strong_shift"}},
}

CLOCK = ("runtime", "_per_second", "_seconds")


def tiny_content(method: str = "sst", **sections: dict[str, Any]) -> dict[str, Any]:
    """A recipe as a mapping: 48 training, 16 validation and 24 test scenes; `sections` add or replace keys."""
    content = {
        "method": method,
        "data": {
            "name": "digit_scenes",
            "num_scenes": 64,
            "protocol": "random_known",
            "proportion": 0.5,
            "validation": 0.25,
            "view": "shift",
        }
        | DATA.get(method, {}),
        "model": MODELS[method],
        "objective": OBJECTIVES.get(method, {}),
        "training": {
            "num_train_epochs": 2,
            "per_device_train_batch_size": 16,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "report_to": "none",
            "disable_tqdm": True,
        },
    }
    content = copy.deepcopy(content)
    for section, values in sections.items():
        content[section] |= values
    return content


def tiny_recipe(method: str = "sst", **sections: dict[str, Any]) -> Recipe:
    return Recipe.from_dict(tiny_content(method, **sections))


def write_recipe(folder: Path, method: str = "sst", **sections: dict[str, Any]) -> str:
    """The path of a file with `tiny_content`."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_content(method, **sections)))
    return str(path)


def make_trainer(recipe: Recipe, output: Path, callbacks: list[TrainerCallback] | None = None) -> MultiLabelTrainer:
    """What `hf-mlrpl train` trains with."""
    return recipe.build_trainer(output, callbacks=callbacks)


def build_model(recipe: Recipe, names: list[str], labels: np.ndarray) -> MultiLabelPreTrainedModel:
    """The model of `recipe` for data with these known labels."""
    return recipe.model.build(recipe.model.config(names), labels)


def tiny_model(method: str = "sst", num_labels: int = 5, **settings: Any) -> torch.nn.Module:
    """An untrained model for the labels "0", "1", ...; a copy, since making one takes longer."""
    return copy.deepcopy(_made_model(method, num_labels, json.dumps(settings)))


@cache
def _made_model(method: str, num_labels: int, settings: str) -> torch.nn.Module:
    recipe = tiny_recipe(method, model=json.loads(settings))
    torch.manual_seed(0)
    labels = torch.randint(-1, 2, (20, num_labels), dtype=torch.int8).numpy()
    return build_model(recipe, [str(i) for i in range(num_labels)], labels)


class GivenLogits(torch.nn.Module):
    """A model whose logits are its pixels, and whose labels have nothing to do with each other."""

    def __init__(self, num_labels: int):
        super().__init__()
        self.config = SimpleNamespace(num_labels=num_labels, label_names=[str(i) for i in range(num_labels)])

    def encode(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return pixel_values

    def represent(self, features: torch.Tensor) -> tuple[torch.Tensor, None]:
        return features.flatten(1), None

    def classify(self, representations: torch.Tensor) -> torch.Tensor:
        return representations

    def calibration(self) -> torch.Tensor:
        return torch.eye(self.config.num_labels)


def loss_of_logits(
    objective: Objective, logits: torch.Tensor, labels: torch.Tensor, epoch: float = 0.0
) -> ObjectiveOutput:
    """What `objective` makes of `logits`, which belong to the first images of the training set."""
    batch = {"pixel_values": logits, "labels": labels, "index": torch.arange(len(labels))}
    return objective(GivenLogits(logits.shape[1]), batch, Progress(0, 100, epoch, num_epochs=10))


def tiny_images(num_labels: int = 5, num_images: int = 20, unreadable: Sequence[int] = ()) -> TrainingImages:
    """Images of noise with random labels "0", "1", ..., some unknown; those of the rows `unreadable` are no images."""
    on_bad_image = "replace" if unreadable else "error"
    dataset = _noise(num_labels, num_images, tuple(unreadable))
    images = PartialLabelImages(dataset, plain_view((32, 32)), image_size=(32, 32), on_bad_image=on_bad_image)
    return TrainingImages(images, normalize=partial(normalized, mean=[0.5] * 3, std=[0.5] * 3), batch_size=8)


@cache
def _noise(num_labels: int, num_images: int, unreadable: tuple[int, ...]) -> Dataset:
    generator = np.random.default_rng(0)
    images: list[Any] = [Image.fromarray(p) for p in generator.integers(0, 256, (num_images, 32, 32, 3), np.uint8)]
    for row in unreadable:
        images[row] = b"no image"
    labels = generator.integers(-1, 2, (num_images, num_labels), np.int8)
    names = [str(i) for i in range(num_labels)]
    return make_dataset(images, [f"image {i}" for i in range(num_images)], labels, names)


def batches_of(images: TrainingImages) -> list[dict[str, torch.Tensor]]:
    """What an objective sees of all images, a batch at a time."""
    pixel_values = images.map(lambda batch: batch["pixel_values"], "Looking")
    return [{"pixel_values": pixels, "labels": images.labels[rows], "index": rows} for rows, pixels in pixel_values]


class PatchMeans(torch.nn.Module):
    """Representations that are exact functions of one image: the mean colours of its quarters, times a number that
    depends on the label."""

    def encode(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return pixel_values

    def represent(self, features: torch.Tensor) -> tuple[torch.Tensor, None]:
        means = torch.nn.functional.adaptive_avg_pool2d(features, 2).flatten(1)  # (B, 12)
        return means.unsqueeze(1) * torch.arange(1.0, 6.0, device=means.device).view(5, 1), None


class Taught(Objective):
    """Scores of the averaged model are targets, beside the known labels."""

    def forward(self, model, batch, progress):
        logits = logits_of(model, batch["pixel_values"])
        targets = logits_of(self.teacher(), batch["pixel_values"]).sigmoid()
        self.seen = (batch["pixel_values"], targets)
        known, taught = partial_bce(logits, batch["labels"]), (logits.sigmoid() - targets).square().mean()
        return sum_of_terms({"known": known, "taught": 10 * taught}, logits=logits)


def weights(trainer: MultiLabelTrainer) -> str:
    return state_digest(trainer.model.state_dict())


def memory(trainer: MultiLabelTrainer) -> str:
    return state_digest(trainer.objective.state_dict())


def without_clock(numbers: dict[str, float]) -> dict[str, float]:
    """`numbers` that do not depend on how fast the machine is."""
    return {name: value for name, value in numbers.items() if not name.endswith(CLOCK)}
