"""Mixup of images, or of their feature maps: two rows in the ablation of SARB (Pu et al., AAAI 2022).

Nothing was published about them but their names and numbers. The mixtures are those of Zhang et al., "mixup: Beyond
Empirical Risk Minimization", ICLR 2018; the rules for partners and for unknown labels are those by which SARB blends.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..labels import POSITIVE, UNKNOWN
from ..losses import Reduction, at_least_float32, partial_bce
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import Objective, ObjectiveOutput, sum_of_terms
from ..ranges import number
from ..schedules import Progress


@dataclass(frozen=True, kw_only=True)
class MixupObjectiveConfig:
    """Settings of the mixtures, and of the loss.

    share: what an image keeps of itself in its mixture; the rest is its partner's.
    beta: draw `share` anew for each batch, from the distribution Beta(beta, beta); by default it stays as it is.
    reduction: how partial BCE is averaged, see `hf_mlrpl.losses.partial_bce`.
    """

    share: float = number("[0, 1]", 0.5)
    beta: float | None = number("(0, 1e6]", None)
    reduction: Reduction = "micro"

    needs_negatives: ClassVar[bool] = True


def with_mixtures(batch: Tensor, share: float) -> Tensor:
    """`batch`, `(batch_size, ...)`, and behind it the mixture of each entry with its partner in the reversed batch.

    In a batch of odd size the middle entry is its own partner.
    """
    return torch.cat([batch, share * batch + (1 - share) * batch.flip(0)])


def mixed_labels(labels: Tensor, share: float) -> Tensor:
    """Labels of the mixtures: an unknown label that the partner shows becomes a soft positive, all others stay.

    Args:
        labels: `(batch_size, num_labels)` in {-1, 0, +1}.

    Returns:
        `(batch_size, num_labels)` in float32: -1, 0, 1, or `1 - share`.
    """
    selected = labels.eq(UNKNOWN) & labels.flip(0).eq(POSITIVE)
    return labels.float().masked_fill(selected, 1 - share)


class MixupObjective(Objective):
    """Partial BCE of the images and of their mixtures, which go through the network as one batch."""

    config_class = MixupObjectiveConfig
    config: MixupObjectiveConfig

    def encode_mixtures(self, model: MultiLabelPreTrainedModel, pixel_values: Tensor, share: float) -> Tensor:
        """Features of the images and, behind them, of their mixtures, `(2 * batch_size, ...)`."""
        raise NotImplementedError(f"{type(self).__name__} must define `encode_mixtures`.")

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        config, labels, share = self.config, batch["labels"], self.config.share
        if config.beta is not None:
            share = torch.distributions.Beta(config.beta, config.beta).sample().item()  # drawn on the CPU
        representations, _ = model.represent(self.encode_mixtures(model, batch["pixel_values"], share))
        logits, mixed_logits = at_least_float32(model.classify(representations)).chunk(2)  # (B, C) each
        terms = {
            "known": partial_bce(logits, labels, config.reduction),
            "mixed": partial_bce(mixed_logits, mixed_labels(labels, share), config.reduction),
        }
        return sum_of_terms(terms, logits=logits)


class IpMixupObjective(MixupObjective):
    """Mixtures of the normalised pixels."""

    needs_pixels = True

    def encode_mixtures(self, model: MultiLabelPreTrainedModel, pixel_values: Tensor, share: float) -> Tensor:
        return model.encode(with_mixtures(pixel_values, share))


class FmMixupObjective(MixupObjective):
    """Mixtures of the feature maps; the backbone runs once."""

    def encode_mixtures(self, model: MultiLabelPreTrainedModel, pixel_values: Tensor, share: float) -> Tensor:
        return with_mixtures(model.encode(pixel_values), share)
