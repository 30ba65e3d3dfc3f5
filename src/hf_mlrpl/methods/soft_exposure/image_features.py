"""Features of all training images from a fixed network, kept on disk: made once, in a pass that can be interrupted."""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from accelerate import PartialState
from huggingface_hub import cached_assets_path
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...data.images.training_images import TrainingImages
from ...distributed import total_over_processes
from ...faults import writing
from ...models.baseline.configuration_baseline import BaselineConfig
from ...models.baseline.modeling_baseline import BaselineForMultiLabelClassification
from ...models.configuration_utils import MultiLabelConfig
from ...models.modeling_utils import MultiLabelPreTrainedModel
from ...models.parts.pooling import mean_of_map

IMAGES_PER_FILE = 1024
_ELSEWHERE = "HF_ASSETS_CACHE names another place; the pass goes on behind the files that are finished."


def feature_model(source: str, model: MultiLabelPreTrainedModel) -> MultiLabelPreTrainedModel:
    """The model whose `encode` makes the features that `features_from` names, in evaluation mode.

    Args:
        source: "model", the folder of a checkpoint, or the name of a timm model, whose pretrained weights are loaded.
        model: the model that is trained; the other networks see images of its size and normalisation.
    """
    if source == "model":
        return model
    folder = Path(source)
    is_checkpoint = (folder / "config.json").is_file()
    if not is_checkpoint and not timm.is_model(source.split(".")[0]):
        raise ValueError(
            f"`objective.features_from` must be model, the folder of a checkpoint, or the name of a timm model, got "
            f"{source!r}."
        )
    pixels = ("image_size", "resize", "resize_to", "image_mean", "image_std")
    settings: dict[str, Any] = {name: getattr(model.config, name) for name in pixels} | {"backbone": source}
    if is_checkpoint:
        saved = MultiLabelConfig.get_config_dict(folder)[0]
        if "backbone" not in saved:
            raise ValueError(f"`objective.features_from`: {folder} is no checkpoint of this library. Name another.")
        settings |= {name: saved[name] for name in ("backbone", "output_stride", "feature_pool") if name in saved}
    other: Any = BaselineForMultiLabelClassification(BaselineConfig(**settings))
    if is_checkpoint:
        file, prefix = folder / "model.safetensors", "backbone."
        try:
            state = load_file(file)
        except SafetensorError as error:
            raise ValueError(f"`objective.features_from`: {file} cannot be read: {error}") from error
        encoder = {name: tensor for name, tensor in state.items() if name.startswith(prefix)}
        other.load_state_dict({**other.state_dict(), **encoder})
    else:
        other.load_pretrained()
    return other.to(model.device).eval()


