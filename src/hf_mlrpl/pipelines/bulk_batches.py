"""From a list of photos to the scores of their labels, a batch at a time: worker processes open, the model runs."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..data.images.listing import PhotoList
from ..data.images.photos import BadImageError, image_of, open_pixels
from ..data.images.views import normalized
from ..models.image_processing import view_of
from .image_tagging import ImageTaggingPipeline, check_scores

MOST_WORKERS = 8
DTYPES = ("float32", "bfloat16")

Batch = dict[str, Any]  # rows, names, faults (fault and message by position), and then pixels or scores of the others


class OpenedPhotos(Dataset):
    """Opens photos and makes them ready for the model: bytes, where the processor is one of ours."""

    def __init__(self, photos: PhotoList, processor: Any, draft: bool = False):
        self.photos, self.processor, self.view = photos, processor, view_of(processor)
        self.least_side = self.view.least_side if draft and self.view else None

    def __len__(self) -> int:
        return len(self.photos)

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        batch: Batch = {"rows": np.asarray(rows), "names": [], "faults": {}}
        pixels = []
        for position, row in enumerate(rows):
            name, source = self.photos[row]
            batch["names"].append(name)
            where = None if isinstance(source, str) else name
            try:
                pixels.append(self._ready(open_pixels(source, where, draft=self.least_side)))
            except BadImageError as error:
                batch["faults"][position] = (error.fault, str(error))
        return batch | {"pixels": torch.stack(pixels) if pixels else None}

    def _ready(self, pixels: Tensor) -> Tensor:
        if self.view is not None:
            return self.view(pixels)
        return self.processor(images=image_of(pixels), return_tensors="pt")["pixel_values"][0].float()


def make_loader(
    opened: OpenedPhotos, rows: np.ndarray, batch_size: int, num_workers: int | None, device: torch.device
) -> Iterable[Batch]:
    """Batches of the photos `rows`, in their order."""
    num_workers = default_workers(device) if num_workers is None else num_workers
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    num_workers = min(num_workers, len(batches))
    return DataLoader(
        opened,
        batch_sampler=batches,  # type: ignore[arg-type]  # whose batches are arrays
        collate_fn=_unchanged,  # type: ignore[arg-type]  # of what `__getitems__` gives
        num_workers=num_workers,
        pin_memory=device.type == "cuda",
    )


def _unchanged(batch: Batch) -> Batch:
    return batch


def default_workers(device: torch.device) -> int:
    """A worker for each core that a process has, at most `MOST_WORKERS`, beside a GPU; one where the model itself
    needs the cores."""
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if device.type == "cpu":
        return 1
    return min(MOST_WORKERS, max(1, num_cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


class Scorer:
    """Runs a model over batches.

    Args:
        dtype: of `DTYPES`; by default bfloat16 on GPUs that compute with it, float32 elsewhere.
    """

    def __init__(self, tagger: ImageTaggingPipeline, dtype: str | None = None):
        if dtype not in (None, *DTYPES):
            raise ValueError(f"`dtype` must be {' or '.join(DTYPES)}, got {dtype!r}.")
        self.model, self.device = tagger.model.eval(), tagger.device
        self.mean, self.std = tagger.image_processor.image_mean, tagger.image_processor.image_std
        has_bfloat16 = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        self.dtype = dtype or ("bfloat16" if has_bfloat16 else "float32")

    def __call__(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        """The batches with scores, `(num_good, num_labels)` float32, in the place of pixels.

        A GPU gets the next batch before the scores of the last one are waited for.
        """
        last: tuple[Batch, _Scores] | None = None
        for batch in loader:
            scores = _Scores(self._scores(batch.pop("pixels")))
            if last is not None:
                yield last[0] | {"scores": self._checked(last[1])}
            last = batch, scores
        if last is not None:
            yield last[0] | {"scores": self._checked(last[1])}

    @torch.inference_mode()
    def _scores(self, pixels: Tensor | None) -> Tensor:
        if pixels is None:  # no photo of the batch could be read
            return torch.empty(0, self.model.config.num_labels)
        pixels = normalized(pixels.to(self.device, non_blocking=True), self.mean, self.std)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            return self.model(pixels.to(self.model.dtype)).logits.float().sigmoid()

    def _checked(self, scores: "_Scores") -> np.ndarray:
        return check_scores(scores.on_host(), self.model.config).numpy()


class _Scores:
    """Scores on their way to the host."""

    def __init__(self, scores: Tensor):
        self._host = scores.to("cpu", non_blocking=True)
        self._arrived = None
        if scores.is_cuda:
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def on_host(self) -> Tensor:
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._host
