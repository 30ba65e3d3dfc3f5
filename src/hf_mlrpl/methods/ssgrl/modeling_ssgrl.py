from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import initialization as init

from ...data.images.training_images import TrainingImages
from ...models.modeling_utils import MultiLabelPreTrainedModel
from ...models.parts.backbone import Backbone
from ...models.parts.gated_gnn import GatedGnn
from ...models.parts.label_classifier import LabelClassifier
from ...models.parts.semantic_attention import SemanticAttention
from ...models.parts.semantic_decoupling import SemanticDecoupling
from ...models.priors.cooccurrence import cooccurrence_graph
from ...models.priors.label_embeddings import label_embeddings
from ...models.priors.label_similarity import read_matrix
from .configuration_ssgrl import SsgrlConfig


class SsgrlForMultiLabelClassification(MultiLabelPreTrainedModel):
    """Semantic decoupling or attention, a gated graph network over the labels, and one classifier per label."""

    config_class = SsgrlConfig
    prior_buffers = ("word_embeddings", "label_graph")

    config: SsgrlConfig
    word_embeddings: Tensor  # of semantic decoupling; semantic attention has none
    label_graph: Tensor

    def __init__(self, config: SsgrlConfig):
        super().__init__(config)
        dim = config.representation_dim
        self.backbone = Backbone(config)
        num_features = self.backbone.num_features
        if config.label_features == "attention":
            self.attention = SemanticAttention(num_features, config.num_labels, dim, config.attention_pooling)
        else:
            self.project: nn.Module = nn.Identity()
            if num_features != dim:
                convolution = nn.Conv2d(num_features, dim, kernel_size=1, bias=False)
                self.project = nn.Sequential(convolution, nn.BatchNorm2d(dim))
            self.decoupling = SemanticDecoupling(dim, config.word_embedding_dim, config.attention_dim)
            # Persistent, so that a checkpoint needs neither the GloVe file nor the training labels.
            self.register_buffer("word_embeddings", torch.empty(config.num_labels, config.word_embedding_dim))
        self.graph_network = GatedGnn(dim, config.time_steps, config.tie_reset_gate)
        self.fuse = nn.Linear(2 * dim, config.output_dim)
        self.classifier = LabelClassifier(config.num_labels, config.output_dim)
        self.register_buffer("label_graph", torch.empty(config.num_labels, config.num_labels))
        self.post_init()

    def represent(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """One vector per label, attended from the feature map: semantic decoupling or attention."""
        if self.config.label_features == "attention":
            return self.attention(features)
        return self.decoupling(self.project(features), self.word_embeddings)

    def classify(self, representations: Tensor) -> Tensor:
        """Logits after the labels exchanged messages."""
        return self.classifier(self.interact(representations))

    def interact(self, representations: Tensor, differing: Sequence[Tensor] = ()) -> Tensor:
        """Vectors of the labels after they exchanged messages, `(batch_size, num_labels, output_dim)`: semantic
        interaction.

        Args:
            differing: the labels that the last groups of images do not share with the first ones, see `GatedGnn`.
        """
        nodes = self.graph_network(representations, self.label_graph, differing)
        return torch.tanh(self.fuse(torch.cat([nodes, representations], dim=-1)))

    @torch.no_grad()
    def fill_priors(self, labels: np.ndarray | None, images: TrainingImages | None) -> None:
        """Word vectors from the label names, and the label graph from the known training labels."""
        config = self.config
        if config.label_features == "decoupling":
            vectors = label_embeddings(config.label_names, config.label_embeddings, config.word_embedding_dim)
            self.word_embeddings.copy_(vectors)
        if config.label_graph == "labels":
            if labels is None:
                raise ValueError("The label graph comes from the training labels: `set_priors` needs `labels`.")
            graph = cooccurrence_graph(labels, estimator=config.graph_estimator, names=config.label_names)
        else:
            graph = read_matrix(config.label_graph, config.num_labels)
            config.label_graph = "labels"  # a checkpoint carries it
        self.label_graph.copy_(graph)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:  # usable without priors: unrelated words, no edges
            config = self.config
            if config.label_features == "decoupling":
                vectors = label_embeddings(config.label_names, "orthogonal", config.word_embedding_dim)
                init.copy_(self.word_embeddings, vectors)
            init.copy_(self.label_graph, torch.eye(config.num_labels))
