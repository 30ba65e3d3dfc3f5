"""Large Loss Matters in Weakly Supervised Multi-Label Classification (Kim et al., CVPR 2022).

https://arxiv.org/abs/2206.03740
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.images.training_images import TrainingImages
from ..distributed import gather_rows
from ..labels import POSITIVE, UNKNOWN
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import CompletedLabels, Objective, ObjectiveOutput, logits_of, sum_of_terms
from ..ranges import number
from ..schedules import Progress

Scheme = Literal["LL-R", "LL-Ct", "LL-Cp"]


@dataclass(frozen=True, kw_only=True)
class LargeLossObjectiveConfig:
    """Settings of LargeLoss.

    scheme: unknown labels of the largest losses are rejected ("LL-R"), corrected to present in this step ("LL-Ct"),
        or from now on ("LL-Cp").
    rate: part of the labels of a batch that is treated so, `Delta_rel`; with LL-R and LL-Ct it grows by as much in
        each epoch. None in the first epoch.
    strict: LL-Cp remembers the labels above the smallest large loss, one fewer than it corrects in the step (authors'
        code), or all of them (that of BoostLU).
    """

    scheme: Scheme = "LL-R"
    rate: float = number("[0, 1]", 0.002)  # the authors' help text lists 0.1 to 0.5 percent
    strict: bool = True

    @property
    def begins(self) -> dict[str, tuple[int, str]]:
        return {"rate": (1, "large losses")}

    def num_large(self, progress: Progress, num_entries: int) -> int:
        """The number of entries of a batch whose losses count as large."""
        epoch = math.floor(progress.epoch)
        rate = self.rate * (min(epoch, 1) if self.scheme == "LL-Cp" else epoch)
        return min(math.ceil(round(rate * num_entries, 6)), num_entries)  # rounded: 3 * 0.002 is above 0.006


def large_losses(losses: Tensor, unknown: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The unknown entries of the largest losses.

    Args:
        losses, unknown: `(batch_size, num_labels)`.
        count: how many; with fewer unknown entries these are all of them.

    Returns:
        Two `(batch_size, num_labels)` booleans: at least as large as the `count`-th largest one, ties included, which
        is what this step treats, and larger, which is what LL-Cp remembers where it is strict.
    """
    candidates = losses.detach().masked_fill(~unknown, 0)
    threshold = candidates.flatten().topk(count).values[-1]
    return unknown & (candidates >= threshold), unknown & (candidates > threshold)


def large_loss(logits: Tensor, labels: Tensor, scheme: Scheme, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """BCE of every entry with unknown labels as absent, except for those of the `count` largest losses.

    Returns:
        The losses, and the two masks of `large_losses`.
    """
    losses = F.binary_cross_entropy_with_logits(logits, labels.eq(POSITIVE).to(logits.dtype), reduction="none")
    if count == 0:
        none = torch.zeros_like(labels, dtype=torch.bool)
        return losses, none, none
    large, larger = large_losses(losses, labels.eq(UNKNOWN), count)
    if scheme == "LL-R":
        return losses.masked_fill(large, 0), large, larger
    return torch.where(large, F.softplus(-logits), losses), large, larger


class LargeLossObjective(Objective):
    """Treats unknown labels with a large loss as probably present; LL-Cp remembers them."""

    config_class = LargeLossObjectiveConfig
    config: LargeLossObjectiveConfig

    def prepare(self, images: TrainingImages) -> None:
        if self.config.scheme == "LL-Cp":
            self.register_buffer("corrected", torch.zeros(images.labels.shape, dtype=torch.uint8))  # (N, C)

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        logits = logits_of(model, batch["pixel_values"])  # (B, C)
        config, labels = self.config, batch["labels"]
        if config.scheme == "LL-Cp":
            remembered = self.remembered("corrected")[batch["index"]]
            labels = labels.masked_fill(labels.eq(UNKNOWN) & remembered.ne(0), POSITIVE)
        count = config.num_large(progress, labels.numel())
        losses, large, larger = large_loss(logits, labels, config.scheme, count)
        if config.scheme == "LL-Cp" and count:
            self.remember(batch["index"], larger if config.strict else large)
        pseudo_labels = {} if config.scheme == "LL-R" else {"corrected": labels.masked_fill(large, POSITIVE)}
        return sum_of_terms({"bce": losses.mean()}, logits=logits, pseudo_labels=pseudo_labels)

    def completed_labels(self, labels: Tensor) -> CompletedLabels | None:
        if self.config.scheme != "LL-Cp":
            return None
        corrected = self.remembered("corrected").to(labels.device).ne(0)
        return CompletedLabels(labels.masked_fill(labels.eq(UNKNOWN) & corrected, POSITIVE))

    @torch.no_grad()
    def remember(self, index: Tensor, corrected: Tensor) -> None:
        """Note the corrections of all processes.

        Counted, because an image may be in the batch of two processes at the end of an epoch, and then both count.
        """
        rows, corrected = gather_rows(index), gather_rows(corrected.to(torch.uint8))
        self.remembered("corrected").index_add_(0, rows, corrected)
