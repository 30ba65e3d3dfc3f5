"""What a model says of uploaded photos, for one visitor or for many at a time."""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from ..data.images.photos import BadImageError, open_image
from ..pipelines.image_tagging import ImageTaggingPipeline, label_thresholds
from ..visualization.attention import attention_picture

MAX_PHOTOS = 20  # at a time
MAX_MEGABYTES = 20  # of an uploaded file
MAX_PIXELS = 50_000_000  # of a photo
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # none that starts other programs
MAX_LABELS, MAX_NAME = 200, 100  # of own labels: how many, and characters of each
MOST_LIKELY = 100  # labels of a photo that are kept
MOST_MAPS = 12  # pictures of attention at a time
SHOWN_SIDE = 640  # pixels of a photo as it is shown


class RefusedError(ValueError):
    """What a visitor asks for and does not get, in words for them."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file that gets no answer, in words for visitors."""

    name: str
    text: str


@dataclass(frozen=True)
class Answer:
    """The likeliest labels of a photo, the best first.

    photo: reduced for the screen.
    tags: those of the pipeline, with `attention_map` where the model has one.
    thresholds: of the model for these labels.
    """

    name: str
    photo: Image.Image
    tags: list[dict[str, Any]]
    thresholds: list[float]

    def found(self, threshold: float | None) -> list[dict[str, Any]]:
        """Tags that reach the threshold, or without one those of the model."""
        limits = self.thresholds if threshold is None else [threshold] * len(self.tags)
        return [tag for tag, limit in zip(self.tags, limits, strict=True) if tag["score"] >= limit]

    def attention(self, threshold: float | None) -> list[tuple[Image.Image, str]]:
        """Pictures of where the model looks for what it finds, with their captions."""
        maps = [tag for tag in self.found(threshold) if "attention_map" in tag][:MOST_MAPS]
        return [
            (attention_picture(self.photo, tag["attention_map"]), f"{tag['label']} {tag['score']:.2f}") for tag in maps
        ]


class Answerer:
    """Tags photos of visitors with one model; those who ask for own labels share a second one with its weights.

    Args:
        tagger: the pipeline "image-tagging".
        uploads: the folder of the visitors' files; no other file is opened for them.
    """

    def __init__(self, tagger: ImageTaggingPipeline, uploads: Path):
        self.tagger, self.uploads = tagger, uploads.resolve()
        self.has_attention = tagger.has_attention_maps
        self._lock = Lock()  # one forward pass at a time
        self._asked: tuple[ImageTaggingPipeline, list[str]] | None = None

    @property
    def takes_labels(self) -> bool:
        """Whether the model can be asked about labels that it was not trained on."""
        model = self.tagger.model
        return model.reads_names and not getattr(model, "learned_per_label", "")

    def answer(self, files: Sequence[str], words: str = "") -> list[Answer | Fault]:
        """Tag photos; returns what there is to say of each file, in their order.

        Args:
            files: paths of uploaded files.
            words: own labels, separated by commas; without any, the model's.

        Raises:
            RefusedError: for too many photos, or labels that cannot be asked for.
        """
        if len(files) > MAX_PHOTOS:
            raise RefusedError(f"Please give at most {MAX_PHOTOS} photos at a time; these are {len(files)}.")
        names = _read_labels(words)
        with self._lock:
            tagger = self._tagger_for(names)
            return [self._answer(tagger, Path(file)) for file in files]

    def _answer(self, tagger: ImageTaggingPipeline, file: Path) -> Answer | Fault:
        try:
            photo = open_upload(file, self.uploads)
        except RefusedError as error:
            return Fault(file.name, str(error))
        tags: Any = tagger(photo, threshold=0.0, top_k=MOST_LIKELY, attention_maps=self.has_attention)
        config = tagger.model.config
        thresholds = dict(zip(config.label_names, label_thresholds(config.thresholds, config).tolist(), strict=True))
        small = photo.copy()
        small.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
        return Answer(file.name, small, tags, [thresholds[tag["label"]] for tag in tags])

    def _tagger_for(self, names: list[str]) -> ImageTaggingPipeline:
        if not names:
            return self.tagger
        if self._asked is None or self._asked[1] != names:
            model = _twin(self.tagger.model) if self._asked is None else self._asked[0].model
            try:
                tagger = ImageTaggingPipeline(
                    model=model, image_processor=self.tagger.image_processor, device=self.tagger.device, labels=names
                )
            except (OSError, ValueError) as error:  # about the names; the model is as it was
                raise RefusedError(without_folders(str(error))) from error
            self._asked = tagger, names
        return self._asked[0]


def without_folders(text: str) -> str:
    """`text` in which files of this machine have lost their folders, which are no business of visitors."""
    return re.sub(r"(?<![\w.])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'\"]+[/\\])*(?=[^\s/\\'\"])", "", text)


def _twin(model: Any) -> Any:
    """A model with labels of its own, and with the same weights in memory."""
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def _read_labels(words: str) -> list[str]:
    names = [name.strip() for name in words.split(",") if name.strip()]
    if len(names) > MAX_LABELS or any(len(name) > MAX_NAME for name in names):
        raise RefusedError(f"Please give at most {MAX_LABELS} labels of at most {MAX_NAME} letters.")
    return names


def open_upload(file: Path, uploads: Path) -> Image.Image:
    """The photo in a file of a visitor.

    Raises:
        RefusedError: for what lies outside of the folder `uploads`, is too large, or is no photo, before its pixels
            are read; it names the file, not its place.
    """
    if not file.resolve().is_relative_to(uploads) or not file.is_file():  # a request can name any path
        raise RefusedError(f"{file.name} was not uploaded.")
    Image.init()
    size = file.stat().st_size
    if size > MAX_MEGABYTES * 1e6:
        raise RefusedError(f"{file.name} has {size / 1e6:.0f} MB; at most {MAX_MEGABYTES} MB are taken.")
    try:
        with Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN]) as header:
            pixels = header.width * header.height
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RefusedError(f"{file.name} has too many pixels.") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise RefusedError(f"{file.name} is no photo that can be read.") from error
    if pixels > MAX_PIXELS:
        raise RefusedError(
            f"{file.name} has {pixels / 1e6:.0f} million pixels; at most {MAX_PIXELS / 1e6:.0f} are taken."
        )
    try:
        return open_image(file)
    except BadImageError as error:
        raise RefusedError(f"{file.name} cannot be read: {error.fault}.") from error


def bounds_of(thresholds: Any) -> tuple[float, float]:
    """The lowest and the highest threshold of a model that are scores."""
    values = np.atleast_1d(np.asarray(thresholds, float))
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if len(values) else (1.0, 1.0)
