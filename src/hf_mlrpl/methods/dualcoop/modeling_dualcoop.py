import torch
import torch.nn.functional as F
from torch import Tensor

from ...clip.modeling_clip import ClipPromptModel
from ...clip.prompts import PromptLearner, features_of_prompts
from ...losses import at_least_float32
from ..two_logits import TwoLogitsModel, maps_of
from .configuration_dualcoop import DualCoOpConfig


class DualCoOpForMultiLabelClassification(TwoLogitsModel, ClipPromptModel):
    """Two prompts for each label, one that it is absent and one that it is present, and the regions of frozen CLIP."""

    config_class = DualCoOpConfig
    config: DualCoOpConfig

    def __init__(self, config: DualCoOpConfig):
        super().__init__(config)
        self.make_prompts(config)
        self.post_init()

    def make_prompts(self, config: DualCoOpConfig) -> None:
        """Make what `compute_label_vectors` needs."""
        self.negative_prompts = PromptLearner.from_config(config)
        self.positive_prompts = PromptLearner.from_config(config)

    def represent(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The regions where each label looks: class-specific region feature aggregation.

        Returns:
            Representations `(batch_size, num_labels, embed_dim)`, and attention maps without the mean region, so that
            they sum to less than 1.
        """
        regions = self.backbone.regions(features)  # (B, 1 + H * W, D)
        representations, weights = self.attend(regions if self.config.include_mean_token else regions[:, 1:])
        return representations, maps_of(weights, features)

    def attend(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Add up the regions of an image for each label, weighted by how well they fit its positive prompt.

        Args:
            regions: `(batch_size, num_regions, embed_dim)`.

        Returns:
            Sums of unit vectors, `(batch_size, num_labels, embed_dim)`, and the weights, `(batch_size, num_labels,
            num_regions)`, both in float32 also under autocast.
        """
        _, positive = self.label_vectors().chunk(2)  # (C, D)
        with torch.autocast(regions.device.type, enabled=False):
            regions = F.normalize(at_least_float32(regions), dim=-1)
            weights = (self.config.region_scale * positive @ regions.mT).softmax(dim=-1)  # (B, C, R)
            return weights @ regions, weights

    def two_logits(self, representations: Tensor) -> Tensor:
        """Scaled products with the negative and with the positive prompt, `(batch_size, 2, num_labels)`."""
        vectors = self.label_vectors().unflatten(0, (2, -1))  # (2, C, D)
        with torch.autocast(representations.device.type, enabled=False):
            return self.config.scale * torch.einsum("bcd,kcd->bkc", at_least_float32(representations), vectors)

    def compute_label_vectors(self) -> Tensor:
        """Unit vectors of the negative prompts, then of the positive ones, `(2 * num_labels, embed_dim)`."""
        vectors = features_of_prompts(self.text_encoder, self.negative_prompts, self.positive_prompts)
        return F.normalize(at_least_float32(vectors), dim=-1)
