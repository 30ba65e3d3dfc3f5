"""Kinds of partial labels, and the methods that suit them."""

from dataclasses import dataclass

import numpy as np

from ..labels import NEGATIVE, POSITIVE, UNKNOWN, check_labels
from .columns import ROWS_AT_A_TIME


@dataclass(frozen=True)
class LabelKind:
    """What is known of the labels of a data set.

    name: in a few words.
    advice: methods and settings that suit, and those that do not; the README has the evidence.
    has_positives, has_negatives: whether any label is known to be present, or to be absent.
    """

    name: str
    advice: str
    has_positives: bool = True
    has_negatives: bool = True

    def __str__(self) -> str:
        return f"{self.name}. {self.advice}"


_ABSENCE_ASSUMED = (
    "Train with a method that takes unknown labels for absent and then distrusts some of it: hill, splc, gr, or role"
)
_LEAVE_OUT_LEARNS_NOTHING = (
    "those that leave unknown labels out (partial_bce, sst, ssgrl, curriculum, dualcoop) learn nothing from them"
)

FULL = LabelKind(
    "full: every label is known",
    "Any method trains on them, most simply partial_bce or asl; ssgrl and sst have features for each label.",
)
PARTLY_KNOWN = LabelKind(
    "partly known: some present, some absent, the rest unknown",
    "Train with a method that leaves unknown labels out or completes likely ones: partial_bce, ml_decoder, "
    "curriculum, or focal and asl with objective.unknown=ignore; with half of them known also sst. Those "
    "that take unknown labels for absent (an, lsan, splc, hill, large_loss) are worse, the more so the less is known.",
)
POSITIVES_ONLY = LabelKind(
    "positives only: no label is known to be absent",
    f"If what is not listed is absent, say so: data.unlisted=absent. Otherwise: {_ABSENCE_ASSUMED}; "
    f"{_LEAVE_OUT_LEARNS_NOTHING}.",
    has_negatives=False,
)
ONE_POSITIVE = LabelKind(
    "one positive: each image has one present label at most, and no label is known to be absent",
    f"If each image shows exactly one label, say that the others are absent: data.unlisted=absent. Otherwise: "
    f"{_ABSENCE_ASSUMED}; {_LEAVE_OUT_LEARNS_NOTHING}.",
    has_negatives=False,
)
NEGATIVES_ONLY = LabelKind(
    "negatives only: no label is known to be present",
    "No method learns from them what a label looks like: add photos that show it.",
    has_positives=False,
)
NOTHING_KNOWN = LabelKind(
    "nothing known",
    "No method learns from them. Look at the settings of the data, or label some photos.",
    has_positives=False,
    has_negatives=False,
)


def kind_of_labels(labels: np.ndarray) -> LabelKind:
    """Tell the kind of `labels`, `(num_images, num_labels)` in {-1, 0, +1}."""
    check_labels(labels)
    positives = negatives = unknown = most_positives = 0
    for start in range(0, len(labels), ROWS_AT_A_TIME):
        block = labels[start : start + ROWS_AT_A_TIME]
        of_images = (block == POSITIVE).sum(axis=1)
        most_positives = max(most_positives, int(of_images.max(initial=0)))
        positives += int(of_images.sum())
        negatives += int((block == NEGATIVE).sum())
        unknown += int((block == UNKNOWN).sum())
    if not positives:
        return NEGATIVES_ONLY if negatives else NOTHING_KNOWN
    if negatives:
        return PARTLY_KNOWN if unknown else FULL
    return POSITIVES_ONLY if most_positives > 1 else ONE_POSITIVE
