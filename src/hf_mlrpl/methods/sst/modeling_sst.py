import torch.nn.functional as F
from torch import Tensor, nn

from ...losses import at_least_float32
from ...models.parts.label_classifier import LabelClassifier
from ...models.parts.pair_scores import pair_scores
from ..ssgrl.modeling_ssgrl import SsgrlForMultiLabelClassification
from .configuration_sst import SstConfig


class CooccurrenceHead(nn.Module):
    """Predicts for every pair of labels whether both are in the image, `p_ij` before the sigmoid (Eq. 1).

    Training only: inference never runs it. The first layer of a pair is a sum of one term per label, and the last two
    linear layers are merged, so nothing is computed per pair but a ReLU and a product.
    """

    def __init__(self, config: SstConfig):
        super().__init__()
        dim = config.cooccurrence_hidden_dim
        self.reduce = nn.Linear(config.representation_dim, config.cooccurrence_dim)
        self.hidden = nn.Linear(2 * config.cooccurrence_dim, dim)
        self.activate_labels = config.cooccurrence_layers == "paper"
        self.out = nn.Identity() if self.activate_labels else nn.Linear(dim, dim)
        num_pairs = config.num_labels * (config.num_labels - 1) // 2
        self.classifier = LabelClassifier(1 if config.pair_classifier == "shared" else num_pairs, dim)

    def forward(self, representations: Tensor) -> Tensor:
        """Map `(batch_size, num_labels, dim)` to logits `(batch_size, num_pairs)`, pairs (0, 1), (0, 2), ..."""
        reduced = self.reduce(representations)
        reduced = reduced.relu() if self.activate_labels else reduced
        left_weight, right_weight = self.hidden.weight.chunk(2, dim=1)
        left = F.linear(reduced, left_weight, self.hidden.bias)  # (B, C, O)
        right = F.linear(reduced, right_weight)
        weight: Tensor = self.classifier.weight  # (P, O), or (1, O) when shared
        bias: Tensor = self.classifier.bias
        if isinstance(self.out, nn.Linear):
            weight, bias = weight @ self.out.weight, weight @ self.out.bias + bias
        return pair_scores(*map(at_least_float32, (left, right, weight))) + bias


class SstForMultiLabelClassification(SsgrlForMultiLabelClassification):
    """SSGRL with a co-occurrence head; at inference it is SSGRL."""

    config_class = SstConfig
    config: SstConfig

    def __init__(self, config: SstConfig):
        super().__init__(config)
        self.cooccurrence_head = CooccurrenceHead(config)
        self.post_init()