class ImageFeatures:
    """Pooled features of unit length of every training image, `(num_images, dim)` float32.

    They are safetensors files of 1,024 images in `hf-mlrpl/features/<fingerprint>` of the cache of Hugging Face
    (`HF_ASSETS_CACHE`, by default `~/.cache/huggingface/assets`). The fingerprint covers the images, the network, its
    weights, and the size and normalisation of the pixels, not the labels: runs that hide other labels of the same
    images share them. An image that cannot be read has no features, and its row is NaN.

    Args:
        images: the training images; the network sees them without augmentation.
        source: the network, see `feature_model`.
        model: the model that is trained.
    """

    def __init__(self, images: TrainingImages, source: str, model: MultiLabelPreTrainedModel):
        self.images = images if source == "model" else images.as_pixels()
        self.model = feature_model(source, model)
        self.made_from = {
            "images": self.images.fingerprint(),
            "num_images": len(images),
            "unreadable_images": "NaN",
            **self.model.encoder_settings(),
        }
        self.fingerprint = hashlib.sha256(json.dumps(self.made_from, sort_keys=True).encode()).hexdigest()[:32]
        self.folder = cached_assets_path("hf-mlrpl", namespace="features", subfolder=self.fingerprint)
        self.num_files = -(-len(images) // IMAGES_PER_FILE)

    def file(self, number: int) -> Path:
        return self.folder / f"features-{number:05d}-of-{self.num_files:05d}.safetensors"

    @torch.no_grad()
    def make(self) -> None:
        """Compute what is missing. All processes share the work; the first one writes.

        An interrupted pass goes on behind the last finished file, with any number of processes. The network runs in
        float32, whatever the precision of training.
        """
        is_main = PartialState().is_main_process
        finished = next((n for n in range(self.num_files) if not self.file(n).is_file()), self.num_files)
        finished = total_over_processes(finished if is_main else 0)  # as the first process sees it
        if finished == self.num_files:
            return
        if is_main:
            (self.folder / "made_from.json").write_text(json.dumps(self.made_from, indent=2) + "\n")
        rows, features = torch.empty(0, dtype=torch.int64), torch.empty(0)
        passing = self.images.map(self._pooled, "Features of the images", first=finished * IMAGES_PER_FILE)
        for next_rows, next_features in passing:
            if not next_features.isfinite().all():
                raise RuntimeError(
                    f"The network of `objective.features_from` gives infinite or NaN features for some of the images "
                    f"{self.images.image_ids[next_rows[0]]} to {self.images.image_ids[next_rows[-1]]}. Name another."
                )
            if not is_main:
                continue
            rows, features = torch.cat([rows, next_rows]), torch.cat([features, next_features.cpu()])
            while len(rows) and rows[-1] >= (finished + 1) * IMAGES_PER_FILE - 1:
                rows, features = self._write(finished, rows, features)
                finished += 1
        for number in range(finished, self.num_files) if is_main else ():
            rows, features = self._write(number, rows, features)

    def _pooled(self, batch: dict[str, Tensor]) -> Tensor:
        """Features of unit length, `(batch_size, dim)`."""
        with torch.autocast(batch["pixel_values"].device.type, enabled=False):
            features = self.model.encode(batch["pixel_values"])
            return F.normalize(mean_of_map(features).float())

    def _write(self, number: int, rows: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Write a file and return the rows and the features that belong into the next ones."""
        first = number * IMAGES_PER_FILE
        content = features.new_full((min(IMAGES_PER_FILE, len(self.images) - first), features.shape[1]), math.nan)
        here = rows < first + IMAGES_PER_FILE
        content[rows[here] - first] = features[here]
        self.write(self.file(number), {"features": content})
        return rows[~here], features[~here]

    def write(self, file: Path, tensors: dict[str, Tensor]) -> None:
        """Write a file of the folder in one piece, or not at all."""
        unfinished = file.with_suffix(f".{os.getpid()}")
        with writing(file, _ELSEWHERE, SafetensorError):
            try:
                save_file(tensors, unfinished, metadata={"fingerprint": self.fingerprint})
                unfinished.replace(file)
            finally:
                unfinished.unlink(missing_ok=True)

    def read(self) -> Tensor:
        """All features, `(num_images, dim)` on the CPU; NaN where an image could not be read."""
        features = None
        for number in range(self.num_files):
            first = number * IMAGES_PER_FILE
            num_rows = min(IMAGES_PER_FILE, len(self.images) - first)
            rows = self.read_file(self.file(number), "features", num_rows)
            if features is None:
                features = torch.empty(len(self.images), rows.shape[1])
            features[first : first + num_rows] = rows
        assert features is not None, "a training set has images"
        return features

    def read_file(self, file: Path, name: str, num_rows: int) -> Tensor:
        """A tensor of a file of the folder, or a `ValueError` if it was made for something else or is damaged."""
        advice = f"Delete the folder {self.folder}; its files are then made again."
        try:
            with safe_open(file, "pt") as content:
                fingerprint = (content.metadata() or {}).get("fingerprint")
                tensor = content.get_tensor(name)
        except SafetensorError as error:
            raise ValueError(f"{file} is damaged ({error}). {advice}") from error
        if fingerprint != self.fingerprint or len(tensor) != num_rows:
            raise ValueError(
                f"{file} was not made for these images and this network: its fingerprint is {fingerprint} with "
                f"{len(tensor)} images, expected {self.fingerprint} with {num_rows}. {advice}"
            )
        return tensor
