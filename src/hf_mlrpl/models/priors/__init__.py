"""Knowledge before training: functions of label names or of known training labels."""

from .cooccurrence import cooccurrence_graph, object_pair_graph
from .label_embeddings import label_embeddings, orthogonal_embeddings, read_glove
from .label_similarity import (
    cosine_similarities,
    dynamic_relation_prior,
    label_prompts,
    label_similarity,
    mean_features,
    read_similarity,
    relation_prior,
)

__all__ = [
    "cooccurrence_graph",
    "cosine_similarities",
    "dynamic_relation_prior",
    "label_embeddings",
    "label_prompts",
    "label_similarity",
    "mean_features",
    "object_pair_graph",
    "orthogonal_embeddings",
    "read_glove",
    "read_similarity",
    "relation_prior",
]
