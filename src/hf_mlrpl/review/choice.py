"""All that a review asks about, chosen from the scores of a model."""

from dataclasses import dataclass

import numpy as np

from .questions import ask_next, uniform_sample
from .suspects import Suspects, find_suspects


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How many labels a review asks about.

    suspects: known labels that are probably wrong, at most.
    ask: unknown labels whose answers help most; per_photo: at most so many of one photo.
    sample: unknown labels drawn uniformly, to compare with.
    """

    suspects: int = 100
    ask: int = 100
    sample: int = 100
    per_photo: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("suspects", 0), ("ask", 0), ("sample", 0), ("per_photo", 1), ("seed", 0)):
            if getattr(self, name) < least:
                option = f"--{name.replace('_', '-')}"
                raise ValueError(f"`{option}` must be at least {least}, got {getattr(self, name)}.")


@dataclass(frozen=True)
class Choice:
    """Places of the label matrix by the reason why they are asked about, the most important first.

    reasons: from row and column to "suspect", "ask", "sample", or two of them.
    suspects: with what could not be judged.
    """

    reasons: dict[tuple[int, int], str]
    suspects: Suspects

    def count(self, reason: str) -> int:
        return sum(reason in text.split(", ") for text in self.reasons.values())


def choose_questions(scores: np.ndarray, labels: np.ndarray, judged: np.ndarray, sizes: Sizes) -> Choice:
    """Choose what to ask.

    Args:
        scores: `(num_images, num_labels)` in [0, 1].
        labels: `(num_images, num_labels)` in {-1, 0, +1}.
        judged: `(num_images,)` bool, of which images the known labels may be suspects: those that the model has not
            learned from.
    """
    suspects = find_suspects(scores, labels, images=judged, count=sizes.suspects)
    asked = ask_next(scores, labels, sizes.ask, per_image=sizes.per_photo)
    sampled = uniform_sample(labels, sizes.sample, seed=sizes.seed)
    reasons: dict[tuple[int, int], str] = {}
    chosen = {"suspect": (suspects.rows, suspects.columns), "ask": asked[:2], "sample": sampled}
    for reason, (rows, columns) in chosen.items():
        for place in zip(rows.tolist(), columns.tolist(), strict=True):
            reasons[place] = f"{reasons[place]}, {reason}" if place in reasons else reason
    return Choice(reasons, suspects)
