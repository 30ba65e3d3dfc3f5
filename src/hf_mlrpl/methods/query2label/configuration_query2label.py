import math
from typing import TYPE_CHECKING

from huggingface_hub.dataclasses import strict

from ...models.configuration_utils import MultiLabelConfig
from ...ranges import number


@strict
class Query2LabelConfig(MultiLabelConfig):
    """Sizes of the authors' command for COCO.

    representation_dim: length of the vector of each label and of the cells that it looks at; `null` is that of the
        backbone, otherwise a 1x1 convolution brings the backbone to it.
    num_heads: of the attention.
    feedforward_dim: hidden size of the feed-forward networks.
    encoder_layers: in which the cells of the map look at each other.
    decoder_layers: in which the queries of the labels look at the map.
    self_attention: whether the labels also look at each other, in each layer of the decoder.
    pre_norm: each step normalises its input, and not what comes out of it.
    dropout: in encoder and decoder.
    """

    model_type = "mlrpl-query2label"

    if TYPE_CHECKING:  # never `None` once there is a model
        representation_dim: int = 0
    else:
        representation_dim: int | None = number("[1, 65536]", None)
    num_heads: int = number("[1, 1024]", 4)
    feedforward_dim: int = number("[1, 65536]", 8192)
    encoder_layers: int = number("[0, 100]", 1)
    decoder_layers: int = number("[1, 100]", 2)
    self_attention: bool = False
    pre_norm: bool = False
    dropout: float = number("[0, 1)", 0.1)

    def label_vector_dim(self) -> int:
        return self.representation_dim

    def validate_dim(self):
        step = math.lcm(4, self.num_heads)  # two coordinates, each with a sine and a cosine
        if self.representation_dim is not None and self.representation_dim % step:
            raise ValueError(
                f"`representation_dim` must be a multiple of 4 and of `num_heads`, {self.num_heads}, got "
                f"{self.representation_dim}. It is by default that of the backbone: set another one, such as "
                f"{math.ceil(self.representation_dim / step) * step}."
            )

    def validate_pre_norm(self):
        if self.pre_norm and not self.self_attention:
            raise ValueError("`pre_norm: true` needs `self_attention: true`, as in the authors' code.")
