from typing import Literal

from huggingface_hub.dataclasses import strict

from ...models.configuration_utils import MultiLabelConfig
from ...ranges import number


@strict
class SsgrlConfig(MultiLabelConfig):
    """Sizes of the baseline row of the SST tables; the ICCV 2019 model has 2048, 1024 and 2048.

    label_features: what gives each label its vector, "decoupling" (semantic decoupling of SSGRL: word vectors attend
        to the map) or "attention" (semantic attention of ADD-GCN, the rows "w/ SAM" of SST and SARB: without word
        vectors, and without the 1x1 convolution in front of decoupling).
    representation_dim: length of the vector of each label; a 1x1 convolution brings the backbone to it.
    attention_dim: hidden size of semantic decoupling.
    attention_pooling: semantic attention takes the "sum" over the positions (published) or the "mean".
    output_dim: size of the fused vector that the classifier of each label sees.
    word_embedding_dim: length of the word vector of each label.
    time_steps: rounds of the graph network.
    tie_reset_gate: the reset gate shares the update gate's recurrent matrix, as in the first SSGRL release.
    label_embeddings: where the word vectors come from: "glove" (packaged, for the COCO and VOC names), "orthogonal",
        or the path of a GloVe text file.
    label_graph: where the label graph comes from: the known training "labels", or the path of a .npy or .safetensors
        file, such as `object_pair_graph` makes it for the first release.
    graph_estimator: how the label graph is counted from partial labels, "published" or "unbiased".
    """

    model_type = "mlrpl-ssgrl"
    earlier_model_type = "ssgrl"

    feature_pool: int = 2
    trainable_backbone: list[str] | tuple[str, ...] | None = ("layer4",)
    label_features: Literal["decoupling", "attention"] = "decoupling"
    representation_dim: int = number("[1, 65536]", 1024)
    attention_dim: int = number("[1, 65536]", 512)
    attention_pooling: Literal["sum", "mean"] = "sum"
    output_dim: int = number("[1, 65536]", 1024)
    word_embedding_dim: int = number("[1, 65536]", 300)
    time_steps: int = number("[0, 1000]", 3)
    tie_reset_gate: bool = False
    label_embeddings: str = "glove"
    label_graph: str = "labels"
    graph_estimator: Literal["published", "unbiased"] = "published"

    def label_vector_dim(self) -> int:
        return self.representation_dim
