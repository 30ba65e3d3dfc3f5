"""Values that depend on the position in training: pure functions of `Progress`, so resuming needs no state."""

import math
from dataclasses import dataclass

from .ranges import number


@dataclass(frozen=True)
class Progress:
    """Position in training.

    step: optimizer steps done. max_steps: steps of the whole run.
    epoch: epochs done, fractional; `floor(epoch)` is the index of the running epoch.
    num_epochs: epochs of the whole run, where the last one counts even if it ends early; `None` where nobody knows.
    """

    step: int
    max_steps: int
    epoch: float
    num_epochs: int | None = None

    @classmethod
    def from_state(cls, state) -> "Progress":
        """Read a `transformers.TrainerState`."""
        return cls(state.global_step, state.max_steps, state.epoch or 0.0, state.num_train_epochs)

    def known_num_epochs(self) -> int:
        """`num_epochs`, for what cannot do without.

        Raises:
            ValueError: where nobody knows.
        """
        if self.num_epochs is None:
            raise ValueError("This depends on the number of all epochs: make a `Progress` with `num_epochs`.")
        return self.num_epochs


def share_of_epochs(progress: Progress, start_epoch: int = 0, ahead: int = 0) -> float:
    """Which part of the epochs from `start_epoch` to the last one is over; the same throughout an epoch.

    Args:
        ahead: further epochs that count as over: with 1 it is 1 in the last epoch, else it never is.
    """
    done = math.floor(progress.epoch) + ahead - start_epoch
    return 0.0 if done <= 0 else done / (progress.known_num_epochs() - start_epoch)


@dataclass(frozen=True)
class StepDown:
    """Off (infinite) before `start_epoch`, then `first`, lowered by `decrement` every epoch until `floor`.

    The threshold of SST: 0.95 in epoch 5, 0.75 from epoch 13 on ("Implementation Details").
    """

    start_epoch: int = 5
    first: float = number("[0, 1]", 0.95)
    decrement: float = 0.025
    floor: float = number("[0, 1]", 0.75)

    def __post_init__(self):
        if self.floor > self.first:
            raise ValueError(f"`floor` must not lie above `first`, got {self.floor} and {self.first}. Lower both.")

    def __call__(self, progress: Progress) -> float:
        epochs_since_start = math.floor(progress.epoch) - self.start_epoch
        if epochs_since_start < 0:
            return math.inf  # not 1.0: a saturated sigmoid equals 1.0 and would pass `>= 1.0`
        return max(self.floor, self.first - self.decrement * epochs_since_start)


@dataclass(frozen=True)
class Ramp:
    """Rises linearly from 0 to 1 over the first `epochs` epochs; with `epochs=0` it is 1 at once."""

    epochs: float = 1.0

    def __call__(self, progress: Progress) -> float:
        return 1.0 if progress.epoch >= self.epochs else progress.epoch / self.epochs
