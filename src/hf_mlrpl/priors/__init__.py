"""What is known before training: functions of label names or of known training labels."""

from .cooccurrence import cooccurrence_graph
from .label_embeddings import label_embeddings, orthogonal_embeddings, read_glove

__all__ = ["cooccurrence_graph", "label_embeddings", "orthogonal_embeddings", "read_glove"]
