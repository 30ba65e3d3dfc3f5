"""Risk of an unknown label: robust losses of both outcomes, by how likely they are and how far that is trusted.

Chen et al., "Boosting Single Positive Multi-label Classification with Generalized Robust Loss", IJCAI 2024,
https://arxiv.org/abs/2405.03501. The loss GR, and what others build on it.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..labels import UNKNOWN
from ..losses import bounded_log_loss, generalized_cross_entropy
from ..ranges import number
from ..schedules import Progress, share_of_epochs

EPS = 1e-7  # of logarithms, authors' code

Pair = tuple[float, float]


@dataclass(frozen=True)
class Belief:
    """What a score says about an unknown label, in one epoch.

    slope, offset: the label is present with the probability `sigmoid(slope * score + offset)`.
    centre, width: scores near the centre are trusted most, with a weight that is a Gaussian of this width.
    """

    slope: float
    offset: float
    centre: float
    width: float

    def soft_labels(self, scores: Tensor) -> Tensor:
        """Probability that each label is present, `k`."""
        return (self.slope * scores + self.offset).sigmoid()

    def weights(self, scores: Tensor) -> Tensor:
        """Weight of each label, `v`, at most 1."""
        return (-((scores - self.centre) / self.width).square() / 2).exp()


@dataclass(frozen=True, kw_only=True)
class RobustRiskConfig:
    """Settings of the risk of unknown labels. Pairs are a first and a last value, with equal steps between them, one
    each epoch.

    slope, offset: of the soft labels, `w` and `b`.
    centre, width: of the weights, `mu` and `sigma`.
    present_exponent, absent_exponent: of the robust losses of a label that is present and of one that is absent, `q2`
        and `q3`: near 0 cross-entropy, at 1 the absolute error.
    start_epoch: epochs before the first step, in which the authors train the linear layer alone.
    ramp: slope and offset are a step behind centre and width, and never have their last value ("published"), or all
        four have it in the last epoch ("inclusive").
    """

    slope: Pair = number("[-1e3, 1e3]", (0.0, 2.0))
    offset: Pair = number("[-1e3, 1e3]", (-2.0, -2.0))
    centre: Pair = number("[-10, 10]", (0.5, 0.8))
    width: Pair = number("(0, 1e3]", (2.0, 0.5))
    present_exponent: float = number("(0, 100]", 0.01)
    absent_exponent: float = number("(0, 100]", 1.0)
    start_epoch: int = 0
    ramp: Literal["published", "inclusive"] = "published"

    needs_num_epochs: ClassVar[bool] = True

    def __post_init__(self):
        for name in ("slope", "offset", "centre", "width"):
            if len(pair := getattr(self, name)) != 2:
                raise ValueError(f"`{name}` must be two numbers, the first and the last value, got {list(pair)}.")

    def belief(self, progress: Progress) -> Belief:
        """The values of an epoch.

        Raises:
            ValueError: if the run ends before the first step.
        """
        if (num_epochs := progress.known_num_epochs()) <= self.start_epoch:
            raise ValueError(
                f"`start_epoch` must be less than the epochs of the run, got {self.start_epoch} and {num_epochs}: no "
                "value would ever move. Lower it, or train longer."
            )
        share = share_of_epochs(progress, self.start_epoch, ahead=1)
        behind = share if self.ramp == "inclusive" else share_of_epochs(progress, self.start_epoch)
        return Belief(
            slope=_between(self.slope, behind),
            offset=_between(self.offset, behind),
            centre=_between(self.centre, share),
            width=_between(self.width, share),
        )


def robust_risk(logits: Tensor, belief: Belief, config: RobustRiskConfig) -> Tensor:
    """Loss of every entry, were it unknown; soft labels and weights give no gradient."""
    scores = logits.detach().sigmoid()
    present = belief.soft_labels(scores)
    if_present = generalized_cross_entropy(logits, config.present_exponent)
    if_absent = generalized_cross_entropy(-logits, config.absent_exponent)
    return belief.weights(scores) * (present * if_present + (1 - present) * if_absent)


def gr_losses(logits: Tensor, labels: Tensor, belief: Belief, config: RobustRiskConfig) -> Tensor:
    """Loss of every entry: cross-entropy where the label is known, and the robust risk where it is not."""
    known = bounded_log_loss(labels * logits, EPS)
    return torch.where(labels.eq(UNKNOWN), robust_risk(logits, belief, config), known)


def _between(pair: Pair, share: float) -> float:
    first, last = pair
    return first + (last - first) * share
