"""What the package adds."""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from torchvision.transforms.v2 import functional as F

from hf_mlrpl.data.columns import check_split, make_dataset
from hf_mlrpl.data.images.views import View, plain_view
from hf_mlrpl.losses import known_bce
from hf_mlrpl.objective import Objective, logits_of, sum_of_terms


@dataclass(frozen=True, kw_only=True)
class WeakNegativesObjectiveConfig:
    unknown_weight: float = 0.1


class WeakNegativesObjective(Objective):
    """BCE where unknown labels count as absent, with a lower weight."""

    config_class = WeakNegativesObjectiveConfig

    def forward(self, model, batch, progress):
        logits = logits_of(model, batch["pixel_values"])
        unknown = batch["labels"].eq(0)
        losses, _ = known_bce(logits, batch["labels"].masked_fill(unknown, -1))
        weights = unknown.float().mul(self.config.unknown_weight - 1).add(1)
        return sum_of_terms({"all": (weights * losses).mean()}, logits=logits)


def load_squares(split="train", num_images: int = 24):
    """Images that show a red square, a blue one, both or none."""
    check_split(split, ["train", "test"], "squares")
    labels = np.array([[1 if i % 2 else -1, 1 if i % 3 else -1] for i in range(num_images)], dtype=np.int8)
    images = []
    for red, blue in labels:
        images.append(Image.new("RGB", (40, 40), "white"))
        if red == 1:
            images[-1].paste("red", (4, 4, 16, 16))
        if blue == 1:
            images[-1].paste("blue", (22, 22, 36, 36))
    return make_dataset(images, [f"{split} {i}" for i in range(num_images)], labels, ["red", "blue"])


@dataclass(frozen=True)
class EveryNth:
    """The labels of every n-th image stay known."""

    n: int

    def __call__(self, labels):
        return np.where(np.arange(len(labels))[:, None] % self.n == 0, labels, 0).astype(np.int8)


def upside_down_view(size):
    return View(plain_view(size).prepare, F.vertical_flip)
