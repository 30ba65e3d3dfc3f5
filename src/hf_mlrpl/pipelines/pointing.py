"""The pointing game of a model on photos whose objects have boxes."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from ..data.columns import IMAGE, IMAGE_ID, LABELS, OBJECTS, label_names
from ..data.images.photos import BadImageError, open_image
from ..labels import POSITIVE
from ..metrics.pointing import PointingGame
from ..models.attention_placement import AttentionPlacement
from ..models.image_processing import processor_for

if TYPE_CHECKING:
    from datasets import Dataset


def measure_pointing(model: Any, dataset: "Dataset", *, batch_size: int = 16, skip: bool = False) -> dict[str, float]:
    """How often the place that a model looks at most for a label of a photo lies on an object of it, in percent.

    Args:
        model: with attention; its labels are those of `dataset`.
        dataset: with the column `objects`, see `hf_mlrpl.data.columns.with_objects`.
        skip: whether unreadable photos are left out; otherwise they are errors.

    Returns:
        See `PointingGame.compute`.

    Raises:
        ValueError: for boxes that were drawn in a photo of another size.
    """
    from datasets import Image

    placement = AttentionPlacement.of(model)
    game, processor = PointingGame(label_names(dataset)), processor_for(model.config)
    rows = dataset.select_columns([IMAGE, IMAGE_ID, LABELS, OBJECTS]).cast_column(IMAGE, Image(decode=False))
    model.eval()
    for start in tqdm(range(0, len(rows), batch_size), desc="Pointing game", unit="batch", disable=None):
        batch, photos = [], []
        for row in rows.select(range(start, min(start + batch_size, len(rows)))):
            try:
                photos.append(open_image(row[IMAGE], row[IMAGE_ID]))
                batch.append(row)
            except BadImageError:
                if not skip:
                    raise
        if not batch:
            continue
        pixel_values = processor(images=photos, return_tensors="pt")["pixel_values"].to(model.device, model.dtype)
        with torch.inference_mode():
            maps = model(pixel_values, output_attention_maps=True).attention_maps
        if maps is None or placement is None:
            raise ValueError(
                f"A {type(model).__name__} has no attention, so nothing can be said about where it looks."
            )
        maps = maps.float().cpu()  # (B, C, H, W)
        for row, photo, of_photo in zip(batch, photos, maps, strict=True):
            size = (photo.height, photo.width)
            objects = row[OBJECTS]
            _check_size(objects, size, row[IMAGE_ID])
            present = np.array(row[LABELS]) == POSITIVE
            game.add(placement.peaks(of_photo, size), present, objects["bbox"], objects["category"], size)
    return game.compute()


def _check_size(objects: dict[str, Any], size: tuple[int, int], image_id: str) -> None:
    """Raise `ValueError` unless the boxes of `objects` belong to a photo of this (height, width)."""
    annotated = tuple(objects.get("photo_size") or size)
    if annotated != size:
        raise ValueError(
            f"The boxes of the photo {image_id} were drawn in one of {annotated[1]}x{annotated[0]} pixels, but it has "
            f"{size[1]}x{size[0]} when it is upright. Scale or turn the boxes, or the photo, or correct the size that "
            "its annotation names."
        )
