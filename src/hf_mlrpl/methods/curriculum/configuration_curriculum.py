from huggingface_hub.dataclasses import strict

from ...models.baseline.configuration_baseline import BaselineConfig
from ...ranges import number


@strict
class ScoreGraphConfig(BaselineConfig):
    """The baseline, and a graph network over its scores.

    node_dim: length of the state of each label.
    time_steps: rounds of messages between all labels.
    """

    model_type = "mlrpl-score-graph"
    earlier_model_type = ""

    node_dim: int = number("[1, 65536]", 10)
    time_steps: int = number("[0, 1000]", 3)
