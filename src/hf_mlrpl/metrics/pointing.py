"""The pointing game: whether the place that a model looks at most for a label lies on an object of it.

Zhang et al., Top-down Neural Attention by Excitation Backprop (ECCV 2016), section 4.1.
"""

from collections.abc import Sequence

import numpy as np

from ..labels import shorten

TOLERANCE = 15 / 448  # of each side of a photo


class PointingGame:
    """Counts hits label by label.

    names: the labels.
    """

    def __init__(self, names: Sequence[str]):
        self.names = list(names)
        self.hits = np.zeros(len(names), dtype=np.int64)
        self.trials = np.zeros(len(names), dtype=np.int64)

    def add(
        self, points: np.ndarray, present: np.ndarray, boxes: np.ndarray, labels: np.ndarray, size: tuple[int, int]
    ) -> None:
        """Count a photo.

        Args:
            points: `(num_labels, 2)` pixels from the left and from the upper edge, one for each label.
            present: `(num_labels,)` whether the photo is known to show a label; only those that have a box count.
            boxes: `(num_boxes, 4)` left and upper edge, width and height in pixels.
            labels: `(num_boxes,)` which label a box belongs to.
            size: (height, width) of the photo in pixels.
        """
        boxes, labels = np.reshape(boxes, (-1, 4)), np.asarray(labels, dtype=np.int64)
        tolerance = TOLERANCE * np.array([size[1], size[0]])
        at = points[labels]  # (num_boxes, 2)
        inside = ((at >= boxes[:, :2] - tolerance) & (at <= boxes[:, :2] + boxes[:, 2:] + tolerance)).all(axis=1)
        counted = np.zeros(len(self.names), dtype=bool)
        counted[labels] = True
        counted &= present
        hit = np.zeros_like(counted)
        hit[labels[inside]] = True
        self.trials += counted
        self.hits += hit & counted

    def compute(self) -> dict[str, float]:
        """`pointing`, the mean over labels, and `pointing_all`, over all trials, in percent; and the number of trials.

        Raises:
            ValueError: if no photo has a box of a label that it shows.
        """
        if not self.trials.any():
            raise ValueError(f"No photo has a box of a label that it shows, of {shorten(self.names)}.")
        counted = self.trials > 0
        return {
            "pointing": 100 * float((self.hits[counted] / self.trials[counted]).mean()),
            "pointing_all": 100 * float(self.hits.sum() / self.trials.sum()),
            "pointing_trials": int(self.trials.sum()),
        }
