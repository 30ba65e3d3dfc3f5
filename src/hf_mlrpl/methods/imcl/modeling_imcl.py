import numpy as np
import torch
from torch import Tensor, nn
from transformers import initialization as init

from ...data.images.training_images import TrainingImages
from ...models.baseline.modeling_baseline import BaselineForMultiLabelClassification
from ...models.priors.cooccurrence import cooccurrence_graph
from .configuration_imcl import ImclConfig


class ClassGraph(nn.Module):
    """How much labels give to each other, by which those of dictionary images complete each other.

    Training only: inference never looks at it.

    Attributes:
        weight: `(num_labels, num_labels)`; column j says how much each label gives to label j.
        pattern: where the graph may differ from 0.
    """

    pattern: Tensor

    def __init__(self, num_labels: int, is_trained: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_labels, num_labels), requires_grad=is_trained)
        self.register_buffer("pattern", torch.empty(num_labels, num_labels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.copy_(self.weight, torch.eye(len(self.weight)))
        init.copy_(self.pattern, torch.eye(len(self.weight)))

    def forward(self, labels: Tensor) -> Tensor:
        """What `(..., num_labels)` labels become along the graph."""
        return labels @ (self.weight * self.pattern)


class ImclForMultiLabelClassification(BaselineForMultiLabelClassification):
    """The baseline with a class graph; at inference it is the baseline."""

    config_class = ImclConfig

    config: ImclConfig

    def __init__(self, config: ImclConfig):
        super().__init__(config)
        config.representation_dim = self.backbone.num_features
        self.class_graph = ClassGraph(config.num_labels, is_trained=config.class_graph == "cooccurrence")
        self.post_init()

    @torch.no_grad()
    def fill_priors(self, labels: np.ndarray | None, images: TrainingImages | None) -> None:
        """The class graph from the known training labels; what a warm start gave stays as it was learned."""
        if self.config.class_graph == "identity":
            return
        if labels is None:
            raise ValueError("The class graph comes from the training labels: `set_priors` needs `labels`.")
        graph = cooccurrence_graph(labels, names=self.config.label_names).to(self.class_graph.weight)
        is_learned = self._learned_entries()
        self.class_graph.weight.copy_((graph / graph.sum(dim=0)).where(~is_learned, self.class_graph.weight))
        self.class_graph.pattern.copy_(graph.gt(0) | is_learned)

    def _learned_entries(self) -> Tensor:
        """`(num_labels, num_labels)`: between which labels the graph is that of the tagger training started from."""
        start = self.warm_start
        has_graph = start is not None and "class_graph.weight" in (*start.loaded, *start.by_label)
        kept = start.kept_labels if start is not None and has_graph else []
        is_kept = torch.tensor([name in kept for name in self.config.label_names])
        return (is_kept[:, None] & is_kept).to(self.class_graph.weight.device)
