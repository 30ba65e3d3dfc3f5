import math

import torch
from torch import Tensor, nn

from ...losses import at_least_float32
from ...models.parts.backbone import keep_own_init
from ...models.parts.label_classifier import LabelClassifier
from ..query2label.modeling_query2label import Query2LabelForMultiLabelClassification
from .configuration_mime import MimeConfig


class MimeForMultiLabelClassification(Query2LabelForMultiLabelClassification):
    """Query2Label with a normal distribution of the vector of each label: the classifiers see samples of it in
    training, and its mean at inference."""

    config_class = MimeConfig
    config: MimeConfig

    def __init__(self, config: MimeConfig):
        super().__init__(config)
        dim = config.representation_dim
        self.bottleneck = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 2 * config.latent_dim))
        keep_own_init(self.bottleneck)
        self.classifier = LabelClassifier(config.num_labels, config.latent_dim)
        self.post_init()

    def latents(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and standard deviation of each label, `(batch_size, num_labels, latent_dim)` in at least float32, and
        where it looks."""
        found, attention_maps = super().represent(features)
        mean, log_variance = at_least_float32(self.bottleneck(found)).chunk(2, dim=-1)
        return mean, (log_variance / 2).clamp(-6, 6).exp(), attention_maps

    def sample(self, mean: Tensor, std: Tensor) -> Tensor:
        """The mean of `num_samples` samples, which is normally distributed, too."""
        return mean + std * torch.randn_like(std) / math.sqrt(self.config.num_samples)

    def represent(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of each label, or at inference, on request, of its samples; and where it looks."""
        mean, std, attention_maps = self.latents(features)
        samples = self.config.sample_at_inference and not self.training
        return self.sample(mean, std) if samples else mean, attention_maps
