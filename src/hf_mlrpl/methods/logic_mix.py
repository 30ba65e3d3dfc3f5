"""LogicMix (Chong et al., https://arxiv.org/abs/2405.15860): means of images, with the logical OR of their labels."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..labels import NEGATIVE, POSITIVE, UNKNOWN
from ..losses import focal_loss
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import Objective, ObjectiveOutput, logits_of, sum_of_terms
from ..ranges import number
from ..schedules import Progress


@dataclass(frozen=True, kw_only=True)
class LogicMixObjectiveConfig:
    """Settings of LogicMix: how images are mixed, and an asymmetric loss for plain and one for mixed images.

    probability: of an image to be mixed with others of its batch.
    min_images, max_images: bounds of the number of images in a mixture, that image included.
    gamma_positive, gamma_negative, clip: of the asymmetric loss of single images; all zeros are cross-entropy.
    mixed_gamma_positive, mixed_gamma_negative, mixed_clip: the same for mixtures, which have more positives.
    detach_focus: no gradient through the focusing factor.
    """

    probability: float = number("[0, 1]", 0.5)
    min_images: int = number("[1, 1000]", 2)
    max_images: int = number("[1, 1000]", 3)
    gamma_positive: float = number("[0, 100]", 0.0)
    gamma_negative: float = number("[0, 100]", 4.0)
    clip: float = number("[0, 1)", 0.05)
    mixed_gamma_positive: float = number("[0, 100]", 4.0)
    mixed_gamma_negative: float = number("[0, 100]", 0.0)
    mixed_clip: float = number("[0, 1)", 0.0)
    detach_focus: bool = True

    needs_negatives: ClassVar[bool] = True

    def __post_init__(self):
        if not 1 <= self.min_images <= self.max_images:
            raise ValueError(
                f"`min_images` must lie between 1 and `max_images`, got {self.min_images} and {self.max_images}."
            )


def draw_shares(batch_size: int, config: LogicMixObjectiveConfig, device: torch.device) -> Tensor:
    """Share of every image of the batch in every mixture, `(batch_size, batch_size)`; rows add up to 1.

    An image is mixed with random ones of the batch, among them now and then itself, or stays alone.
    """
    is_mixed = torch.rand(batch_size, device=device) < config.probability
    num_images = torch.randint(config.min_images, config.max_images + 1, (batch_size,), device=device)
    num_images = num_images.where(is_mixed, 1).unsqueeze(1)
    partners = torch.randint(batch_size, (batch_size, config.max_images), device=device)
    partners[:, 0] = torch.arange(batch_size, device=device)
    used = torch.arange(config.max_images, device=device) < num_images
    return torch.zeros(batch_size, batch_size, device=device).scatter_add_(1, partners, used / num_images)


def mix_labels(labels: Tensor, shares: Tensor) -> Tensor:
    """Logical OR of the labels of each mixture: present if one is, absent if all are, else unknown.

    Args:
        labels: `(batch_size, num_labels)` in {-1, 0, +1}.
        shares: `(num_mixtures, batch_size)`, 0 where an image is not in a mixture.
    """
    members = shares.gt(0).float()
    present = members @ labels.eq(POSITIVE).float() > 0
    absent = members @ labels.ne(NEGATIVE).float() == 0
    return present.to(labels.dtype) - absent.to(labels.dtype)


class LogicMixObjective(Objective):
    """Asymmetric loss over the known labels, with other exponents for mixtures than for single images.

    The loss of an image is a sum over its known labels.
    """

    config_class = LogicMixObjectiveConfig
    config: LogicMixObjectiveConfig
    needs_pixels = True

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        config, pixel_values = self.config, batch["pixel_values"]
        with torch.autocast(pixel_values.device.type, enabled=False):
            shares = draw_shares(len(pixel_values), config, pixel_values.device)
            labels = mix_labels(batch["labels"], shares)
            mixtures = torch.einsum("mb,bchw->mchw", shares.to(pixel_values.dtype), pixel_values)
        logits = logits_of(model, mixtures)  # (B, C), of the mixtures
        losses = self.losses(logits, labels, is_mixed=shares.diagonal().lt(1).unsqueeze(1))
        return sum_of_terms({"known": losses.sum(dim=1).mean()}, logits=logits)

    def losses(self, logits: Tensor, labels: Tensor, is_mixed: Tensor) -> Tensor:
        """Losses of all entries, 0 where unknown; `is_mixed` is `(batch_size, 1)`."""
        config, targets = self.config, labels.eq(POSITIVE).to(logits.dtype)
        single = focal_loss(
            logits,
            targets,
            gamma_positive=config.gamma_positive,
            gamma_negative=config.gamma_negative,
            clip=config.clip,
            detach_focus=config.detach_focus,
        )
        mixed = focal_loss(
            logits,
            targets,
            gamma_positive=config.mixed_gamma_positive,
            gamma_negative=config.mixed_gamma_negative,
            clip=config.mixed_clip,
            detach_focus=config.detach_focus,
        )
        return torch.where(is_mixed, mixed, single).masked_fill(labels.eq(UNKNOWN), 0)
