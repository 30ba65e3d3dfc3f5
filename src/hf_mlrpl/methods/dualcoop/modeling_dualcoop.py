import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

from ...clip.modeling_clip import ClipPromptModel
from ...clip.prompts import PromptLearner, features_of_prompts
from ...losses import at_least_float32
from ..two_logits import TwoLogitsModel, maps_of
from .configuration_dualcoop import DualCoOpConfig


class DualCoOpForMultiLabelClassification(TwoLogitsModel, ClipPromptModel):
    """Two prompts for each label, one that it is absent and one that it is present, and the regions of frozen CLIP.

    Attributes:
        log_region_scale, log_scale: logarithms of the factors of the cosines, where they are learned.
    """

    config_class = DualCoOpConfig
    config: DualCoOpConfig

    def __init__(self, config: DualCoOpConfig):
        super().__init__(config)
        if not config.positional_embedding:
            self.backbone.network.head.pos_embed.requires_grad_(False)
        self.make_prompts(config)
        if config.learn_scales:
            self.log_region_scale = nn.Parameter(torch.empty(()))
            self.log_scale = nn.Parameter(torch.empty(()))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self and self.config.learn_scales:
            init.constant_(self.log_region_scale, math.log(self.config.region_scale))
            init.constant_(self.log_scale, math.log(self.config.scale))

    @property
    def region_scale(self) -> Tensor | float:
        """Factor of the cosines whose softmax weighs the regions."""
        return self.log_region_scale.exp() if self.config.learn_scales else self.config.region_scale

    @property
    def scale(self) -> Tensor | float:
        """Factor of the cosines that gives the logits."""
        return self.log_scale.exp() if self.config.learn_scales else self.config.scale

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
        regions = self.backbone.regions(features, self.config.positional_embedding)  # (B, 1 + H * W, D)
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
            weights = (self.region_scale * positive @ regions.mT).softmax(dim=-1)  # (B, C, R)
            return weights @ regions, weights

    def two_logits(self, representations: Tensor) -> Tensor:
        """Scaled products with the negative and with the positive prompt, `(batch_size, 2, num_labels)`."""
        vectors = self.label_vectors().unflatten(0, (2, -1))  # (2, C, D)
        with torch.autocast(representations.device.type, enabled=False):
            return self.scale * torch.einsum("bcd,kcd->bkc", at_least_float32(representations), vectors)

    def compute_label_vectors(self) -> Tensor:
        """Unit vectors of the negative prompts, then of the positive ones, `(2 * num_labels, embed_dim)`."""
        vectors = features_of_prompts(self.text_encoder, self.negative_prompts, self.positive_prompts)
        return F.normalize(at_least_float32(vectors), dim=-1)
