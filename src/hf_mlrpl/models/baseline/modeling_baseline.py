from torch import Tensor

from ..modeling_utils import MultiLabelPreTrainedModel
from ..parts.backbone import Backbone
from ..parts.label_classifier import LabelClassifier
from ..parts.pooling import of_the_mean
from .configuration_baseline import BaselineConfig


class BaselineForMultiLabelClassification(MultiLabelPreTrainedModel):
    """The network under every method that is only a loss."""

    config_class = BaselineConfig
    config: BaselineConfig

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        self.backbone = Backbone(config)
        self.classifier = LabelClassifier(config.num_labels, self.backbone.num_features)
        self.post_init()

    @of_the_mean
    def represent(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """The mean of the feature map, which all labels share, `(batch_size, 1, num_features)`."""
        return features.unsqueeze(1), None

    def classify(self, representations: Tensor) -> Tensor:
        return self.classifier(representations)
