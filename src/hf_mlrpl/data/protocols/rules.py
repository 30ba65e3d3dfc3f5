"""Protocols: rules that hide labels, so that fully labelled data become partially labelled.

The same labels, order and seed give the same result. A rule has a random generator of its own, so NumPy's global one
stays as it is; it is the legacy generator, for only its numbers never change. `hide_labels` applies a protocol to a
data set.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...labels import NEGATIVE, POSITIVE, UNKNOWN, check_labels
from ...ranges import SEEDS, check_ranges, number
from .hierarchy import any_related, read_hierarchy

KEEP_ALL = -1


class HidingProtocol:
    """Base of the rules that hide labels: frozen dataclasses, whose fields are settings of a recipe.

    A rule is called with the label matrix, `(num_images, num_labels)` in {-1, 0, +1}, and gives it back with some
    entries replaced by 0 (unknown).

    needs_names: whether it is called with the label names, too.
    needs_files: whether it is called with the paths of the images, too.
    part_setting: the field that says which part of the labels stays known, where there is one.
    """

    needs_names: ClassVar[bool] = False
    needs_files: ClassVar[bool] = False
    part_setting: ClassVar[str | None] = None

    def __post_init__(self):
        check_ranges(type(self), vars(self))

    def __str__(self) -> str:
        """The numbers that differ from their defaults, such as "proportion 0.1"; texts may name files of one's own."""
        values: Any = {field: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        numbers = {field: value for field, value in values.items() if isinstance(value, int | float)}
        return ", ".join(f"{field.name} {value}" for field, value in numbers.items() if value != field.default)


@dataclass(frozen=True)
class RandomKnown(HidingProtocol):
    """Every label, positive or negative, stays known with probability `proportion`.

    The setting of Durand et al. 2019 that SST, SARB, DualCoOp and SCPNet use. Draws from NumPy's legacy generator over
    the whole label matrix, so that `seed=0` gives the split of the public SST and SARB code bit for bit, as long as
    the images are in the order of the annotation file. The draws do not depend on `proportion`: what is known at 0.1
    is known at 0.2, too. An image may keep no known label at all.
    """

    proportion: float = number("(0, 1]")
    seed: int = number(SEEDS, 0)

    part_setting: ClassVar[str] = "proportion"

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        check_labels(labels)
        known = np.random.RandomState(self.seed).random_sample(labels.shape) < self.proportion  # (N, C)
        return np.where(known, labels, UNKNOWN).astype(np.int8)


@dataclass(frozen=True)
class SinglePositive(HidingProtocol):
    """`num_positives` positives and `num_negatives` negatives of every image stay known; -1 keeps all of a kind.

    The setting of Cole et al. 2021, one positive and nothing else, with the seed of their code. It keeps the very
    labels that they keep if the images are in their order: VOC 2012 and CUB as their lists are, COCO with
    `annotated_only: true` and `order: id_as_text`, NUS-WIDE with `subset: cole`.
    """

    num_positives: int = number("[-1, 1e6]", 1)
    num_negatives: int = number("[-1, 1e6]", 0)
    seed: int = number(SEEDS, 1200)

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


@dataclass(frozen=True)
class PositiveFraction(HidingProtocol):
    """Every positive stays known with probability `fraction`, and so do 1 to 1.5 times as many negatives of its image.

    The setting of Kundu et al. for COCO 2017. Their paper does not say how the ratio and the negatives are drawn:
    here each image draws its ratio uniformly, and its negatives are equally likely. An image without a known
    positive keeps no negative. `fraction=1` hides nothing, as in the paper. What is known at 0.1 is known at 0.3, too.

    fraction: part of the positives that stays known, in (0, 1].
    negatives_per_positive: range of the ratio; rounded to whole negatives, as far as the image has them.
    exact: keep exactly that part of all positives of the data set, not each with that probability.
    """

    fraction: float = number("(0, 1]")
    negatives_per_positive: tuple[float, float] = (1.0, 1.5)
    exact: bool = False
    seed: int = number(SEEDS, 0)

    part_setting: ClassVar[str] = "fraction"

    def __post_init__(self):
        super().__post_init__()
        ratios = list(self.negatives_per_positive)
        if len(ratios) != 2 or ratios != sorted(ratios):
            raise ValueError(
                "`negatives_per_positive` must be the lowest and the highest ratio, such as [1, 1.5], "
                f"got {self.negatives_per_positive}."
            )

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        check_labels(labels)
        if self.fraction == 1:
            return labels.astype(np.int8)
        generator = np.random.RandomState(self.seed)
        draws = generator.random_sample(labels.shape)  # (N, C)
        ratios = generator.uniform(*self.negatives_per_positive, size=len(labels))

        positive = labels == POSITIVE
        bound = self.fraction
        if self.exact:
            bound = np.sort(np.append(draws[positive], np.inf))[round(self.fraction * positive.sum())]
        known_positive = positive & (draws < bound)
        order = np.where(labels == NEGATIVE, draws, np.inf).argsort(axis=1)  # the negatives of an image come first
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.arange(labels.shape[1])[None], axis=1)
        wanted = np.rint(ratios * known_positive.sum(axis=1))
        known_negative = (labels == NEGATIVE) & (rank < wanted[:, None])
        return np.where(known_positive | known_negative, labels, UNKNOWN).astype(np.int8)


