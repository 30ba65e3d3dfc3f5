"""The label alphabet, from disk to loss: -1 absent, 0 unknown, +1 present."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NEGATIVE, UNKNOWN, POSITIVE = -1, 0, 1


def check_labels(labels, num_labels: int | None = None, *, rows: list | None = None) -> None:
    """Raise `ValueError` unless `labels` is `(num_images, num_labels)` with values in {-1, 0, +1}.

    Args:
        labels: a NumPy array or a tensor; soft labels in (0, 1] count as positive.
        num_labels: expected number of columns, `None` accepts any.
        rows: names of the rows (image ids), to name the first wrong one.
    """
    if labels.ndim != 2 or (num_labels is not None and labels.shape[1] != num_labels):
        expected = "num_labels" if num_labels is None else num_labels
        raise ValueError(f"`labels` must have the shape (num_images, {expected}), got {tuple(labels.shape)}.")
    if isinstance(labels, np.ndarray) and labels.dtype.kind == "i" and labels.size:
        if labels.min() >= NEGATIVE and labels.max() <= POSITIVE:  # needs no memory for a large data set
            return
    wrong = ~((labels == NEGATIVE) | ((labels >= UNKNOWN) & (labels <= POSITIVE)))  # NaN is wrong, too
    if bool(wrong.any()):
        row, column = (int(i[0]) for i in wrong.nonzero()) if isinstance(labels, np.ndarray) else wrong.nonzero()[0]
        where = f"row {int(row)}" if rows is None else f"image {rows[int(row)]!r}"
        raise ValueError(
            f"`labels` must be -1 (absent), 0 (unknown) or +1 (present), got {labels[row, column]} "
            f"in {where}, column {int(column)}. Data in {{0, 1}} needs its zeros turned into -1 (absent) or kept as "
            "0 (unknown): say which."
        )


@dataclass(frozen=True)
class LabelSummary:
    """Counts of a labelled data set, one entry per label.

    present, absent, unknown: `(num_labels,)` numbers of images.
    unlabelled_images: images without any known label.
    things: what was counted, images or what stands for them.
    """

    names: list[str]
    num_images: int
    present: np.ndarray
    absent: np.ndarray
    unknown: np.ndarray
    unlabelled_images: int
    things: str = "images"

    @property
    def known_proportion(self) -> float:
        """Known entries over all entries, in [0, 1]."""
        return 1 - self.unknown.sum() / max(1, self.num_images * len(self.names))

    @property
    def warnings(self) -> list[str]:
        """Sentences about what a user should know before training."""
        messages = []
        never_present = [name for name, count in zip(self.names, self.present, strict=True) if count == 0]
        never_absent = [name for name, count in zip(self.names, self.absent, strict=True) if count == 0]
        if never_present:
            messages.append(f"{len(never_present)} label(s) are never present: {shorten(never_present, 8)}.")
        if never_absent:
            messages.append(f"{len(never_absent)} label(s) are never known to be absent: {shorten(never_absent, 8)}.")
        if self.unlabelled_images:
            messages.append(f"{self.unlabelled_images} of {self.num_images} {self.things} have no known label.")
        return messages

    def __str__(self) -> str:
        width = max([len(name) for name in self.names] + [len("label")])
        lines = [
            f"{self.num_images} {self.things}, {len(self.names)} labels, "
            f"{self.known_proportion:.1%} of the entries known",
            f"{'label':<{width}}  {'present':>8}  {'absent':>8}  {'unknown':>8}",
        ]
        for name, present, absent, unknown in zip(self.names, self.present, self.absent, self.unknown, strict=True):
            lines.append(f"{name:<{width}}  {present:>8}  {absent:>8}  {unknown:>8}")
        return "\n".join(lines + [f"warning: {message}" for message in self.warnings])


def summarize_labels(labels: np.ndarray, names: list[str], things: str = "images") -> LabelSummary:
    """Count present, absent and unknown entries of `labels`, `(num_images, num_labels)` in {-1, 0, +1}.

    Args:
        things: what has the labels, for messages.
    """
    check_labels(labels, len(names))
    counts = {value: np.zeros(len(names), dtype=np.int64) for value in (POSITIVE, NEGATIVE, UNKNOWN)}
    unlabelled = 0
    for start in range(0, len(labels), 10_000):  # which needs little memory for a large data set
        block = labels[start : start + 10_000]
        for value, count in counts.items():
            count += (block == value).sum(axis=0)
        unlabelled += int((block == UNKNOWN).all(axis=1).sum())
    present, absent, unknown = counts[POSITIVE], counts[NEGATIVE], counts[UNKNOWN]
    return LabelSummary(list(names), len(labels), present, absent, unknown, unlabelled, things)


def shorten(items: Sequence, shown: int = 3) -> str:
    """The first items for a message, and how many more there are."""
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(str(item) for item in items[:shown]) + more


def describe_difference(names: Sequence[str], others: Sequence[str], where: str, elsewhere: str) -> str:
    """How two lists of label names differ, for a message; `where` and `elsewhere` say who has them."""
    here, there = sorted(set(names) - set(others)), sorted(set(others) - set(names))
    if here or there:
        return f"{shorten(here) or 'none'} only in {where}, {shorten(there) or 'none'} only in {elsewhere}"
    return "the same names in another order"
