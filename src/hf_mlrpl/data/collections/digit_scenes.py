"""Digit scenes, the embedded data set: small scenes of real handwritten digits that occur together.

Nothing is downloaded: the digits are those of `sklearn.datasets.load_digits`, 1,797 scans of 8 x 8 pixels.
"""

import hashlib
import io
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...extras import check_installed, optional_packages
from ...labels import NEGATIVE, POSITIVE
from ...ranges import interval
from ..columns import Box, check_split, make_dataset, with_objects

if TYPE_CHECKING:
    from datasets import Dataset

NUM_SCENES = {"train": 4000, "test": 1000}
FAMILIES = ((0, 1, 2), (3, 4, 5), (6, 7, 8, 9))
NUM_LABELS = 10
CANVAS = 64
MAX_DIGITS = 4
MIN_SIZE, MAX_SIZE = 16, 24
FAMILY_PROBABILITY = 0.8
TEST_PROPORTION = 0.25
PLACES = 24  # candidate places per digit
ALLOWED_OVERLAP = 0.1  # of the smaller of two digits
KEPT_FROM = 1000  # scenes; fewer are drawn in less than a second


def load_digit_scenes(
    split: str = "train", num_scenes: int | None = None, scenes_seed: int = 0, boxes: bool = False
) -> "Dataset":
    """Grey scenes of 64 x 64 pixels with one to four digits each; the labels are the digits "0" to "9".

    Digits of 16 to 24 pixels lie at random places on a noisy canvas, each with its own contrast. About 80 % of the
    digits of a scene come from one of the families {0, 1, 2}, {3, 4, 5}, {6, 7, 8, 9}, so labels occur together. The
    scans in test scenes never occur in training scenes, whatever the seeds.

    Drawing 5,000 scenes takes seconds, so many at a time stay in the cache of Hugging Face (`HF_ASSETS_CACHE`) until
    this code or a library that draws changes.

    Args:
        split: "train" or "test".
        num_scenes: 4,000 for training and 1,000 for testing by default, at most 100,000; fewer are the first ones of
            more.
        scenes_seed: the same seed gives the same pixels.
        boxes: add the column `objects` with the place of every digit; such scenes are drawn anew.
    """
    check_split(split, list(NUM_SCENES), "digit_scenes")
    num_scenes = NUM_SCENES[split] if num_scenes is None else num_scenes
    interval("[1, 100000]").check(num_scenes, "num_scenes")
    if boxes or num_scenes < KEPT_FROM:
        return draw_scenes(split, num_scenes, scenes_seed, boxes)
    return _kept_scenes(split, num_scenes, scenes_seed)


def _kept_scenes(split: str, num_scenes: int, scenes_seed: int) -> "Dataset":
    """The scenes of an earlier call, or new ones, which are kept where the cache can be written to."""
    import pyarrow as pa
    from datasets import Dataset
    from huggingface_hub import cached_assets_path

    try:
        folder = cached_assets_path("hf-mlrpl", namespace="digit_scenes")
    except (OSError, ValueError):  # there is no room for a cache
        return draw_scenes(split, num_scenes, scenes_seed)
    file = folder / f"{split}-{num_scenes}-{scenes_seed}-{_version()}.arrow"
    try:
        scenes = Dataset.from_file(str(file))
        if len(scenes) == num_scenes:
            return scenes
    except (OSError, pa.ArrowInvalid):  # not there, or cut off
        pass
    scenes = draw_scenes(split, num_scenes, scenes_seed)
    unfinished = file.with_suffix(f".{os.getpid()}")
    try:
        with pa.OSFile(str(unfinished), "wb") as sink, pa.ipc.new_stream(sink, scenes.data.schema) as writer:
            writer.write_table(scenes.data.table)
        unfinished.replace(file)
    except OSError:
        unfinished.unlink(missing_ok=True)
    return scenes


