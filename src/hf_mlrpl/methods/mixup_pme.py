"""MixUp-PME (Dong et al., CVPR Workshops 2022, https://arxiv.org/abs/2204.08954): MixUp with partial labels."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..labels import UNKNOWN
from ..losses import focal_loss
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import Objective, ObjectiveOutput, logits_of, sum_of_terms
from ..ranges import number
from ..schedules import Progress


@dataclass(frozen=True, kw_only=True)
class MixupPmeObjectiveConfig:
    """Settings of MixUp-PME.

    min_share: the share of an image in its mixture is drawn uniformly between this and 1.
    gamma_positive, gamma_negative, clip: of an asymmetric loss; all zeros are cross-entropy.
    detach_focus: no gradient through the focusing factor.
    """

    min_share: float = number("[0, 1]", 0.75)
    gamma_positive: float = number("[0, 100]", 0.0)
    gamma_negative: float = number("[0, 100]", 0.0)
    clip: float = number("[0, 1)", 0.0)
    detach_focus: bool = True

    needs_negatives: ClassVar[bool] = True


def mix_targets(labels: Tensor, partner_labels: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Soft targets of mixtures, and the mask of the entries that count.

    An unknown label counts as 1/2, the most uncertain target, which is the mean of absent and present: so labels in
    {-1, 0, +1} are mixed as they are. Entries that are unknown in the first image do not count.

    Args:
        labels, partner_labels: `(batch_size, num_labels)` in {-1, 0, +1}.
        shares: `(batch_size, 1)`, of the first image.

    Returns:
        Two `(batch_size, num_labels)` tensors: targets in [0, 1], and booleans.
    """
    return (1 + shares * labels + (1 - shares) * partner_labels) / 2, labels.ne(UNKNOWN)


class MixupPmeObjective(Objective):
    """Mean of cross-entropy, or of an asymmetric loss, over the entries of the mixtures that count."""

    config_class = MixupPmeObjectiveConfig
    config: MixupPmeObjectiveConfig
    needs_pixels = True

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        config, pixel_values, labels = self.config, batch["pixel_values"], batch["labels"]
        batch_size, device = len(pixel_values), pixel_values.device
        shares = torch.empty(batch_size, 1, device=device).uniform_(config.min_share, 1)
        partners = torch.randint(batch_size, (batch_size,), device=device)
        targets, known = mix_targets(labels, labels[partners], shares)
        mixtures = torch.lerp(pixel_values[partners], pixel_values, shares.to(pixel_values.dtype)[..., None, None])
        logits = logits_of(model, mixtures)  # (B, C), of the mixtures
        losses = focal_loss(
            logits,
            targets.to(logits.dtype),
            gamma_positive=config.gamma_positive,
            gamma_negative=config.gamma_negative,
            clip=config.clip,
            detach_focus=config.detach_focus,
        )
        loss = losses.masked_fill(~known, 0).sum() / known.sum().clamp(min=1)
        return sum_of_terms({"known": loss}, logits=logits)
