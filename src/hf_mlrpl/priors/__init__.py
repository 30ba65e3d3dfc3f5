"""What is known before training: functions of label names or of known training labels."""

from hf_mlrpl.priors.cooccurrence import cooccurrence_graph
from hf_mlrpl.priors.label_embeddings import label_embeddings, orthogonal_embeddings, read_glove

__all__ = ["cooccurrence_graph", "label_embeddings", "orthogonal_embeddings", "read_glove"]
