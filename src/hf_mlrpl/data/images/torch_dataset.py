"""From a table of images and labels to the batches of a training run."""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from ...distributed import sum_over_processes
from ..columns import FULL_LABELS, IMAGE, IMAGE_ID, label_matrix, label_names
from ..labelled_items import LabelledItems
from .photos import BadImageError, open_pixels
from .views import View, seeded

if TYPE_CHECKING:
    from datasets import Dataset

PIXELS = "pixel_values"
MAX_KEPT_BYTES = 2**28  # of prepared images that stay in memory


class PartialLabelImages(LabelledItems):
    """Opens, transforms and pairs images with their labels; each item is a dictionary of tensors.

    Items have `pixel_values`, bytes that the model normalises, `labels`, `index` (the row of the image, by which an
    objective remembers something of it), and, on request, `full_labels` and further views of the image, each under its
    own name. `label_names` are in the order of `labels`.

    The random choices of a view depend on nothing but the seed, the epoch, the id of the image and the name of the
    view. So they are the same whatever the number of workers and processes, and after resuming in mid-epoch.

    If all prepared images fit into 256 MiB, once for each worker process, they stay in memory from one epoch to the
    next.

    Args:
        dataset: a data set with the columns of `hf_mlrpl.data.columns`.
        view: what happens to an image.
        plain_view: the view without random choices, for `without_augmentation`; by default `view`.
        further_views: other views of the same image, by the names that an objective knows them by.
        on_bad_image: what becomes of an unreadable image; `count_bad_images` counts them. "error" stops with its name.
            "replace", for training: the item is that of another image, with its labels and its `index`, drawn anew in
            each epoch. "skip", for evaluation: a black image without known labels, which no metric sees.
        draft: decode JPEG photos that are at least twice as large as the views need at a part of their size.
        with_full_labels: add the hidden labels, for measuring pseudo-labels.
    """

    def __init__(
        self,
        dataset: "Dataset",
        view: View,
        *,
        image_size: tuple[int, int],
        plain_view: View | None = None,
        further_views: Mapping[str, View] | None = None,
        seed: int = 0,
        on_bad_image: Literal["error", "replace", "skip"] = "error",
        draft: bool = False,
        with_full_labels: bool = False,
    ):
        from datasets import Image

        if on_bad_image not in ("error", "replace", "skip"):
            raise ValueError(f"`on_bad_image` must be 'error', 'replace' or 'skip', got {on_bad_image!r}.")
        super().__init__(label_matrix(dataset), label_names(dataset))
        self._images = dataset.cast_column(IMAGE, Image(decode=False))
        self.image_ids: list[str] = list(dataset[IMAGE_ID])
        self.full_labels = None
        if with_full_labels and FULL_LABELS in dataset.column_names:
            self.full_labels = label_matrix(dataset, FULL_LABELS)
        self.views = {PIXELS: view, **(further_views or {})}
        self.plain_view, self.image_size = plain_view or view, image_size
        self._kept: dict[int, dict[View, Tensor]] = {}  # prepared images by row
        self.seed, self.on_bad_image, self.draft = seed, on_bad_image, draft
        # Seen by worker processes that live on: they read the epoch, and write which images are bad.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.is_bad = torch.zeros(len(dataset), dtype=torch.bool).share_memory_()

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Draw other random views from now on, also in the worker processes that run."""
        self._epoch.fill_(epoch)

    def without_augmentation(self) -> "PartialLabelImages":
        """The same images and labels as the model sees them at inference; what would be replaced is skipped."""
        plain = copy.copy(self)
        plain.views, plain._kept = {PIXELS: self.plain_view}, {}
        if self.on_bad_image == "replace":  # each row is seen once
            plain.on_bad_image = "skip"
        return plain

    def with_views(self, views: Mapping[str, View]) -> "PartialLabelImages":
        """The same images in other views, whose random choices are the same in every run."""
        others = copy.copy(self)
        others.views, others._kept, others.seed = dict(views), {}, 0
        others._epoch, others.is_bad = torch.zeros_like(self._epoch), torch.zeros_like(self.is_bad).share_memory_()
        if self.on_bad_image == "replace":  # each row is seen once
            others.on_bad_image = "skip"
        return others

    def in_one_view(self) -> "PartialLabelImages":
        """The same without the further views; what would be replaced is skipped."""
        alone = self.without_augmentation()
        alone.views = {PIXELS: self.views[PIXELS]}
        return alone

    def fingerprint(self) -> str:
        """SHA-256 of the ids, paths and sizes of the images, in their order.

        Two data sets with other images differ, whatever their labels. An image that was changed in place, with the
        same path, is not noticed.
        """
        import pyarrow.compute as pc

        digest = hashlib.sha256("\n".join(self.image_ids).encode())
        for table in self._images.select_columns([IMAGE]).with_format("arrow").iter(1000):
            stored = table[IMAGE].combine_chunks()
            sizes = pc.binary_length(stored.field("bytes"))
            digest.update(f"{stored.field('path').to_pylist()}{sizes.to_pylist()}".encode())
        return digest.hexdigest()

    def digests(self) -> dict[str, str]:
        """Digests of what must not change between two parts of a run, by name."""
        return {"images": self.fingerprint()}

    def count_bad_images(self) -> int:
        """Unreadable images met so far by any process, each counted once. All processes must call it."""
        return int(sum_over_processes(self.is_bad.int()).count_nonzero())

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        pixels = self._pixels(index)
        if pixels is None and self.on_bad_image == "replace":
            index, pixels = self._another(index)
        item = {"labels": torch.from_numpy(np.array(self.labels[index]))}
        if self.full_labels is not None:
            item[FULL_LABELS] = torch.from_numpy(np.array(self.full_labels[index]))
        if pixels is None:
            pixels = self._blank()
            item = {name: torch.zeros_like(labels) for name, labels in item.items()}
        return {**pixels, **item, "index": torch.tensor(index)}

    def _blank(self) -> dict[str, Tensor]:
        """What stands for an image that cannot be read."""
        return {name: torch.zeros(3, *self.image_size, dtype=torch.uint8) for name in self.views}

    def make_ready(self) -> None:
        """Compute what is needed before the first item, on all processes."""

    def as_pixels(self) -> "PartialLabelImages":
        """The same images with their pixels, also where items have stored features."""
        return self

    def source_of(self, index: int) -> Any:
        """The file of an image, `{"path", "bytes"}`."""
        return self._images[index][IMAGE]

    def sources_of(self, rows: Sequence[int]) -> list[Any]:
        """The files of many images."""
        return self._images[rows][IMAGE]

    def _pixels(self, index: int) -> dict[str, Tensor] | None:
        """All views of an image, or `None` where it cannot be read."""
        try:
            prepared = self._prepared(index)
        except BadImageError:
            if self.on_bad_image == "error":
                raise
            self.is_bad[index] = True
            return None
        pixels = {}
        for name, view in self.views.items():
            with seeded(self._key(index, name)):
                pixels[name] = view.augment(prepared[view])
        return pixels

    def _another(self, index: int) -> tuple[int, dict[str, Tensor]]:
        """Row and views of a readable image that takes the place of an unreadable one.

        It is drawn from all images. If it were simply the next one, the image behind a folder of unreadable files
        would be trained on once for each of them.
        """
        with seeded(self._key(index, "another image")):
            rows = torch.randperm(len(self))
        for row in map(int, rows.numpy()):
            pixels = self._pixels(row)
            if pixels is not None:
                return row, pixels
        raise BadImageError(
            f"None of the {len(self)} images can be read, {self.image_ids[index]} for one. `data.on_bad_image=error` "
            "says what is wrong with it."
        )

    def _prepared(self, index: int) -> dict[View, Tensor]:
        """The part of an image's views that is the same in every epoch, by view; the image is opened once for all."""
        if index in self._kept:  # a copy: a view may change it
            return {view: kept.clone() for view, kept in self._kept[index].items()}
        pixels = open_pixels(self.source_of(index), f"image {self.image_ids[index]}", draft=self.least_side())
        prepared = {view: view.prepare(pixels) for view in dict.fromkeys(self.views.values())}
        self._keep(index, prepared)
        return prepared

    def least_side(self) -> int | None:
        """Pixels on both sides of a photo that are enough for all views, if it may be decoded smaller than it is."""
        sides = [view.least_side for view in self.views.values()]
        enough = [side for side in sides if side is not None]
        return max(enough) if self.draft and len(enough) == len(sides) else None

    def stay_in_memory(self) -> bool:
        """Whether all prepared images stay in the memory of this process; the first one tells how large they are."""
        try:
            return len(self) == 0 or bool(self._prepared(0)) and 0 in self._kept
        except BadImageError:
            return False

    def _keep(self, index: int, prepared: dict[View, Tensor]) -> None:
        """Keep what is prepared in memory, if there is room for all images in each of the worker processes."""
        worker = get_worker_info()
        num_copies = len(self) * (worker.num_workers if worker else 1)
        if sum(pixels.nbytes for pixels in prepared.values()) * num_copies <= MAX_KEPT_BYTES:
            self._kept[index] = {view: pixels.clone() for view, pixels in prepared.items()}

    def _key(self, index: int, view: str) -> int:
        text = f"{self.seed}/{self.epoch}/{self.image_ids[index]}"
        if view != PIXELS:
            text += f"/{view}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
