import torch
from torch import Tensor
from torch.nn import functional as F

from ...models.baseline.modeling_baseline import BaselineForMultiLabelClassification
from .configuration_boost_lu import BoostLuConfig


def boost(scores: Tensor, factor: float) -> Tensor:
    """BoostLU: `scores` with the positive ones multiplied by `factor`."""
    return torch.where(scores > 0, factor * scores, scores)


class BoostLuForMultiLabelClassification(BaselineForMultiLabelClassification):
    """The baseline, whose linear layer scores every position; positive scores are boosted before their mean is taken.

    Labels that are taken for absent by mistake leave the scores too low where the object is, not at other places.
    """

    config_class = BoostLuConfig
    config: BoostLuConfig

    def represent(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The scores of each label at all positions, `(batch_size, num_labels, positions)`, and their sigmoid as
        attention maps, `(batch_size, num_labels, map_height, map_width)`."""
        weight, bias = self.classifier.weight, self.classifier.bias
        with torch.autocast(features.device.type, enabled=False):  # as all classifiers
            scores = F.conv2d(features.to(weight.dtype), weight[:, :, None, None], bias)
        return scores.flatten(2), scores.detach().sigmoid()

    def classify(self, representations: Tensor) -> Tensor:
        if self.training and self.config.boost_in == "evaluation":
            return representations.mean(dim=2)
        return boost(representations, self.config.boost).mean(dim=2)
