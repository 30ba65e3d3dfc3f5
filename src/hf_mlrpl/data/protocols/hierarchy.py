"""Label hierarchies: which labels are kinds of which other ones.

A hierarchy is a JSON object from labels to what they are a kind of, one name or a list of names:

```json
{"cat": "animal", "dog": ["animal", "pet"], "chair": "furniture", "sky": []}
```

Names that stand on the right side only, here "animal", "pet" and "furniture", are a kind of nothing, and so is "sky".
Any graph without cycles is allowed. Shipped, with the names and groups of the public category files:

| name | labels | from |
|---|---|---|
| `coco_supercategories` | COCO's 80, and its 12 supercategories | annotation files of COCO |
| `coco_panoptic` | 80 things and 53 stuff, 12 + 15 supercategories, thing, stuff, root | cocodataset/panopticapi |
| `cifar100_superclasses` | 100 fine and 20 coarse labels | `meta` of the Python version of CIFAR-100 |

COCO's supercategory "person" is called "person (supercategory)", since it has a label of that name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...labels import NEGATIVE, POSITIVE, UNKNOWN, check_labels, shorten
from ...settings import closest
from ..columns import FULL_LABELS, label_matrix, label_names, set_labels
from ..files import read_json

if TYPE_CHECKING:
    from datasets import Dataset

_SHIPPED = Path(__file__).with_name("hierarchies")


@dataclass(frozen=True)
class Hierarchy:
    """Labels, and for each of them those that it is a kind of.

    parents: for every label the labels right above it, none for a root.
    """

    parents: Mapping[str, tuple[str, ...]]

    def __post_init__(self):
        try:
            tuple(TopologicalSorter(self.parents).static_order())
        except CycleError as error:
            circle = " > ".join(reversed(error.args[1]))
            raise ValueError(f"A hierarchy must have no cycles, but this is one: {circle}.") from None

    @cached_property
    def ancestors(self) -> dict[str, frozenset[str]]:
        """For every label all labels above it."""
        above: dict[str, frozenset[str]] = {}
        for name in TopologicalSorter(self.parents).static_order():  # parents come before their children
            above[name] = frozenset(self.parents[name]).union(*(above[parent] for parent in self.parents[name]))
        return above

    def with_ancestors(self, names: Sequence[str]) -> list[str]:
        """`names`, followed by the labels above them that are not among them, in the order of the hierarchy."""
        self._check_names(names)
        above = frozenset().union(*(self.ancestors[name] for name in names)).difference(names)
        return [*names, *(name for name in self.parents if name in above)]

    def is_a(self, names: Sequence[str]) -> np.ndarray:
        """`(num_labels, num_labels)` bool: whether label i is label j, or a kind of it."""
        return np.eye(len(names), dtype=bool) | self._matrix(names, self.ancestors)

    def is_child(self, names: Sequence[str]) -> np.ndarray:
        """`(num_labels, num_labels)` bool: whether label i stands right below label j."""
        return self._matrix(names, self.parents)

    def _matrix(self, names: Sequence[str], related: Mapping[str, Any]) -> np.ndarray:
        self._check_names(names)
        place = {name: i for i, name in enumerate(names)}
        matrix = np.zeros((len(names), len(names)), dtype=bool)
        for name, row in zip(names, matrix, strict=True):
            row[[place[other] for other in related[name] if other in place]] = True
        return matrix

    def _check_names(self, names: Sequence[str]) -> None:
        unknown = [name for name in names if name not in self.parents]
        if unknown:
            close = closest(unknown[0], self.parents)
            raise ValueError(
                f"The hierarchy lacks {len(unknown)} of {len(names)} labels of the data: {shorten(unknown, 5)}. "
                + (f"Did it mean {close[0]!r}? " if close else "")
                + 'A label that is a kind of nothing is written "label": [].'
            )


def read_hierarchy(source: str | Path) -> Hierarchy:
    """The shipped hierarchy of that name, or the one in a JSON file."""
    shipped = sorted(path.stem for path in _SHIPPED.glob("*.json"))
    path = _SHIPPED / f"{source}.json" if source in shipped else Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no hierarchy {str(source)!r}, neither as a JSON file nor among the shipped ones: "
            f"{', '.join(shipped)}."
        )
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise ValueError(f'{path} must be a JSON object such as {{"cat": "animal"}}, got {shorten([content])[:100]}.')
    parents: dict[str, tuple[str, ...]] = {}
    for name, above in content.items():
        above = [above] if isinstance(above, str) else above
        if not isinstance(above, list) or not all(isinstance(parent, str) and parent for parent in above):
            raise ValueError(f"{path}: the parents of {name!r} must be a name or a list of names, got {above!r}.")
        parents[name] = tuple(dict.fromkeys(above))
    for above in list(parents.values()):
        for parent in above:
            parents.setdefault(parent, ())
    try:
        return Hierarchy(parents)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def with_ancestors(dataset: "Dataset", hierarchy: Hierarchy) -> "Dataset":
    """`dataset` with the labels above its own as further labels, behind its own; no image is touched.

    What stands above a present label is present, whatever the data say. A further label is absent if all labels of
    the data below it are absent, and unknown otherwise.
    """
    if FULL_LABELS in dataset.column_names:
        raise ValueError("Add the labels of a hierarchy before labels are hidden: `labels` is partial already.")
    own = label_names(dataset)
    names = hierarchy.with_ancestors(own)
    return set_labels(dataset, labels_with_ancestors(label_matrix(dataset), own, names, hierarchy), names)


def labels_with_ancestors(
    labels: np.ndarray, own: Sequence[str], names: Sequence[str], hierarchy: Hierarchy
) -> np.ndarray:
    """The labels of `with_ancestors`, `(num_images, len(names))` in {-1, 0, +1}.

    Args:
        labels: `(num_images, len(own))` in {-1, 0, +1}.
        names: `own` and the labels above, from `Hierarchy.with_ancestors`.
    """
    check_labels(labels, len(own))
    below = hierarchy.is_a(names)[: len(own)]  # (len(own), len(names)): own label i is label j, or a kind of it
    present = any_related(labels == POSITIVE, below)
    maybe_present = any_related(labels != NEGATIVE, below)
    result = np.where(maybe_present, UNKNOWN, NEGATIVE).astype(np.int8)
    result[:, : len(own)] = labels
    result[present] = POSITIVE
    return result


def any_related(chosen: np.ndarray, relation: np.ndarray) -> np.ndarray:
    """For every image the labels that a chosen one is related to.

    Args:
        chosen: `(num_images, num_labels)` bool.
        relation: `(num_labels, num_others)` bool, as of `Hierarchy.is_a`.

    Returns:
        `(num_images, num_others)` bool.
    """
    return chosen.astype(np.float32) @ relation.astype(np.float32) > 0  # a matrix product of bools is a slow loop
