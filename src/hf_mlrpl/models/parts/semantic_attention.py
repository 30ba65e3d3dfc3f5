"""Semantic attention: one convolution scores every place for every label, another makes what is weighted by it.

Ye et al., "Attention-Driven Dynamic Graph Convolutional Network for Multi-Label Image Recognition", ECCV 2020.
"""

from typing import Literal

from torch import Tensor, nn

from ...losses import at_least_float32


class SemanticAttention(nn.Module):
    """One vector per label: the features of all positions, weighted by the label's attention and added up.

    The attention is the sigmoid of a score, not a softmax over the positions: the vector of a label that is nowhere
    in the image is short.

    Args:
        pooling: "sum" over the positions, as published, or their "mean", which does not grow with the map.
    """

    def __init__(self, image_dim: int, num_labels: int, dim: int, pooling: Literal["sum", "mean"] = "sum"):
        super().__init__()
        self.pooling = pooling
        self.score = nn.Conv2d(image_dim, num_labels, kernel_size=1, bias=False)
        self.transform = nn.Conv2d(image_dim, dim, kernel_size=1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Attend to a map for each label.

        Args:
            features: `(batch_size, image_dim, height, width)`.

        Returns:
            Representations `(batch_size, num_labels, dim)` and attention maps `(batch_size, num_labels, height,
            width)` in [0, 1].
        """
        return self.attend(features, self.score(features))

    def attend(self, features: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The same where `scores`, `self.score(features)`, are already there."""
        attention_maps = at_least_float32(scores).sigmoid()  # (B, C, H, W)
        weights = attention_maps.flatten(2)  # (B, C, M)
        if self.pooling == "mean":
            weights = weights / weights.shape[2]
        values = self.transform(features).flatten(2).transpose(1, 2)  # (B, M, D)
        return weights.to(values.dtype) @ values, attention_maps
