"""Protocols: rules that hide labels, so that fully labelled data become partially labelled.

A protocol is a function of the whole label matrix, `(num_images, num_labels)` in {-1, 0, +1}. It replaces entries by 0
(unknown) and changes nothing else: the same labels, order and seed give the same result. It has its own random
generator, NumPy's global one stays as it is. `hide_labels` applies a protocol to a data set.
"""

from dataclasses import dataclass

import numpy as np

from ..labels import NEGATIVE, POSITIVE, UNKNOWN, check_labels

KEEP_ALL = -1


@dataclass(frozen=True)
class RandomKnown:
    """Every label, positive or negative, stays known with probability `proportion`.

    The setting of Durand et al. 2019 that SST, SARB, DualCoOp and SCPNet use. Draws from NumPy's legacy generator over
    the whole label matrix, so that `seed=0` gives the split of the public SST and SARB code bit for bit, as long as
    the images are in the order of the annotation file. The draws do not depend on `proportion`: what is known at 0.1
    is known at 0.2, too. An image may keep no known label at all.
    """

    proportion: float
    seed: int = 0

    def __post_init__(self):
        if not 0 < self.proportion <= 1:
            raise ValueError(f"`proportion` must lie in (0, 1], got {self.proportion}. Ten percent is 0.1, not 10.")

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        check_labels(labels)
        known = np.random.RandomState(self.seed).random_sample(labels.shape) < self.proportion  # (N, C)
        return np.where(known, labels, UNKNOWN).astype(np.int8)


@dataclass(frozen=True)
class SinglePositive:
    """`num_positives` positives and `num_negatives` negatives of every image stay known; -1 keeps all of a kind.

    The setting of Cole et al. 2021, one positive and nothing else, with the seed of their code. Bit for bit theirs if
    the images are in their order: VOC by sorted file name, COCO by image id, sorted as text.
    """

    num_positives: int = 1
    num_negatives: int = 0
    seed: int = 1200

    def __post_init__(self):
        for name in ("num_positives", "num_negatives"):
            if getattr(self, name) < KEEP_ALL:
                raise ValueError(f"`{name}` must be 0 or more, or -1 to keep all, got {getattr(self, name)}.")

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        check_labels(labels)
        generator = np.random.RandomState(self.seed)
        observed = np.full(labels.shape, UNKNOWN, dtype=np.int8)
        for row, observed_row in zip(labels, observed, strict=True):
            for value, count in ((POSITIVE, self.num_positives), (NEGATIVE, self.num_negatives)):
                candidates = np.flatnonzero(row == value)
                generator.shuffle(candidates)  # also where none is kept: it advances the generator
                observed_row[candidates if count == KEEP_ALL else candidates[:count]] = value
        return observed
