"""The training set as an objective sees it: its known labels, and passes over its images."""

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ...distributed import gather_rows
from .feature_files import FEATURES, StoredFeatures
from .torch_dataset import PIXELS, PartialLabelImages
from .views import View


class TrainingImages:
    """All training images, in order and without augmentation.

    Args:
        dataset: the images of the training run.
        normalize: the model's, which makes numbers of bytes, on the device.
        batch_size: images of a batch on each process.
        num_workers: worker processes that open images.
        seed: seed of the run, for objectives that need random numbers outside of the training steps.
        show_progress: whether the first process shows a progress bar.
    """

    def __init__(
        self,
        dataset: PartialLabelImages,
        *,
        normalize: Callable[[Tensor], Tensor],
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        show_progress: bool = False,
    ):
        self._given = dataset
        self._dataset = dataset.without_augmentation()
        self.normalize = normalize
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.show_progress = show_progress

    def augmented(self) -> "TrainingImages":
        """The same with the random choices of training, those of the present epoch."""
        images = copy.copy(self)
        images._dataset = self._given.in_one_view()
        return images

    def __len__(self) -> int:
        return len(self._dataset)

    @cached_property
    def labels(self) -> Tensor:
        """The known labels, `(num_images, num_labels)` int8 in {-1, 0, +1}, on the CPU."""
        return torch.from_numpy(self._dataset.labels.copy())

    @property
    def image_ids(self) -> list[str]:
        return self._dataset.image_ids

    def as_pixels(self) -> "TrainingImages":
        """The same images with their pixels, for another network than the one whose features are stored."""
        others = copy.copy(self)
        others._dataset = self._dataset.as_pixels()
        return others

    def in_views(
        self, views: Mapping[str, View], image_size: tuple[int, int], normalize: Callable[[Tensor], Tensor]
    ) -> "TrainingImages":
        """The same images as another network sees them, with their pixels.

        Args:
            views: by their names in a batch; that of the one that `normalize` is for is `pixel_values`, the others
                stay bytes.
            image_size: `(height, width)` of all of them.
        """
        others = self.as_pixels()
        others._dataset = others._dataset.with_views(views)
        others._dataset.image_size, others.normalize = image_size, normalize
        return others

    def fingerprint(self) -> str:
        """Digest of which images these are, in their order, for what is stored of them between runs."""
        return self._dataset.fingerprint()

    def map(
        self, function: Callable[[dict[str, Tensor]], Tensor], description: str, first: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over all images. The processes share the work, and each of them gets what it gives for all images.

        An image that cannot be read is left out, where the data set goes on without it.

        Args:
            function: from a batch with `pixel_values` (or what stands for them, see `StoredFeatures`), `labels` and
                `index`, on the device of the process, to one value per image, `(batch_size, ...)`. Some of the images
                are left out of the result: they cannot be read, or are repeated at the end so that all processes have
                batches of the same size.
            description: purpose of the pass, shown beside the progress bar.
            first: row to begin with, for a pass that goes on after an interruption.

        Yields:
            Rows of images, rising through the whole pass and on the CPU, and their values, on the device of the
            process; as many at a time as the processes have in a batch.
        """
        self._dataset.make_ready()
        state = PartialState()
        rounds = -(-(len(self) - first) // state.num_processes)
        places = first + torch.arange(state.process_index, rounds * state.num_processes, state.num_processes)
        loader: DataLoader = DataLoader(
            self._dataset,  # type: ignore[arg-type]
            self.batch_size,
            sampler=(places % len(self)).tolist(),
            num_workers=self.num_workers,
            pin_memory=state.device.type == "cuda",
            generator=torch.Generator(),  # else it would draw from torch's global one
        )
        hidden = not (self.show_progress and state.is_main_process)
        for batch, place in zip(
            tqdm(loader, desc=description, disable=hidden, leave=False), places.split(self.batch_size), strict=True
        ):
            left_out = (place >= len(self)) | self._dataset.is_bad[batch["index"]]
            rows = gather_rows(place.masked_fill(left_out, -1).to(state.device)).cpu()
            batch = {name: tensor.to(state.device, non_blocking=True) for name, tensor in batch.items()}
            values = gather_rows(function(batch | {PIXELS: self._seen(batch)}))
            order = rows.argsort()[rows.lt(0).sum() :]
            yield rows[order], values[order]

    def _seen(self, batch: dict[str, Tensor]) -> Any:
        """What the model sees of the images."""
        return StoredFeatures(batch.pop(FEATURES)) if FEATURES in batch else self.normalize(batch[PIXELS])
