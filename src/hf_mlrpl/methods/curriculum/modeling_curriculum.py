import torch
from torch import Tensor, nn
from transformers import initialization as init

from ...losses import at_least_float32
from ...models.baseline.modeling_baseline import BaselineForMultiLabelClassification
from .configuration_curriculum import ScoreGraphConfig


class ScoreGraph(nn.Module):
    """Every label tells every other one its state, which begins as its score; what they end with changes the scores.

    A state is `(0, ..., 0, score)` at first. In each round a label hears the mean of the messages of the others, made
    by a small network, and a gated unit shared by all labels takes it in. The last layer sees the first and the last
    state; it begins at zero, so that a new network leaves the scores as they are.
    """

    def __init__(self, dim: int, time_steps: int):
        super().__init__()
        self.dim, self.time_steps = dim, time_steps
        self.message = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.update = nn.GRUCell(dim, dim)
        self.score = nn.Linear(2 * dim, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.zeros_(self.score.weight)
        init.zeros_(self.score.bias)

    def forward(self, scores: Tensor) -> Tensor:
        """Scores after the messages, `(batch_size, num_labels)`, from scores of the same shape."""
        batch_size, num_labels = scores.shape
        first = torch.cat([scores.new_zeros(batch_size, num_labels, self.dim - 1), scores.unsqueeze(2)], dim=2)
        states = first
        for _ in range(self.time_steps):
            messages = self.message(states)  # (B, C, dim)
            heard = (messages.sum(dim=1, keepdim=True) - messages) / max(1, num_labels - 1)
            states = self.update(heard.flatten(0, 1), states.flatten(0, 1)).view_as(states)
        return scores + self.score(torch.cat([first, states], dim=2)).squeeze(2)


class ScoreGraphForMultiLabelClassification(BaselineForMultiLabelClassification):
    """A backbone, a linear layer, and a graph network over its scores: the labels of an image depend on each other."""

    config_class = ScoreGraphConfig
    config: ScoreGraphConfig

    def __init__(self, config: ScoreGraphConfig):
        super().__init__(config)
        self.score_graph = ScoreGraph(config.node_dim, config.time_steps)
        self.post_init()

    def classify(self, representations: Tensor) -> Tensor:
        """Scores after the labels exchanged messages, in float32 also under autocast."""
        scores = at_least_float32(self.classifier(representations))
        with torch.autocast(scores.device.type, enabled=False):
            return self.score_graph(scores)
