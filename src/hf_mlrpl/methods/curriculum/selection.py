"""The strategies of curriculum labeling: how a model says of which unknown labels it is sure."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ...ranges import number

Strategy = Literal[
    "score_threshold", "score_proportion", "positives_only", "uncertainty", "loss", "all", "visual_proportion"
]
# Of the comparison in the paper; it has none for "loss".
THRESHOLDS = {"score_threshold": 2.0, "score_proportion": 0.8, "positives_only": 5.0, "uncertainty": 0.3}


@dataclass(frozen=True, kw_only=True)
class CurriculumObjectiveConfig:
    """Settings of curriculum labeling: which labels are completed and when, and the loss.

    strategy: which unknown labels are completed, see `select_labels`.
    threshold: of the strategy; by default the one of the paper's comparison, 2, 0.8, 5 or 0.3.
    positive_proportion, negative_proportion: of "visual_proportion", parts of the unknown labels.
    scope: the strategies with proportions rank the unknown labels of a "batch" of images, or of the whole "dataset".
    relabel_after: numbers of epochs after which labels are completed.
    relabel: a completed label stays ("permanent"), or each round starts again from the known ones ("from_observed").
    dropout, num_samples: of "uncertainty", of the pooled features: in training, and for this many predictions.
    alpha, beta, gamma: of the loss, see `hf_mlrpl.losses.normalized_partial_bce`; completed labels count as known.
    """

    strategy: Strategy = "score_threshold"
    threshold: float | None = number("(0, 1e6]", None)
    positive_proportion: float = number("[0, 1]", 0.044)
    negative_proportion: float = number("[0, 1]", 0.78)
    scope: Literal["batch", "dataset"] = "batch"
    relabel_after: tuple[int, ...] = number("[1, 1e6]", (10, 15))  # three rounds of 10, 5 and 5 epochs
    relabel: Literal["permanent", "from_observed"] = "permanent"
    dropout: float = number("(0, 1)", 0.5)
    num_samples: int = number("[2, 1e6]", 10)
    alpha: float = number("[-1e6, 1e6]", -4.45)
    beta: float = number("[-1e6, 1e6]", 5.45)
    gamma: float = number("[-100, 100]", 1.0)

    needs_negatives: ClassVar[bool] = True

    @property
    def begins(self) -> dict[str, tuple[int, str]]:
        return {"relabel_after": (min(self.relabel_after), "completed labels")} if self.relabel_after else {}

    def __post_init__(self):
        epochs = list(self.relabel_after)
        if not all(isinstance(epoch, int) for epoch in epochs) or epochs != sorted({*epochs}):
            raise ValueError(f"`relabel_after` must be rising numbers of epochs, such as [10, 15], got {epochs}.")
        if self.strategy == "loss" and self.threshold is None:
            raise ValueError("The strategy 'loss' has no published `threshold`: give one, such as 0.1.")
        if self.strategy == "score_proportion" and (self.threshold or 0) > 1:
            raise ValueError(f"`threshold` of 'score_proportion' is a part, at most 1, got {self.threshold}.")
        proportions = (self.positive_proportion, self.negative_proportion)
        if sum(proportions) > 1:
            raise ValueError(
                f"`positive_proportion` and `negative_proportion` must add up to at most 1, got {proportions}."
            )


def select_labels(samples: Tensor, unknown: Tensor, config: CurriculumObjectiveConfig) -> Tensor:
    """Labels of the unknown entries that the model is sure of, by `config.strategy`:

    - "score_threshold": a logit from the threshold on means present, one below minus the threshold absent.
    - "score_proportion": this part of the unknown labels, those with the largest absolute logits, gets their sign.
    - "positives_only": a logit from the threshold on means present.
    - "uncertainty": logits whose standard deviation over the samples is at most the threshold get their sign.
    - "loss": the sign, where its own loss is at most the threshold (self-paced learning).
    - "all": the sign, everywhere (bootstrapping).
    - "visual_proportion": the highest logits mean present and the lowest ones absent, by two proportions.

    A number of labels is rounded down, of equal logits the first count, and a logit of 0 means absent.

    Args:
        samples: `(num_images, num_samples, num_labels)` logits; what counts is their mean over the samples.
        unknown: `(num_images, num_labels)` booleans.

    Returns:
        `(num_images, num_labels)` int8 in {-1, 0, +1}, 0 where nothing is selected.
    """
    threshold = THRESHOLDS.get(config.strategy, 0.0) if config.threshold is None else config.threshold
    logits, num_unknown = samples.mean(dim=1), int(unknown.sum())
    present = logits > 0
    match config.strategy:
        case "score_threshold":
            sure = (logits >= threshold) | (logits < -threshold)
        case "score_proportion":
            sure = _largest(logits.abs(), unknown, int(num_unknown * threshold))
        case "positives_only":
            sure = logits >= threshold
        case "uncertainty":
            sure = samples.std(dim=1, correction=0) <= threshold
        case "loss":
            sure = F.softplus(-logits.abs()) <= threshold
        case "all":
            sure = torch.ones_like(unknown)
        case "visual_proportion":
            present = _largest(logits, unknown, int(num_unknown * config.positive_proportion))
            absent = _largest(-logits, unknown & ~present, int(num_unknown * config.negative_proportion))
            sure = present | absent
    return torch.where(present, 1, -1).where(unknown & sure, 0).to(torch.int8)


def _largest(scores: Tensor, among: Tensor, count: int) -> Tensor:
    """Mask of the `count` largest scores where `among` is true."""
    places = among.flatten().nonzero().squeeze(1)
    order = scores.flatten()[places].argsort(descending=True, stable=True)
    return torch.zeros_like(among).flatten().index_fill(0, places[order[:count]], True).view_as(among)
