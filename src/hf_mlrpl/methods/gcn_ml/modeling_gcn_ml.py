import numpy as np
import torch
from torch import Tensor, nn
from transformers import initialization as init

from ...data.images.training_images import TrainingImages
from ...models.modeling_utils import MultiLabelPreTrainedModel
from ...models.parts.backbone import Backbone
from ...models.parts.graph_convolution import GraphNetwork
from ...models.parts.label_classifier import label_logits
from ...models.priors.cooccurrence import cooccurrence_graph, neighbour_graph
from ...models.priors.label_embeddings import label_embeddings
from .configuration_gcn_ml import GcnMlConfig


class GcnMlForMultiLabelClassification(MultiLabelPreTrainedModel):
    """Classifiers that graph convolutions make of the word vectors of the labels, and the maximum of the feature map.

    Attributes:
        label_graph: `(num_labels, num_labels)`, normalised; how much each label hears of each label.
    """

    config_class = GcnMlConfig
    prior_buffers = ("word_embeddings", "label_graph")

    config: GcnMlConfig
    word_embeddings: Tensor
    label_graph: Tensor

    def __init__(self, config: GcnMlConfig):
        super().__init__(config)
        self.backbone = Backbone(config)
        self.graph_network = GraphNetwork(
            config.word_embedding_dim, config.graph_hidden_dim, num_layers=2, out_dim=self.backbone.num_features
        )
        # Persistent, so that a checkpoint needs neither the GloVe file nor the training labels.
        self.register_buffer("word_embeddings", torch.empty(config.num_labels, config.word_embedding_dim))
        self.register_buffer("label_graph", torch.empty(config.num_labels, config.num_labels))
        self.post_init()

    def represent(self, features: Tensor) -> tuple[Tensor, None]:
        """The maximum of the feature map in each channel, which all labels share, `(batch_size, 1, num_features)`."""
        return features.amax(dim=(2, 3)).unsqueeze(1), None

    def classify(self, representations: Tensor) -> Tensor:
        """Products with the classifiers of the labels, in float32 also under autocast."""
        with torch.autocast(representations.device.type, enabled=False):
            return label_logits(representations, self.label_classifiers())

    def label_classifiers(self) -> Tensor:
        """A classifier for each label, `(num_labels, num_features)`, from its word and those of its neighbours."""
        return self.graph_network(self.word_embeddings, self.label_graph)

    @torch.no_grad()
    def fill_priors(self, labels: np.ndarray | None, images: TrainingImages | None) -> None:
        """Word vectors from the label names, and the label graph from the known training labels."""
        if labels is None:
            raise ValueError("The label graph comes from the training labels: `set_priors` needs `labels`.")
        config = self.config
        vectors = label_embeddings(config.label_names, config.label_embeddings, config.word_embedding_dim)
        self.word_embeddings.copy_(vectors)
        probabilities = cooccurrence_graph(labels, estimator=config.graph_estimator, names=config.label_names)
        self.label_graph.copy_(
            neighbour_graph(
                probabilities.fill_diagonal_(0),
                threshold=config.graph_threshold,
                weight=config.graph_weight,
                normalization=config.graph_normalization,
            )
        )

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:  # usable without priors: unrelated words, no edges
            config = self.config
            vectors = label_embeddings(config.label_names, "orthogonal", config.word_embedding_dim)
            init.copy_(self.word_embeddings, vectors)
            init.copy_(self.label_graph, torch.eye(config.num_labels))
