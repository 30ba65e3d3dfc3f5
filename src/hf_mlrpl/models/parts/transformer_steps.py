"""Steps of the layers of transformers, by which queries of labels look at the cells of a feature map.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017; positions and queries are added as in DETR (ECCV 2020).
"""

from torch import Tensor, nn


class Residual(nn.LayerNorm):
    """The way around a step: what the step makes is added to its input, with dropout.

    The sum is normalised behind the step or, with `pre_norm`, its input in front of it.
    """

    def __init__(self, dim: int, dropout: float = 0.0, pre_norm: bool = False):
        super().__init__(dim)
        self.dropout, self.pre_norm = nn.Dropout(dropout), pre_norm

    def enter(self, states: Tensor) -> Tensor:
        """What the step sees of `states`."""
        return self(states) if self.pre_norm else states

    def leave(self, states: Tensor, change: Tensor) -> Tensor:
        """`states` behind the step, which made `change` of them."""
        total = states + self.dropout(change)
        return total if self.pre_norm else self(total)


class MultiHeadAttention(nn.MultiheadAttention):
    """That of torch, initialised as there: models here call `reset_parameters` of each module once more."""

    def reset_parameters(self) -> None:
        self._reset_parameters()


class AttentionStep(nn.Module):
    """States attend to the cells of a map, or to each other."""

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0, pre_norm: bool = False):
        super().__init__()
        self.attention = MultiHeadAttention(dim, num_heads, dropout, batch_first=True)
        self.residual = Residual(dim, dropout, pre_norm)

    def forward(
        self,
        states: Tensor,
        places: Tensor | float = 0.0,
        keys: Tensor | None = None,
        values: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Add to each state what it attends to.

        Args:
            states: `(batch_size, num_states, dim)`.
            places: positions or queries, added to the states where they are compared, but not to what they give.
            keys, values: `(batch_size, num_cells, dim)`, of a map; by default those of the states.

        Returns:
            The new states, and their attention, `(batch_size, num_states, num_cells)`: a mean over the heads, which
            sums to 1 over the cells.
        """
        seen = self.residual.enter(states)
        asking = seen + places
        keys, values = asking if keys is None else keys, seen if values is None else values
        found, attention = self.attention(asking, keys, values)
        return self.residual.leave(states, found), attention


class FeedForwardStep(nn.Module):
    """Two linear layers for each state by itself."""

    def __init__(self, dim: int, hidden_dim: int, dropout: float = 0.0, pre_norm: bool = False):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden_dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden_dim, dim)
        )
        self.residual = Residual(dim, dropout, pre_norm)

    def forward(self, states: Tensor) -> Tensor:
        """Map `(batch_size, num_states, dim)` to new states of the same shape."""
        return self.residual.leave(states, self.layers(self.residual.enter(states)))
