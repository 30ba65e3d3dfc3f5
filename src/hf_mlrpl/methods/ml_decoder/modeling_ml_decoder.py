import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils import logging

from ...data.images.training_images import TrainingImages
from ...labels import shorten
from ...models.modeling_utils import MultiLabelPreTrainedModel
from ...models.parts.backbone import Backbone
from ...models.parts.label_classifier import LabelClassifier
from ...models.parts.transformer_steps import AttentionStep, FeedForwardStep, Residual
from ...models.priors.label_embeddings import label_embeddings
from .configuration_ml_decoder import MlDecoderConfig

logger = logging.get_logger(__name__)


class MlDecoderForMultiLabelClassification(MultiLabelPreTrainedModel):
    """One query per label, or per group of labels, attends to the map; the labels of a group share what it finds.

    The layer is that of a transformer decoder without self-attention and without positions.

    Attributes:
        query: the vectors that ask, `(num_queries, representation_dim)`; not with `queries: words`.
        word_embeddings: `(num_labels, word_embedding_dim)`, which the queries are made from; with `queries: words`.
    """

    config_class = MlDecoderConfig

    config: MlDecoderConfig
    word_embeddings: Tensor

    def __init__(self, config: MlDecoderConfig):
        super().__init__(config)
        dim = config.representation_dim
        self.backbone = Backbone(config)
        self.embed = nn.Linear(self.backbone.num_features, dim)
        if config.queries == "words":
            word_dim = config.word_embedding_dim
            self.project_words = nn.Identity() if word_dim == dim else nn.Linear(word_dim, dim)
            # Persistent, so that a checkpoint does not need the GloVe file.
            self.register_buffer("word_embeddings", torch.empty(config.num_labels, word_dim))
            self.prior_buffers = ("word_embeddings",)
        else:
            self.query = nn.Embedding(config.num_queries, dim)
            self.query.weight.requires_grad_(config.queries == "learned")
        self.query_residual = Residual(dim, config.dropout)
        self.attend = AttentionStep(dim, config.num_heads, config.dropout)
        self.feed_forward = FeedForwardStep(dim, config.feedforward_dim, config.dropout)
        self.classifier = LabelClassifier(1 if config.queries == "words" else config.num_labels, dim)
        self.post_init()

    def represent(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What the query of each label, or of its group, finds in the map."""
        cells = self.embed(features.flatten(2).transpose(1, 2)).relu()  # (B, M, D)
        queries = self.queries().expand(cells.shape[0], -1, -1)
        queries = self.query_residual.leave(queries, queries)  # in the place of self-attention, authors' code
        found, attention = self.attend(queries, keys=cells, values=cells)
        vectors, maps = self.feed_forward(found), attention.unflatten(2, features.shape[2:])
        return self._of_labels(vectors), self._of_labels(maps)

    def classify(self, representations: Tensor) -> Tensor:
        return self.classifier(representations)

    def queries(self) -> Tensor:
        """The vectors that ask, `(num_queries, representation_dim)`."""
        if self.config.queries == "words":
            return self.project_words(self.word_embeddings).relu()
        return self.query.weight

    def _of_labels(self, of_groups: Tensor) -> Tensor:
        """What each label has of its group, `(batch_size, num_labels, ...)`, of `(batch_size, num_queries, ...)`."""
        size = self.config.labels_per_group
        return of_groups if size == 1 else of_groups.repeat_interleave(size, dim=1)[:, : self.config.num_labels]

    # ---- labels ----

    @property
    def reads_names(self) -> bool:
        return self.config.queries == "words"

    @torch.no_grad()
    def fill_priors(self, labels: np.ndarray | None, images: TrainingImages | None) -> None:
        """Word vectors from the label names, where queries are made from them."""
        config = self.config
        if config.queries == "words":
            vectors = label_embeddings(config.label_names, config.label_embeddings, config.word_embedding_dim)
            self.word_embeddings.copy_(vectors)
        elif config.num_groups is None and config.labels_per_group > 1:
            logger.warning(
                f"`num_groups` is null, so there are {config.num_queries} queries for {config.num_labels} labels, and "
                f"{config.labels_per_group} labels share one; `num_groups: {config.num_labels}` has one for each."
            )

    def _take_labels(self, names: Sequence[str], rows: list[int | None]) -> None:
        """The words of labels that stay are kept; those of new ones come from `config.label_embeddings`."""
        config, old = self.config, self.word_embeddings
        new = [name for name, row in zip(names, rows, strict=True) if row is None]
        if new and config.label_embeddings == "orthogonal":
            raise ValueError(
                f"This model cannot be asked about {shorten(new)}, only about some of its labels, "
                f"{shorten(config.label_names, 8)}: its `label_embeddings: orthogonal` know nothing of words. Train "
                "with those of GloVe."
            )
        is_new = torch.tensor([row is None for row in rows], device=old.device)
        vectors = old.new_empty(len(names), config.word_embedding_dim)
        vectors[~is_new] = old[[row for row in rows if row is not None]]
        if new:
            vectors[is_new] = label_embeddings(new, config.label_embeddings, config.word_embedding_dim).to(old)
        self.word_embeddings = vectors

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        config = self.config
        if (
            module is self.classifier
        ):  # Xavier's rule for the classifiers of all groups, in the authors' code one tensor
            num_groups = 1 if config.queries == "words" else config.num_queries
            fan_in_and_out = config.labels_per_group * (config.representation_dim + num_groups)
            init.normal_(module.weight, std=math.sqrt(2 / fan_in_and_out))
            init.zeros_(module.bias)
        elif module is self and config.queries == "words":  # usable without priors: unrelated words
            vectors = label_embeddings(config.label_names, "orthogonal", config.word_embedding_dim)
            init.copy_(self.word_embeddings, vectors)
