"""An ONNX file beside the model that it was made of, on the same photos."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.images.photos import Source, open_image
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..pipelines.image_tagging import label_thresholds
from .onnx_file import INPUT, OUTPUT

LARGEST_DIFFERENCE = 1e-3  # of a score, of a file in float32
BATCHES = (1, 3)  # which no trace has seen


@dataclass(frozen=True)
class Comparison:
    """How far a file is from its model.

    logits, scores: largest differences.
    changed: tags of one that the other lacks, of `num_tags` of the model.
    """

    num_photos: int
    logits: float
    scores: float
    changed: int
    num_tags: int

    def __str__(self) -> str:
        return (
            f"{self.num_photos} photos: the largest difference is {self.logits:.1e} of a logit, {self.scores:.1e} of "
            f"a score; {self.changed} of {self.num_tags} tags changed"
        )


def compare(
    model: MultiLabelPreTrainedModel, file: str | Path, processor: Any, photos: Sequence[Source]
) -> Comparison:
    """Run both on `photos`, in batches of several sizes.

    Raises:
        BadImageError: for a photo that cannot be read.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    model = model.float().cpu().eval()
    ours, theirs = [], []
    for start, stop in _batches(len(photos)):
        images = [open_image(photo) for photo in photos[start:stop]]
        pixels = processor(images=images, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            ours.append(model(pixels).logits.numpy())
        theirs.append(session.run([OUTPUT], {INPUT: pixels.numpy()})[0])
    logits = np.concatenate(ours), np.concatenate(theirs)
    scores = [1 / (1 + np.exp(-each.astype(np.float64))) for each in logits]
    thresholds = label_thresholds(model.config.thresholds, model.config).numpy()
    tags = [each >= thresholds for each in scores]
    return Comparison(
        num_photos=len(photos),
        logits=float(np.abs(logits[0] - logits[1]).max()),
        scores=float(np.abs(scores[0] - scores[1]).max()),
        changed=int((tags[0] != tags[1]).sum()),
        num_tags=int(tags[0].sum()),
    )


def _batches(total: int) -> list[tuple[int, int]]:
    batches: list[tuple[int, int]] = []
    start = 0
    while start < total:
        size = BATCHES[len(batches) % len(BATCHES)]
        batches.append((start, min(start + size, total)))
        start += size
    return batches
