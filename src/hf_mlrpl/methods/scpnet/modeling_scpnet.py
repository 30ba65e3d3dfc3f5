import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor, nn
from transformers import initialization as init

from ...clip.modeling_clip import ClipPromptModel
from ...clip.prompts import PromptLearner
from ...clip.sources import ClipSource
from ...data.images.training_images import TrainingImages
from ...losses import at_least_float32
from ...models.configuration_utils import MultiLabelConfig
from ...models.parts.backbone import PooledBackbone
from ...models.parts.graph_convolution import GraphNetwork
from ...models.parts.partly_frozen import PartlyFrozen
from ...models.priors.label_similarity import (
    SIMILARITY_FILES,
    cosine_similarities,
    dynamic_relation_prior,
    label_prompts,
    label_similarity,
    mean_features,
    relation_prior,
)
from .configuration_scpnet import ScpnetConfig


class ScpnetForMultiLabelClassification(ClipPromptModel):
    """Cosines between the image vector of CLIP and one vector per label, from its prompt and from a graph of labels.

    Attributes:
        graph: `(num_labels, num_labels)`, how much each label hears of each label; rows sum to 1.
        static_calibration: of the same shape, see `calibration`.
    """

    config_class = ScpnetConfig
    prior_buffers = ("graph", "static_calibration")

    config: ScpnetConfig
    graph: Tensor
    static_calibration: Tensor

    def __init__(self, config: ScpnetConfig):
        super().__init__(config)
        self.prompts = PromptLearner.from_config(config)
        if config.adjacency is not None:
            self.graph_network = GraphNetwork(
                config.embed_dim, config.graph_dim, config.graph_layers, last_activation=config.graph_last_activation
            )
        if config.learn_scale:
            self.log_scale = nn.Parameter(torch.empty(()))
        # Persistent, so that a checkpoint needs no file of the prior.
        self.register_buffer("graph", torch.empty(config.num_labels, config.num_labels))
        self.register_buffer("static_calibration", torch.empty(config.num_labels, config.num_labels))
        self.post_init()

    def make_image_encoder(self) -> PartlyFrozen:
        config = self.config
        if config.image_network is None:
            return super().make_image_encoder()
        settings: dict[str, Any] = {"backbone": config.image_network, "trainable_backbone": config.trainable_backbone}
        return PooledBackbone(MultiLabelConfig(**settings), config.embed_dim)

    def load_clip(self, clip: ClipSource, where: str) -> None:
        if self.config.image_network is not None:  # which has its own normalisation of pixels
            theirs = copy.copy(clip.weights.config)
            theirs.image_mean, theirs.image_std = self.config.image_mean, self.config.image_std
            clip = replace(clip, weights=replace(clip.weights, config=theirs))
        super().load_clip(clip, where)

    def load_published(self, source: str | None = None) -> None:
        super().load_published(source)
        if isinstance(self.backbone, PooledBackbone):
            self.backbone.load_weights()

    # ---- from pixels to logits ----

    def represent(self, features: Tensor) -> tuple[Tensor, None]:
        """The vector of the image, which all labels share, `(batch_size, 1, embed_dim)`."""
        return features.unsqueeze(1), None

    def classify(self, representations: Tensor) -> Tensor:
        """Scaled cosines to the label vectors, in float32 also under autocast."""
        label_vectors = self.label_vectors()  # (C, D)
        with torch.autocast(representations.device.type, enabled=False):
            image_vectors = F.normalize(representations.to(label_vectors.dtype), dim=-1)
            if representations.shape[1] == 1:
                cosines = image_vectors.squeeze(1) @ label_vectors.T
            else:  # mixtures of an objective may have a vector for each label
                cosines = torch.einsum("bcd,cd->bc", image_vectors, label_vectors)
            return self.scale * cosines

    @property
    def scale(self) -> Tensor | float:
        """Factor of the cosines."""
        return self.log_scale.exp() if self.config.learn_scale else self.config.scale

    # ---- label vectors ----

    def label_features(self) -> Tensor:
        """Text features of the prompts, `(num_labels, embed_dim)`, not normalised."""
        return self.once("label_features", lambda: self.prompts(self.text_encoder))

    def compute_label_vectors(self) -> Tensor:
        """Text features plus what the graph network makes of them, as unit vectors `(num_labels, embed_dim)`."""
        vectors = self.label_features()
        if self.config.adjacency is not None:
            vectors = vectors + self.graph_network(vectors, self.adjacency_matrix(vectors))
        return F.normalize(at_least_float32(vectors), dim=-1)

    def adjacency_matrix(self, features: Tensor) -> Tensor:
        """Weights of the messages that labels pass to each other in the graph network, `(num_labels, num_labels)`."""
        graph, calibration = self.graph, self.static_calibration
        if self.config.graph_prior == "dynamic":
            graph, calibration = dynamic_relation_prior(features, **self.prior_settings(len(features)))
        return (graph if self.config.adjacency == "graph" else calibration).to(features.dtype)

    def calibration(self) -> Tensor:
        """Weight of each label in the calibrated score of each label, `(num_labels, num_labels)`; rows sum to 1,
        and there is no gradient."""
        if self.config.calibration_prior == "none":
            return torch.eye(self.config.num_labels, device=self.device)
        if self.config.calibration_prior == "static":
            return self.static_calibration
        features = self.label_features().detach()
        return dynamic_relation_prior(features, **self.prior_settings(len(features)))[1]

    # ---- priors ----

    def prior_settings(self, num_labels: int) -> dict[str, Any]:
        config = self.config
        top_k = max(2, num_labels) if config.prior_top_k is None else config.prior_top_k  # 2 even of a single label
        return {"top_k": top_k, "reweight": config.prior_reweight, "temperature": config.prior_temperature}

    def label_priors(self, names: Sequence[str]) -> dict[str, Tensor]:
        """The graph of the labels and the calibration, from how alike their names are."""
        if self.config.prior == "images":  # which `fill_priors` looks at
            return {}
        if self.config.prior == "clip":
            return self.relation_of(cosine_similarities(self.encode_texts(label_prompts(names))))
        return self.relation_of(label_similarity(names, self.config.prior))

    def relation_of(self, similarity: Tensor) -> dict[str, Tensor]:
        graph, calibration = relation_prior(similarity, **self.prior_settings(len(similarity)))
        return {"graph": graph, "static_calibration": calibration}

    @torch.no_grad()
    def fill_priors(self, labels: np.ndarray | None, images: TrainingImages | None) -> None:
        """Prompts, and the graph and the calibration: from the label names, or with `prior: images` from the mean
        vector of the images where a label is known to be present."""
        super().fill_priors(labels, images)
        if self.config.prior != "images":
            return
        if images is None:
            raise ValueError("`prior: images` comes from the training images: `set_priors` needs `images`.")
        own_device = self.device
        self.eval().to(device=PartialState().device)
        similarity = cosine_similarities(mean_features(self._image_vectors(images), self.config.label_names))
        for name, tensor in self.relation_of(similarity).items():
            getattr(self, name).copy_(tensor)
        self.train().to(device=own_device)

    def _image_vectors(self, images: TrainingImages) -> Iterator[tuple[Tensor, Tensor]]:
        """Vectors of all images, with their known labels, on every process."""
        for rows, vectors in images.map(lambda batch: self.encode(batch["pixel_values"]), "Mean vectors of labels"):
            yield vectors, images.labels[rows].to(vectors.device)

    def set_labels(self, names: Sequence[str]) -> None:
        if self.config.prior == "images" or Path(self.config.prior).suffix in SIMILARITY_FILES:
            raise ValueError(
                f"The labels cannot change: how alike they are comes from {self.config.prior}, which have no others. "
                "Train with `prior: clip`, which reads their names."
            )
        super().set_labels(names)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:  # usable without priors: no edges
            init.copy_(self.graph, torch.eye(self.config.num_labels))
            init.copy_(self.static_calibration, torch.eye(self.config.num_labels))
            if self.config.learn_scale:
                init.constant_(self.log_scale, math.log(self.config.scale))
