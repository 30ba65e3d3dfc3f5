import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models.modeling_utils import MultiLabelPreTrainedModel
from ...models.parts.backbone import Backbone
from ...models.parts.label_classifier import LabelClassifier
from ...models.parts.semantic_attention import SemanticAttention
from .configuration_add_gcn import AddGcnConfig


def _leaky_relu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, negative_slope=0.2)


class DynamicGraphNetwork(nn.Module):
    """Two graph convolutions over the labels: along a learned graph, then along one made for each image (D-GCN)."""

    def __init__(self, num_labels: int, dim: int):
        super().__init__()
        self.static_adjacency = nn.Linear(num_labels, num_labels, bias=False)
        self.static_weight = nn.Linear(dim, dim)
        self.image_weight = nn.Linear(dim, dim)
        self.image_norm = nn.BatchNorm1d(dim)
        self.dynamic_adjacency = nn.Linear(2 * dim, num_labels)
        self.dynamic_weight = nn.Linear(dim, dim)

    def forward(self, nodes: Tensor) -> Tensor:
        """Map `(batch_size, num_labels, dim)` to new vectors of the same shape."""
        messages = _leaky_relu(self.static_adjacency(nodes.mT).mT)
        nodes = nodes + _leaky_relu(self.static_weight(messages))
        messages = _leaky_relu(self.dynamic_graph(nodes) @ nodes)
        return _leaky_relu(self.dynamic_weight(messages))

    def dynamic_graph(self, nodes: Tensor) -> Tensor:
        """The graph of each image: row i holds what label i receives from each label, `(batch_size, C, C)`."""
        image = self.image_weight(nodes.mean(dim=1))  # (B, D)
        if self.training and len(image) == 1:  # one image has no variance: the stored one
            norm = self.image_norm
            image = F.batch_norm(image, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        else:
            image = self.image_norm(image)
        image = _leaky_relu(image).unsqueeze(1).expand_as(nodes)
        return self.dynamic_adjacency(torch.cat([image, nodes], dim=-1)).sigmoid()


class AddGcnForMultiLabelClassification(MultiLabelPreTrainedModel):
    """Semantic attention, a dynamic graph network over the labels, and one classifier per label.

    The logit of a label is the mean of two: that of its classifier, and the largest score of its attention.
    """

    config_class = AddGcnConfig
    config: AddGcnConfig

    def __init__(self, config: AddGcnConfig):
        super().__init__(config)
        dim = config.representation_dim
        self.backbone = Backbone(config)
        self.attention = SemanticAttention(self.backbone.num_features, config.num_labels, dim)
        self.graph_network = DynamicGraphNetwork(config.num_labels, dim)
        self.classifier = LabelClassifier(config.num_labels, dim)
        self.post_init()

    def represent(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The attended vector of each label and, as one more component, the largest score of its attention."""
        scores = self.attention.score(features)  # (B, C, H, W)
        vectors, attention_maps = self.attention.attend(features, scores)
        return torch.cat([vectors, scores.amax(dim=(2, 3)).unsqueeze(-1)], dim=-1), attention_maps

    def classify(self, representations: Tensor) -> Tensor:
        """Mean of the largest attention score and of the logit after the labels exchanged messages."""
        vectors, scores = representations[..., :-1], representations[..., -1]
        return (scores + self.classifier(vectors + self.graph_network(vectors))) / 2
