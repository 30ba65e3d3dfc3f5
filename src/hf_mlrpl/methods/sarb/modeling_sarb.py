from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import initialization as init

from ..ssgrl.modeling_ssgrl import SsgrlForMultiLabelClassification
from .configuration_sarb import SarbConfig


class BlendingCoefficients(nn.Module):
    """The share of an image's own representation when it is blended; scalars.

    Training only: inference never looks at them.

    Attributes:
        alpha: when it is blended with that of another image.
        beta: when it is blended with a prototype.
    """

    def __init__(self, config: SarbConfig):
        super().__init__()
        self.initial_values = (config.initial_alpha, config.initial_beta)
        self.alpha = nn.Parameter(torch.empty(()), requires_grad=config.train_alpha)
        self.beta = nn.Parameter(torch.empty(()), requires_grad=config.train_beta)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for coefficient, value in zip((self.alpha, self.beta), self.initial_values, strict=True):
            init.constant_(coefficient, value)

    @torch.no_grad()
    def clamp_(self) -> None:
        """Bring both back to [0, 1]; an optimizer does not know that they are shares."""
        self.alpha.clamp_(0, 1)
        self.beta.clamp_(0, 1)


class SarbForMultiLabelClassification(SsgrlForMultiLabelClassification):
    """SSGRL with two blending coefficients; at inference it is SSGRL."""

    config_class = SarbConfig
    config: SarbConfig

    def __init__(self, config: SarbConfig):
        super().__init__(config)
        self.coefficients = BlendingCoefficients(config)
        self.post_init()

    def classify(self, representations: Tensor, differing: Sequence[Tensor] = ()) -> Tensor:
        """Logits after the labels exchanged messages.

        Args:
            differing: the labels that the last groups of images do not share with the first ones, see `GatedGnn`.
        """
        return self.classifier(self.interact(representations, differing))
