import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from hf_mlrpl.data import random_operations
from hf_mlrpl.data.random_operations import OPERATIONS, cover_half
from hf_mlrpl.data.views import plain_view
from hf_mlrpl.registry import VIEWS, load

SIZE, MEAN, STD = (32, 24), [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]


def view(name: str):
    return load(VIEWS[name].target)(SIZE, MEAN, STD)


@pytest.fixture
def photo() -> Image.Image:
    """A picture without symmetry."""
    rows, columns = np.mgrid[0:60, 0:50] / 60
    pixels = np.stack([rows * columns, rows, columns**2], axis=-1) * 200 + 20
    pixels += np.random.RandomState(0).uniform(-10, 10, pixels.shape)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_a_normalised_tensor_and_draws_from_torch_only(name, photo):
    before, states = np.asarray(photo).copy(), (random.getstate(), np.random.get_state()[1].copy())
    for seed in range(20):
        torch.manual_seed(seed)
        pixels = view(name)(photo)
        assert type(pixels) is torch.Tensor and pixels.dtype == torch.float32 and pixels.shape == (3, *SIZE)
        torch.manual_seed(seed)
        assert torch.equal(pixels, view(name)(photo))
        levels = pixels * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
        assert -1e-6 <= levels.min() and levels.max() <= 1 + 1e-6
    assert random.getstate() == states[0] and np.array_equal(np.random.get_state()[1], states[1])
    assert np.array_equal(np.asarray(photo), before)


@pytest.mark.parametrize("name", VIEWS)
def test_only_the_second_step_is_random(name, photo):
    state = torch.get_rng_state()
    prepared = view(name).prepare(photo)
    assert torch.equal(torch.get_rng_state(), state)
    kept = prepared.clone() if isinstance(prepared, torch.Tensor) else prepared.copy()
    view(name).augment(prepared)
    assert torch.equal(prepared, kept) if isinstance(prepared, torch.Tensor) else prepared == kept


def test_a_shift_is_that_of_the_padded_image(photo):
    """The kept part ends with the padding; the published order is to crop first and to normalise last."""
    resize, crop = v2.Resize(SIZE, v2.InterpolationMode.BICUBIC), v2.RandomCrop(SIZE, (3, 4), padding_mode="edge")
    plain = plain_view(SIZE, MEAN, STD)
    for seed in range(10):
        torch.manual_seed(seed)
        expected = plain(crop(resize(photo)))
        torch.manual_seed(seed)
        assert torch.equal(view("shift")(photo), expected)


@pytest.mark.parametrize("name, axes", [("flip", [[], [2]]), ("flip_both", [[], [1], [2], [1, 2]])])
def test_flips(name, axes, photo):
    plain = view("plain")(photo)
    expected = [plain.flip(flipped) for flipped in axes]
    counts = [0] * len(axes)
    for seed in range(200):
        torch.manual_seed(seed)
        flipped = view(name)(photo)
        counts[next(i for i, candidate in enumerate(expected) if torch.equal(flipped, candidate))] += 1
    assert min(counts) > 100 / len(axes)


# ---- random operations ----


def sign(monkeypatch, positive: bool) -> None:
    monkeypatch.setattr(random_operations, "_either_sign", lambda value: value if positive else -value)


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(float)


@pytest.mark.parametrize("level", [1, 5, 9])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_keeps_size_mode_and_input(name, level, photo):
    before = levels(photo)
    changed = OPERATIONS[name](photo, level / 9)
    assert changed.size == photo.size and changed.mode == "RGB"
    assert np.array_equal(levels(photo), before)


def test_there_are_fifteen_operations_that_change_an_image(photo):
    assert len(OPERATIONS) == 15
    assert [name for name in OPERATIONS if np.array_equal(levels(OPERATIONS[name](photo, 1.0)), levels(photo))] == []


def test_the_strengths_of_colours(photo, monkeypatch):
    for positive, factor in ((True, 1.9), (False, 0.1)):
        sign(monkeypatch, positive)
        expected = (levels(photo) * factor).clip(0, 255)
        assert np.abs(levels(OPERATIONS["brightness"](photo, 1.0)) - expected).max() <= 1
        weaker = (levels(photo) * (1 + (factor - 1) / 9)).clip(0, 255)
        assert np.abs(levels(OPERATIONS["brightness"](photo, 1 / 9)) - weaker).max() <= 1
    assert np.array_equal(levels(OPERATIONS["solarize"](photo, 1.0)), levels(OPERATIONS["invert"](photo, 1.0)))
    assert np.array_equal(levels(OPERATIONS["posterize"](photo, 1.0)), levels(photo) // 16 * 16)
    assert np.array_equal(levels(OPERATIONS["posterize"](photo, 1 / 9)), levels(photo))


def test_the_strengths_of_movements(photo, monkeypatch):
    sign(monkeypatch, True)
    moved = levels(OPERATIONS["translate_x"](photo, 1.0))
    distance = round(150 / 331 * photo.width)
    assert np.array_equal(moved[:, distance:], levels(photo)[:, :-distance]) and (moved[:, :distance] == 128).all()
    white = Image.new("RGB", (60, 60), "white")
    for name, line in (("shear_x", lambda image: image[-1]), ("shear_y", lambda image: image[:, -1])):
        grey = (line(levels(OPERATIONS[name](white, 1.0))) == 128).all(axis=-1).sum()
        assert abs(grey - 0.3 * 60) <= 2, "the last line moves by 0.3 of the distance from the first"
    turned = levels(OPERATIONS["rotate"](photo, 1.0))
    expected = levels(photo.rotate(30, fillcolor=(128, 128, 128)))
    assert np.array_equal(turned, expected)


def test_covered_parts():
    black = Image.new("RGB", (60, 40), "black")
    sizes = []
    for seed in range(200):
        torch.manual_seed(seed)
        covered = levels(cover_half(black))
        rows, columns = np.nonzero(covered.any(axis=-1))
        if len(rows):
            height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
            sizes.append((height, width))
            assert len(rows) == height * width and len(np.unique(covered[rows, columns], axis=0)) == 1
            small = levels(OPERATIONS["cover"](black, 0.5)) == random_operations.COVER_COLOUR
            assert small.all(axis=-1).sum() <= 100
    assert max(sizes) == (20, 30) and min(sizes)[0] < 15, "cut off at the border"


def test_two_operations_each_with_probability_one_half(photo, monkeypatch):
    applied, strengths = [], set()

    def remember(name):
        def operation(image, strength):
            applied.append(name)
            strengths.add(round(9 * strength, 6))
            return image

        return operation

    monkeypatch.setattr(random_operations, "OPERATIONS", {name: remember(name) for name in OPERATIONS})
    torch.manual_seed(0)
    for _ in range(3000):
        random_operations.random_operations(photo)
    assert abs(len(applied) / 3000 - 1) < 0.05
    assert strengths == set(range(1, 10))
    assert all(abs(applied.count(name) / 200 - 1) < 0.3 for name in OPERATIONS)
