from typing import Literal

from huggingface_hub.dataclasses import strict

from ...models.configuration_utils import MultiLabelConfig
from ...ranges import number


@strict
class GcnMlConfig(MultiLabelConfig):
    """Sizes of the authors' code.

    graph_hidden_dim: length of the vectors between the two graph convolutions.
    graph_threshold: conditional probability from which two labels are neighbours.
    graph_weight: what all neighbours of a label weigh together, where the label itself weighs 1; the paper's p of 0.2
        is 0.2 / 0.8.
    graph_normalization: "published" normalises over the labels that a label is a neighbour of, and sends messages
        against the edges (authors' code); "paper" normalises over its neighbours and follows the edges.
    graph_estimator: how probabilities are counted from partial labels, "published" or "unbiased".
    word_embedding_dim, label_embeddings: the word vectors of the labels, as in SSGRL.
    """

    model_type = "mlrpl-gcn_ml"

    graph_hidden_dim: int = number("[1, 65536]", 1024)
    graph_threshold: float = number("[0, 1]", 0.4)
    graph_weight: float = 0.25
    graph_normalization: Literal["published", "paper"] = "published"
    graph_estimator: Literal["published", "unbiased"] = "published"
    word_embedding_dim: int = number("[1, 65536]", 300)
    label_embeddings: str = "glove"
