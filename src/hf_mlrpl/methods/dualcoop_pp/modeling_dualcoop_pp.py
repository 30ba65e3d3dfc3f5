import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

from ...clip.modeling_clip import ClipPromptModel
from ...clip.prompts import PromptLearner, features_of_prompts
from ...losses import at_least_float32
from ..two_logits import TwoLogitsModel, maps_of
from .configuration_dualcoop_pp import DualCoOpPpConfig


class DualCoOpPpForMultiLabelClassification(TwoLogitsModel, ClipPromptModel):
    """Three prompts for each label: where there is evidence, that it is absent there, and that it is present.

    Attributes:
        log_region_scale: logarithm of the factor of the cosines whose softmax weighs the regions, where it is learned.
    """

    config_class = DualCoOpPpConfig
    config: DualCoOpPpConfig

    def __init__(self, config: DualCoOpPpConfig):
        super().__init__(config)
        self.backbone.network.head.pos_embed.requires_grad_(False)  # regions do not know where they are
        self.evidence_prompts = PromptLearner.from_config(config)
        self.negative_prompts = PromptLearner.from_config(config)
        self.positive_prompts = PromptLearner.from_config(config)
        if config.learn_region_scale:
            self.log_region_scale = nn.Parameter(torch.empty(()))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self and self.config.learn_region_scale:
            init.constant_(self.log_region_scale, math.log(self.config.region_scale))

    @property
    def region_scale(self) -> Tensor | float:
        """Factor of the cosines whose softmax weighs the regions."""
        return self.log_region_scale.exp() if self.config.learn_region_scale else self.config.region_scale

    def represent(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The regions with evidence of each label, added up for its negative and for its positive prompt.

        Returns:
            Representations `(batch_size, num_labels, 2 * embed_dim)`, those for the negative prompt first, and
            attention maps that sum to 1.
        """
        evidence, _, positive = self.label_vectors().chunk(3)  # (C, D)
        regions = self.backbone.regions(features, positions=False)[:, 1:]  # (B, R, D)
        with torch.autocast(regions.device.type, enabled=False):
            regions = F.normalize(at_least_float32(regions), dim=-1)
            weights = (self.region_scale * evidence @ regions.mT).softmax(dim=-1)  # (B, C, R)
            sides = [(weights * kept) @ regions for kept in self.compete(positive @ regions.mT)]
            return torch.cat(sides, dim=-1), maps_of(weights, features)

    def compete(self, cosines: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """How much each label keeps of each region, in its negative and in its positive logit: winner-take-all.

        Args:
            cosines: those of the positive prompts, `(batch_size, num_labels, num_regions)`.

        Returns:
            Factors of the shape of `cosines`, or 1.
        """
        config = self.config
        if config.competition == "none" or not (self.training or config.competition_in_evaluation):
            return 1.0, 1.0
        positive = self.kept(cosines, cosines.amax(dim=1, keepdim=True))
        negative = self.kept(cosines, cosines.amin(dim=1, keepdim=True)) if config.competing_negatives else 1.0
        return negative, positive

    def kept(self, cosines: Tensor, extremes: Tensor) -> Tensor:
        """What `competition` makes of the softmax over the labels, sharper where `extremes` are further from 0."""
        shares = (self.config.competition_scale * cosines * extremes).softmax(dim=1)
        if self.config.competition == "normalized":
            return shares / shares.amax(dim=1, keepdim=True)
        return 1 + shares if self.config.competition == "added" else shares

    def two_logits(self, representations: Tensor) -> Tensor:
        """Scaled products with the negative and with the positive prompt, `(batch_size, 2, num_labels)`."""
        vectors = self.label_vectors().unflatten(0, (3, -1))[1:]  # (2, C, D)
        with torch.autocast(representations.device.type, enabled=False):
            sides = at_least_float32(representations).unflatten(2, (2, -1))  # (B, C, 2, D)
            return self.config.scale * torch.einsum("bckd,kcd->bkc", sides, vectors)

    def compute_label_vectors(self) -> Tensor:
        """Unit vectors of the evidential, the negative and the positive prompts, `(3 * num_labels, embed_dim)`."""
        learners = self.evidence_prompts, self.negative_prompts, self.positive_prompts
        return F.normalize(at_least_float32(features_of_prompts(self.text_encoder, *learners)), dim=-1)