def _version() -> str:
    """Tells apart what the pixels depend on beside the settings."""
    check_installed("sklearn")
    versions = " ".join(version(package) for package in ("numpy", "pillow", "scikit-learn"))  # imports none of them
    return hashlib.sha256(Path(__file__).read_bytes() + versions.encode()).hexdigest()[:12]


def draw_scenes(split: str, num_scenes: int, scenes_seed: int, boxes: bool = False) -> "Dataset":
    """The scenes of `load_digit_scenes`, drawn now."""
    scans, digits = digit_scans(split)
    by_digit = [scans[digits == digit] for digit in range(NUM_LABELS)]
    generator = np.random.RandomState([scenes_seed, list(NUM_SCENES).index(split)])
    images, labels = [], np.full((num_scenes, NUM_LABELS), NEGATIVE, dtype=np.int8)
    objects: list[list[tuple[str, Box]]] = []
    for row in labels:
        drawn = draw_digits(generator)
        row[drawn] = POSITIVE
        pixels, places = draw_scene(generator, drawn, by_digit)
        images.append(_png(pixels))
        objects.append([(str(digit), (x, y, size, size)) for digit, (y, x, size) in zip(drawn, places, strict=True)])
    ids = [f"{split}-{i:05d}" for i in range(num_scenes)]
    dataset = make_dataset(images, ids, labels, [str(digit) for digit in range(NUM_LABELS)])
    return with_objects(dataset, objects) if boxes else dataset


def digit_scans(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The scans of a split, `(num_scans, 8, 8)` in [0, 1], and their digits, `(num_scans,)`."""
    with optional_packages():
        from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.RandomState(0).permutation(len(data.target))  # not `seed`: the splits must never mix
    num_test = round(TEST_PROPORTION * len(order))
    rows = order[:num_test] if split == "test" else order[num_test:]
    return data.images[rows] / 16, data.target[rows]


def draw_digits(generator: np.random.RandomState) -> list[int]:
    """The digits of one scene, most of them from one family, repetitions allowed."""
    any_digit = generator.randint(NUM_LABELS)
    home = next(family for family in FAMILIES if any_digit in family)
    others = [digit for digit in range(NUM_LABELS) if digit not in home]
    return [
        int(generator.choice(home if generator.random_sample() < FAMILY_PROBABILITY else others))
        for _ in range(generator.randint(1, MAX_DIGITS + 1))
    ]


def draw_scene(
    generator: np.random.RandomState, digits: list[int], scans: list[np.ndarray]
) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """The pixels of one scene, `(64, 64)` uint8, and the top, left and size of every digit."""
    from PIL import Image

    canvas = np.full((CANVAS, CANVAS), generator.uniform(40, 100))
    boxes: list[tuple[int, int, int]] = []
    for digit in digits:
        scan = scans[digit][generator.randint(len(scans[digit]))]
        size = generator.randint(MIN_SIZE, MAX_SIZE + 1)
        y, x = _free_place(generator, size, boxes)
        boxes.append((y, x, size))
        ink = Image.fromarray(scan.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
        canvas[y : y + size, x : x + size] += generator.uniform(50, 140) * np.asarray(ink).clip(0, 1)
    canvas += generator.normal(0, 16, canvas.shape)
    return canvas.round().clip(0, 255).astype(np.uint8), boxes


def _free_place(generator: np.random.RandomState, size: int, boxes: list[tuple[int, int, int]]) -> tuple[int, int]:
    """The first of some random places that covers little of `boxes` (top, left, size); else the best of them."""
    places = generator.randint(0, CANVAS - size + 1, size=(PLACES, 2))
    covered = np.zeros(PLACES)
    for top, left, other in boxes:
        height = np.minimum(places[:, 0] + size, top + other) - np.maximum(places[:, 0], top)
        width = np.minimum(places[:, 1] + size, left + other) - np.maximum(places[:, 1], left)
        overlap = height.clip(0) * width.clip(0) / min(size, other) ** 2
        covered = np.maximum(covered, overlap)
    y, x = places[np.argmin(np.maximum(covered, ALLOWED_OVERLAP))]
    return int(y), int(x)


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
