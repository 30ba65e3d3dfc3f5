import torch
from torch import Tensor, nn
from transformers import initialization as init

from ...models.modeling_utils import MultiLabelPreTrainedModel
from ...models.parts.backbone import Backbone
from ...models.parts.label_classifier import LabelClassifier
from ...models.parts.sine_positions import sine_positions
from ...models.parts.transformer_steps import AttentionStep, FeedForwardStep
from .configuration_query2label import Query2LabelConfig


class EncoderLayer(nn.Module):
    """The cells of a map look at each other."""

    def __init__(self, config: Query2LabelConfig):
        super().__init__()
        dim, how = config.representation_dim, (config.dropout, config.pre_norm)
        self.attend = AttentionStep(dim, config.num_heads, *how)
        self.feed_forward = FeedForwardStep(dim, config.feedforward_dim, *how)

    def forward(self, cells: Tensor, positions: Tensor) -> Tensor:
        """Map `(batch_size, num_cells, dim)` to new cells; `positions`, `(num_cells, dim)`, say where each is."""
        cells, _ = self.attend(cells, positions)
        return self.feed_forward(cells)


class DecoderLayer(nn.Module):
    """Labels look at a map, and on request at each other before."""

    def __init__(self, config: Query2LabelConfig):
        super().__init__()
        dim, how = config.representation_dim, (config.dropout, config.pre_norm)
        self.attend_labels = AttentionStep(dim, config.num_heads, *how) if config.self_attention else None
        self.attend = AttentionStep(dim, config.num_heads, *how)
        self.feed_forward = FeedForwardStep(dim, config.feedforward_dim, *how)

    def forward(self, states: Tensor, queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Look at the map once.

        Args:
            states: `(batch_size, num_labels, dim)`.
            queries: `(num_labels, dim)`, which say what each label looks for.
            keys, values: `(batch_size, num_cells, dim)`, of the map.

        Returns:
            New states, and the attention of the labels, `(batch_size, num_labels, num_cells)`.
        """
        if self.attend_labels is not None:
            states, _ = self.attend_labels(states, queries)
        states, attention = self.attend(states, queries, keys, values)
        return self.feed_forward(states), attention


class Query2LabelForMultiLabelClassification(MultiLabelPreTrainedModel):
    """A transformer whose decoder has a learned query for each label, and one classifier per label."""

    config_class = Query2LabelConfig
    config: Query2LabelConfig

    def __init__(self, config: Query2LabelConfig):
        super().__init__(config)
        self.backbone = Backbone(config)
        num_features = self.backbone.num_features
        if config.representation_dim is None:
            config.representation_dim = num_features
            config.validate_dim()
        dim = config.representation_dim
        self.project = nn.Identity() if dim == num_features else nn.Conv2d(num_features, dim, kernel_size=1)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.encoder_norm = nn.LayerNorm(dim) if config.pre_norm and config.encoder_layers else nn.Identity()
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(dim)
        self.query = nn.Embedding(config.num_labels, dim)
        self.classifier = LabelClassifier(config.num_labels, dim)
        self.post_init()

    def represent(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What each label has found in the map; the attention is that of the last layer."""
        height, width = features.shape[2:]
        cells = self.project(features).flatten(2).transpose(1, 2)  # (B, M, D)
        positions = sine_positions(height, width, cells.shape[2], cells.device).to(cells.dtype)
        for layer in self.encoder:
            cells = layer(cells, positions)
        cells = self.encoder_norm(cells)
        keys, queries = cells + positions, self.query.weight
        states = cells.new_zeros(()).expand(cells.shape[0], *queries.shape)
        for layer in self.decoder:
            states, attention = layer(states, queries, keys, cells)
        return self.decoder_norm(states), attention.unflatten(2, (height, width))

    def classify(self, representations: Tensor) -> Tensor:
        return self.classifier(representations)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Linear) and not hasattr(module, "_keeps_own_init"):  # of the transformer
            init.xavier_uniform_(module.weight)