@dataclass(frozen=True)
class KnowledgeGraph(HidingProtocol):
    """Labels are verified from the root of a hierarchy downwards, until the annotator stops.

    The setting of Kundu et al. for COCO panoptic, who do not publish the details. Here they are:

    - A present label without a present one below it ends a way that begins at the root. The annotator stops at one of
      the labels on this way, all equally likely, but never at a root that all labels share.
    - That label and those above it are known to be present.
    - Of the labels right below one that was passed, and of the topmost labels, those that are absent are known to be
      absent.
    - All other labels are unknown.

    Args:
        hierarchy: name of a shipped one, or a JSON file, see `hf_mlrpl.data.protocols.hierarchy`. The labels
            above those of the data must be labels of their own: `with_ancestors` adds them, in a recipe
            `data.hierarchy` does.
        one_per_image: the annotator of an image stops at one of all its present labels (the paper: "a node"), so that
            what else is present stays unknown; by default at one on each way.
        absent_below: whether what stands below a label that is known to be absent is known to be absent, too.
    """

    hierarchy: str
    seed: int = number(SEEDS, 0)
    absent_below: bool = True
    one_per_image: bool = False

    needs_names: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        read_hierarchy(self.hierarchy)

    def __call__(self, labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
        check_labels(labels, len(names))
        hierarchy = read_hierarchy(self.hierarchy)
        missing = hierarchy.with_ancestors(names)[len(names) :]
        is_a, is_child = hierarchy.is_a(names), hierarchy.is_child(names)  # (C, C)
        present = labels == POSITIVE
        if missing or (any_related(present, is_a) & ~present).any():
            found = f"{missing[0]!r} is none of them" if missing else "an image has a label, but not the one above it"
            raise ValueError(
                f"All labels above those of the data must be labels, and present with them, but {found}. "
                "`with_ancestors` adds them, in a recipe `data.hierarchy`."
            )
        roots = ~is_child.any(axis=1)
        has_one_root = roots.sum() == 1
        topmost = roots | (has_one_root & (is_child & roots).any(axis=1))

        itself = np.eye(len(names), dtype=bool)
        if self.one_per_image:
            stops = self._draw_one(present & ~(roots & has_one_root))
        else:
            ends = present & ~any_related(present, is_child)
            stops = self._draw_stops(ends, itself | (is_a & ~(roots & has_one_root)))
        verified = any_related(stops, is_a)
        above_stops = any_related(stops, is_a & ~itself)
        absent = ~present & (any_related(above_stops, is_child.T) | topmost)
        if self.absent_below:
            absent = any_related(absent, is_a.T)
        return np.select([verified, absent], [POSITIVE, NEGATIVE], UNKNOWN).astype(np.int8)

    def _draw_one(self, candidates: np.ndarray) -> np.ndarray:
        """One of the candidates of each image, all equally likely; `(num_images, num_labels)` bool."""
        drawn = np.random.RandomState(self.seed).random_sample(candidates.shape)
        chosen = np.where(candidates, drawn, -1).argmax(axis=1)
        return candidates & (np.arange(candidates.shape[1]) == chosen[:, None])

    def _draw_stops(self, ends: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """One of the candidates of each end, all equally likely; `(num_images, num_labels)` bool.

        Args:
            ends: `(num_images, num_labels)` bool, present labels without a present one below.
            candidates: `(num_labels, num_labels)` bool, where the way down to a label may stop.
        """
        count = candidates.sum(axis=1)
        places = np.argsort(~candidates, axis=1, kind="stable")  # row i begins with the candidates of label i
        rows, labels = np.nonzero(ends)
        drawn = (np.random.RandomState(self.seed).random_sample(len(rows)) * count[labels]).astype(int)
        stops = np.zeros_like(ends)
        stops[rows, places[labels, drawn]] = True
        return stops
