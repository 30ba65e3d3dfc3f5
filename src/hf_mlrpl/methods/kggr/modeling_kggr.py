import torch
from torch import Tensor, nn

from ...losses import at_least_float32
from ...models.parts.gated_gnn import GatedGnn
from ...models.parts.label_classifier import label_logits
from ..ssgrl.modeling_ssgrl import SsgrlForMultiLabelClassification
from .configuration_kggr import KggrConfig


class KggrForMultiLabelClassification(SsgrlForMultiLabelClassification):
    """SSGRL whose classifiers exchange messages along the label graph, too: rare labels learn from frequent ones."""

    config_class = KggrConfig
    config: KggrConfig

    def __init__(self, config: KggrConfig):
        super().__init__(config)
        self.weight_network = GatedGnn(config.output_dim, config.time_steps, config.tie_reset_gate)
        self.fuse_weights = nn.Linear(2 * config.output_dim, config.output_dim)
        self.post_init()

    def classify(self, representations: Tensor) -> Tensor:
        """Logits after the labels and their classifiers exchanged messages."""
        weights = at_least_float32(self.refined_weights())
        if self.config.classifier_form == "product":
            weights = weights * self.classifier.weight
        return label_logits(self.interact(representations), weights, self.classifier.bias)

    def refined_weights(self) -> Tensor:
        """Weights of the classifiers, `(num_labels, output_dim)`, from their first and their last state."""
        first = self.classifier.weight
        return self.fuse_weights(torch.cat([self.weight_network(first, self.label_graph), first], dim=-1))
