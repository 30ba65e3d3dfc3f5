import math
from typing import Literal

from huggingface_hub.dataclasses import strict

from ...models.configuration_utils import MultiLabelConfig
from ...ranges import number

DEFAULT_GROUPS = 100  # authors' code


@strict
class MlDecoderConfig(MultiLabelConfig):
    """Sizes of the authors' code.

    queries: "fixed" random vectors, which are never trained; or "learned" ones; or made from the "words" of the
        labels, which then share one classifier and can be changed (zero-shot).
    num_groups: queries; labels are dealt out to them in their order, and those of a group share a vector. As many as
        there are labels is full decoding; `null` is that for up to 100 labels, and 100 groups for more. With "words"
        every label has its own.
    representation_dim: length of a query and of the vector of each label.
    num_heads: of the attention.
    feedforward_dim: hidden size of the feed-forward network.
    dropout: in the decoder.
    word_embedding_dim, label_embeddings: the word vectors of the labels, as in SSGRL; for "words" alone.
    """

    model_type = "mlrpl-ml_decoder"

    queries: Literal["fixed", "learned", "words"] = "fixed"
    num_groups: int | None = number("[1, 1e6]", None)
    representation_dim: int = number("[1, 65536]", 768)
    num_heads: int = number("[1, 1024]", 8)
    feedforward_dim: int = number("[1, 65536]", 2048)
    dropout: float = number("[0, 1)", 0.1)
    word_embedding_dim: int = number("[1, 65536]", 300)
    label_embeddings: str = "glove"

    @property
    def num_queries(self) -> int:
        """One for each group of labels."""
        if self.queries == "words":
            return self.num_labels
        return self.num_groups or min(DEFAULT_GROUPS, self.num_labels)

    @property
    def labels_per_group(self) -> int:
        """Labels of a group; the last one may have fewer."""
        return math.ceil(self.num_labels / self.num_queries) if self.num_queries else 1

    def label_vector_dim(self) -> int:
        if self.labels_per_group > 1:
            raise ValueError(
                f"The objective compares vectors of labels, and in this ML-Decoder {self.labels_per_group} labels "
                f"share one: set `model.num_groups={self.num_labels}`, which gives each label its own."
            )
        return self.representation_dim

    def validate_heads(self):
        if self.representation_dim % self.num_heads:
            raise ValueError(
                f"`representation_dim` must be a multiple of `num_heads`, got {self.representation_dim} and "
                f"{self.num_heads}."
            )

    def validate_words(self):
        for name in ("label_embeddings", "word_embedding_dim"):
            if self.queries != "words" and getattr(self, name) != getattr(MlDecoderConfig, name):
                raise ValueError(
                    f"`{name}` is that of words, which queries are made from with `queries: words` alone, got "
                    f"{getattr(self, name)!r} and `queries: {self.queries}`. Set `queries: words`, or leave it out."
                )

    def validate_groups(self):
        if self.num_groups is None:
            return
        if self.queries == "words":
            raise ValueError(
                f"`num_groups` must be null with `queries: words`, where labels have no groups, got {self.num_groups}."
            )
        if 0 < self.num_labels < self.num_groups:
            raise ValueError(
                f"`num_groups` must be at most the number of labels, {self.num_labels}, got {self.num_groups}. Leave "
                "it out for full decoding."
            )
