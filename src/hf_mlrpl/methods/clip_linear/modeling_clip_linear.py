import torch
from torch import Tensor

from ...losses import at_least_float32
from ...models.parts.label_classifier import LabelClassifier
from ..two_logits import TwoLogitsModel, maps_of
from .configuration_clip_linear import ClipLinearConfig


class ClipLinearForMultiLabelClassification(TwoLogitsModel):
    """Two linear classifiers for each label, of absence and of presence, on the regions of frozen CLIP."""

    config_class = ClipLinearConfig
    config: ClipLinearConfig

    def __init__(self, config: ClipLinearConfig):
        super().__init__(config)
        self.negative_classifier = LabelClassifier(config.num_labels, config.embed_dim)
        self.positive_classifier = LabelClassifier(config.num_labels, config.embed_dim)
        self.post_init()

    def represent(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The regions where each classifier looks: weighted by a softmax of what it says about them.

        Returns:
            Representations `(batch_size, num_labels, 2 * embed_dim)`, those for the negative classifier first, and
            the attention maps of the positive one without the mean region.
        """
        regions = self.backbone.regions(features)  # (B, 1 + H * W, D)
        with torch.autocast(regions.device.type, enabled=False):
            regions = at_least_float32(regions if self.config.include_mean_token else regions[:, 1:])
            positive = (self.positive_classifier.weight @ regions.mT).softmax(dim=-1)  # (B, C, R)
            negative = positive
            if not self.config.shared_weights:
                negative = (self.negative_classifier.weight @ regions.mT).softmax(dim=-1)
            return torch.cat([negative @ regions, positive @ regions], dim=-1), maps_of(positive, features)

    def two_logits(self, representations: Tensor) -> Tensor:
        """What the classifiers say about the mean regions is the mean of what they say about the regions."""
        negative, positive = representations.chunk(2, dim=-1)
        logits = [self.negative_classifier(negative), self.positive_classifier(positive)]
        return self.config.scale * torch.stack(logits, dim=1)
