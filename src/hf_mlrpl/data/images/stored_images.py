"""Images whose features are computed once: items have features from the disk in the place of pixels."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..columns import FULL_LABELS
from .feature_files import FEATURES, FeatureFiles, FoundFeatures, stored_in
from .storing import Storing, average_missing, bytes_of_one, compute_missing, digests_of
from .torch_dataset import PIXELS, PartialLabelImages
from .views import MIRRORED, View, draw_for_each, seeded, view_digest


@dataclass(frozen=True)
class StoredViews:
    """The views of each image that are stored.

    draw: the number of the one that an item has, from torch's random numbers.
    are_random: whether they are random views, each with random numbers of its own.
    """

    views: tuple[View, ...]
    draw: Callable[[], int]
    are_random: bool = False

    @classmethod
    def of(cls, view: View) -> "StoredViews | None":
        """All that `view` can give, so that nothing changes; `None` where that is too much."""
        outcomes = view.outcomes
        if outcomes is None:
            return None
        return cls(tuple(View(view.prepare, change, view.least_side) for change in outcomes.changes), outcomes.draw)

    @classmethod
    def with_number(cls, count: int, view: View, plain: View) -> "StoredViews | None":
        """1: the `plain` image. 2: that and its mirror image. More: as many random ones of `view`, the same in every
        run; `None` where it has no more than it has been asked for."""
        if count > 2:
            return None if view.outcomes else cls((view,) * count, partial(_below, count), are_random=True)
        changes = MIRRORED.changes[:count]
        views = tuple(View(plain.prepare, change, plain.least_side) for change in changes)
        return cls(views, MIRRORED.draw if count == 2 else partial(_below, 1))

    @cached_property
    def digests(self) -> list[str]:
        """What tells each of them from any other."""
        if self.are_random:
            common = view_digest(self.views[0])
            return [f"{common}/{number}" for number in range(len(self.views))]
        return [view_digest(view) for view in self.views]


class StoredImages(PartialLabelImages):
    """Items have `features` in the place of `pixel_values`; all else is as in `images`.

    Which view an item has follows from the same random numbers as the change of its pixels would.

    Args:
        images: the same images with their pixels, which stay here as `with_pixels`.
        stored: the views of them that are stored.
    """

    def __init__(self, images: PartialLabelImages, stored: StoredViews, storing: Storing):
        vars(self).update(vars(images))
        self.with_pixels = images
        self.stored, self._storing = stored, storing
        self._digests: list[np.ndarray] = []  # one, which copies share
        self._made: list[dict[str, Any]] = []  # what the features that were found are made from
        self._found: list[FoundFeatures] = []

    @property
    def _photos(self) -> np.ndarray:
        """Digests of the content of all photos, `(num_images, 16)` uint8."""
        if not self._digests:
            self._digests.append(digests_of(self.with_pixels, self._storing))
        return self._digests[0]

    def __str__(self) -> str:
        name = str(self._storing.dtype).removeprefix("torch.")
        views = "each photo and its mirror image" if len(self.stored.views) == 2 else "each photo"
        if len(self.stored.views) > 2:
            views = f"{len(self.stored.views)} views of each photo"
        return f"every photo passes the frozen backbone once: features of {views}, in {name}, stay in {stored_in()}"

    def lack_of_room(self, share: float) -> str:
        """What says that the features which are not stored yet need more than a `share` of the free disk, or ""."""
        files = [FeatureFiles(each) for each in self._made_from()]
        missing = sum(int(each.find(self._photos).is_missing.sum()) for each in files)
        return files[0].lack_of_room(missing * bytes_of_one(self.with_pixels, self._storing), share)

    def _made_from(self) -> list[dict[str, Any]]:
        """All that the features of each view depend on."""
        draft = self.stored.views[0].least_side if self.with_pixels.draft else None
        common = {**self._storing.settings(), "draft": draft}
        return [{**common, "view": view} for view in self.stored.digests]

    def make_ready(self) -> None:
        """Compute the features that are not stored yet, on all processes; again if the weights have changed."""
        made_from, storing = self._made_from(), self._storing
        if made_from == self._made:
            return
        files = [FeatureFiles(each) for each in made_from]
        self._found = compute_missing(self.with_pixels, self._photos, self.stored.views, files, storing)
        if storing.mean is not None and any(found.have_maps for found in self._found):
            files = [FeatureFiles({**each, "part": "mean"}) for each in made_from]
            self._found = average_missing(self._found, self._photos, files, storing)
        self._made = made_from
        for found in self._found:
            self.is_bad |= torch.from_numpy(found.is_missing)

    def as_pixels(self) -> PartialLabelImages:
        return self.with_pixels

    def without_augmentation(self) -> "StoredImages":
        plain: Any = super().without_augmentation()
        plain.stored, plain._made, plain._found = StoredViews.of(self.plain_view), [], []
        plain.with_pixels = self.with_pixels.without_augmentation()
        return plain

    def in_one_view(self) -> "StoredImages":
        alone: Any = super().in_one_view()
        alone.stored, alone._made, alone._found = self.stored, self._made, self._found
        alone.with_pixels = self.with_pixels.in_one_view()
        return alone

    def fingerprint(self) -> str:
        """SHA-256 of the content of the photos, in their order, and of what their features come from."""
        self.make_ready()
        made_from = " ".join(FeatureFiles(each).fingerprint for each in self._made)
        return hashlib.sha256(self._photos.tobytes() + made_from.encode()).hexdigest()

    def digests(self) -> dict[str, str]:
        photos = hashlib.sha256(self._photos.tobytes()).hexdigest()
        return {"images": photos, "frozen weights": self._storing.settings()["weights"]}

    def _pixels(self, index: int) -> dict[str, Tensor] | None:
        if self.is_bad[index]:
            return None
        number = 0
        if len(self._found) > 1:
            with seeded(self._key(index, PIXELS)):
                number = self.stored.draw()
        return {FEATURES: self._found[number][index]}

    def __getitems__(self, rows: list[int]) -> list[dict[str, Tensor]]:
        """The items of a batch, in a tenth of the time that they take one by one."""
        if self.is_bad[rows].any():
            return [self[row] for row in rows]
        names = {"labels": torch.from_numpy(self.labels[rows]), "index": torch.tensor(rows)}
        if self.full_labels is not None:
            names[FULL_LABELS] = torch.from_numpy(self.full_labels[rows])
        numbers = [0] * len(rows)
        if len(self._found) > 1:
            numbers = draw_for_each((self._key(row, PIXELS) for row in rows), self.stored.draw)
        features = [self._found[number][row] for number, row in zip(numbers, rows, strict=True)]
        return [
            {FEATURES: of_image, **{name: values[place] for name, values in names.items()}}
            for place, of_image in enumerate(features)
        ]

    def _blank(self) -> dict[str, Tensor]:
        return {FEATURES: self._found[0].zeros()}

    def __copy__(self) -> "StoredImages":
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        return twin

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_storing": None}  # a worker process has no use for the model


def _below(count: int) -> int:
    return int(torch.randint(count, ()))
