"""Objective of TaI-DPT: present labels rank above absent ones, by the whole and by the parts."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ...data.captions.caption_tokens import TOKENS
from ...labels import NEGATIVE, POSITIVE
from ...losses import at_least_float32
from ...objective import Objective, ObjectiveOutput, sum_of_terms
from ...ranges import number
from ...schedules import Progress
from .modeling_tai_dpt import TaiDptForMultiLabelClassification


@dataclass(frozen=True, kw_only=True)
class TaiDptObjectiveConfig:
    """Settings of TaI-DPT.

    margin: by which the logit of a present label shall exceed that of an absent one.
    unknown: an unknown label of an image is in no pair ("ignore"), or counts as absent ("negative"). Captions have
        none.
    """

    margin: float = number("[0, 1e4]", 1.0)
    unknown: Literal["ignore", "negative"] = "ignore"

    @property
    def needs_negatives(self) -> bool:
        return self.unknown == "ignore"


def ranking_loss(logits: Tensor, present: Tensor, absent: Tensor, margin: float) -> Tensor:
    """Sum of the hinges `max(0, margin - x_present + x_absent)` over all pairs of a present and an absent label.

    Args:
        present, absent: booleans of the shape of `logits`, `(batch_size, num_labels)`.

    Returns:
        `(batch_size,)`.
    """
    hinges = (margin - logits.unsqueeze(2) + logits.unsqueeze(1)).clamp(min=0)  # (B, present, absent)
    return hinges.where(present.unsqueeze(2) & absent.unsqueeze(1), 0).sum(dim=(1, 2))


class TaiDptObjective(Objective):
    """Ranking of the labels of captions, or, where a batch has them in their place, of images."""

    learns_from_captions = True
    config_class = TaiDptObjectiveConfig
    config: TaiDptObjectiveConfig

    def forward(
        self, model: TaiDptForMultiLabelClassification, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        if TOKENS in batch:
            representations = model.represent_captions(batch[TOKENS])
        else:
            representations, _ = model.represent(model.encode(batch["pixel_values"]))
        both = at_least_float32(model.logits_of_both(representations))  # (B, 2, C)
        present = batch["labels"].eq(POSITIVE)
        absent = ~present if self.config.unknown == "negative" else batch["labels"].eq(NEGATIVE)
        terms = {
            name: ranking_loss(logits, present, absent, self.config.margin).mean()
            for name, logits in zip(("global", "local"), both.unbind(dim=1), strict=True)
        }
        return sum_of_terms(terms, logits=model.merge(both))
