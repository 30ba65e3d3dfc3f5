from torch import Tensor

from ..sarb.modeling_sarb import SarbForMultiLabelClassification
from .configuration_dsrb import DsrbConfig


class DsrbForMultiLabelClassification(SarbForMultiLabelClassification):
    """SARB, which also says what each place of the map gives to a label; at inference it is SSGRL."""

    config_class = DsrbConfig
    config: DsrbConfig

    def represent_with_contributions(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """One vector per label, and what each position adds to the sum of its channels.

        Contributions may be negative: features come out of batch norm, without an activation.

        Returns:
            `(batch_size, num_labels, dim)`, and `(batch_size, num_labels, height, width)`.
        """
        if self.config.label_features == "attention":
            representations, attention_maps = self.attention(features)
            return representations, attention_maps * self.attention.transform(features).sum(dim=1, keepdim=True)
        projected = self.project(features)
        representations, attention_maps = self.decoupling(projected, self.word_embeddings)
        return representations, attention_maps * projected.sum(dim=1, keepdim=True)
