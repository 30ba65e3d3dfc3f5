import io
import random

import numpy as np
import plain
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from hf_mlrpl.data.images import random_operations
from hf_mlrpl.data.images.photos import image_of, open_pixels, pixels_of
from hf_mlrpl.data.images.random_operations import OPERATIONS, cover_half
from hf_mlrpl.data.images.views import crop_flip_view, fixed_view, plain_view, views_of_tiles
from hf_mlrpl.registry import VIEWS, load

SIZE = (32, 24)


def view(name: str):
    return load(VIEWS[name].target)(SIZE)


@pytest.fixture
def photo() -> Image.Image:
    """A picture without symmetry."""
    rows, columns = np.mgrid[0:60, 0:50] / 60
    pixels = np.stack([rows * columns, rows, columns**2], axis=-1) * 200 + 20
    pixels += np.random.RandomState(0).uniform(-10, 10, pixels.shape)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture
def pixels(photo) -> torch.Tensor:
    return pixels_of(photo)


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_has_the_size_of_the_model_and_draws_from_torch_only(name, pixels):
    before, states = pixels.clone(), (random.getstate(), np.random.get_state()[1].copy())
    for seed in range(20):
        torch.manual_seed(seed)
        seen = view(name)(pixels)
        assert type(seen) is torch.Tensor and seen.dtype == torch.uint8 and seen.shape == (3, *SIZE)
        torch.manual_seed(seed)
        assert torch.equal(seen, view(name)(pixels))
    assert random.getstate() == states[0] and np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(pixels, before)


@pytest.mark.parametrize("name", VIEWS)
def test_only_the_second_step_is_random(name, pixels):
    state = torch.get_rng_state()
    prepared = view(name).prepare(pixels)
    assert torch.equal(torch.get_rng_state(), state)
    kept = prepared.clone()
    view(name).augment(prepared)
    assert torch.equal(prepared, kept)


def test_tensors_differ_from_pillow_by_rounding_only(coco_mini):
    differences = []
    for seed, path in enumerate(sorted((coco_mini / "images").iterdir())[:12]):
        torch.manual_seed(seed)
        expected = pixels_of(plain.crop_flip(path.read_bytes(), 448))
        torch.manual_seed(seed)
        differences.append((crop_flip_view((448, 448))(open_pixels(path)).int() - expected.int()).abs())
    differences = torch.stack(differences).float()
    assert differences.max() <= 2 and differences.mean() < 0.02


def test_a_large_photo_decoded_small_shows_nearly_the_same(coco_mini):
    path = sorted((coco_mini / "images").iterdir())[0]
    large, content = Image.open(path).convert("RGB").resize((1600, 1200), Image.Resampling.BICUBIC), io.BytesIO()
    large.save(content, "JPEG", quality=95)
    seen = view("crop_flip")
    whole, draft = (open_pixels(content.getvalue(), draft=side) for side in (None, seen.least_side))
    assert whole.shape == (3, 1200, 1600) and draft.shape == (3, 150, 200)
    differences = (plain_view((128, 128))(draft).int() - plain_view((128, 128))(whole).int()).abs().float()
    assert 0 < differences.mean() < 1.5


def test_a_shift_is_that_of_the_padded_image(pixels):
    """The kept part ends with the padding; the published order is to crop first."""
    resize, crop = v2.Resize(SIZE, v2.InterpolationMode.BICUBIC), v2.RandomCrop(SIZE, (3, 4), padding_mode="edge")
    for seed in range(10):
        torch.manual_seed(seed)
        expected = crop(resize(pixels))
        torch.manual_seed(seed)
        assert torch.equal(view("shift")(pixels), expected)


@pytest.mark.parametrize("name, axes", [("flip", [[], [2]]), ("flip_both", [[], [1], [2], [1, 2]])])
def test_flips(name, axes, pixels):
    upright = view("plain")(pixels)
    expected = [upright.flip(flipped) for flipped in axes]
    counts = [0] * len(axes)
    for seed in range(200):
        torch.manual_seed(seed)
        flipped = view(name)(pixels)
        counts[next(i for i, candidate in enumerate(expected) if torch.equal(flipped, candidate))] += 1
    assert min(counts) > 100 / len(axes)


def test_the_centre_of_a_photo():
    """Resized without a change of its proportions; of an odd rest the left or upper part is the smaller one."""
    center_crop = load(VIEWS["center_crop"].target)
    for width, height, size, place in (
        (96, 64, (32, 32), (8, 0)),
        (64, 93, (32, 32), (0, 7)),  # 46 high, 14 too many
        (45, 32, (32, 32), (6, 0)),  # 13 too many
        (64, 64, (32, 48), (0, 8)),  # 48 by 48
    ):
        photo = Image.fromarray(np.random.RandomState(0).randint(0, 256, (height, width, 3), np.uint8))
        scale = max(size) / min(width, height)
        resized = photo.resize((int(width * scale), int(height * scale)), Image.Resampling.BILINEAR)
        left, top = place
        expected = np.asarray(resized)[top : top + size[0], left : left + size[1]]
        assert np.abs(np.asarray(center_crop(size)(pixels_of(photo)).permute(1, 2, 0), int) - expected).max() <= 1


def test_the_weak_view_mirrors_half_of_the_images_and_cuts_out_parts():
    """What a pixel of the view shows can be read off an image whose colours are its coordinates."""
    rows, columns = np.mgrid[0:200, 0:240]
    coordinates = torch.from_numpy(np.stack([columns, rows, rows]).astype(np.uint8))
    weak = load(VIEWS["weak"].target)((32, 32))
    areas, ratios, mirrored = [], [], 0
    for seed in range(300):
        torch.manual_seed(seed)
        pixels = weak(coordinates).int()
        x, y = pixels[0, 0], pixels[1, :, 0]
        mirrored += bool(x[0] > x[-1])
        width, height = (x[0] - x[-1]).abs() * 32 / 31, (y[-1] - y[0]) * 32 / 31
        areas.append(float(width * height) / (200 * 240))
        ratios.append(float(width / height))
    assert 120 < mirrored < 180
    assert 0.06 < min(areas) < 0.12 and 0.9 < max(areas) < 1.05 and 0.4 < np.mean(areas) < 0.54
    assert 0.7 < min(ratios) < 0.8 and 1.25 < max(ratios) < 1.4


@pytest.mark.parametrize(("strong", "weak"), [("strong", "weak"), ("strong_shift", "shift")])
def test_a_strong_view_is_the_weak_one_of_a_changed_image(strong, weak, pixels, monkeypatch):
    monkeypatch.setattr(random_operations, "STRONG_OPERATIONS", {"identity": lambda image: image})
    monkeypatch.setattr(random_operations, "_cover", lambda image, *_: image)
    torch.manual_seed(0)
    random_operations.strong_operations(image_of(pixels))
    expected = view(weak)(pixels)
    torch.manual_seed(0)
    assert torch.equal(view(strong)(pixels), expected)


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


# ---- strong operations ----

STRONG_OPERATIONS = random_operations.STRONG_OPERATIONS


def between(monkeypatch, part: float) -> None:
    """Draw this part of every range."""
    monkeypatch.setattr(random_operations, "_between", lambda low, high: low + part * (high - low))


@pytest.mark.parametrize("name", STRONG_OPERATIONS)
def test_a_strong_operation_keeps_size_mode_and_input(name, photo):
    before = levels(photo)
    changed = STRONG_OPERATIONS[name](photo)
    assert changed.size == photo.size and changed.mode == "RGB"
    assert np.array_equal(levels(photo), before)
    assert np.array_equal(levels(changed), before) == (name == "identity")


def test_the_strengths_of_strong_operations(photo, monkeypatch):
    assert len(STRONG_OPERATIONS) == 14
    between(monkeypatch, 0.0)
    expected = levels(photo) * 0.05
    assert np.abs(levels(STRONG_OPERATIONS["brightness"](photo)) - expected).max() <= 1
    assert np.array_equal(levels(STRONG_OPERATIONS["solarize"](photo)), 255 - levels(photo))
    moved, distance = levels(STRONG_OPERATIONS["translate_x"](photo)), round(0.3 * photo.width)
    assert np.array_equal(moved[:, :-distance], levels(photo)[:, distance:]) and not moved[:, -distance:].any()
    assert np.array_equal(levels(STRONG_OPERATIONS["rotate"](photo)), levels(photo.rotate(-30)))
    between(monkeypatch, 1.0)
    assert np.array_equal(levels(STRONG_OPERATIONS["solarize"](photo)), levels(photo))
    white = Image.new("RGB", (60, 60), "white")
    for name, line in (("shear_x", lambda image: image[-1]), ("shear_y", lambda image: image[:, -1])):
        black = (line(levels(STRONG_OPERATIONS[name](white))) == 0).all(axis=-1).sum()
        assert abs(black - 0.3 * 60) <= 2, "the last line moves by 0.3 of the distance from the first"
    steps = {int(np.diff(np.unique(levels(STRONG_OPERATIONS["posterize"](photo)))).min()) for _ in range(50)}
    assert steps == {2, 4, 8, 16}


def test_three_strong_operations_with_replacement_and_a_covered_square(photo, monkeypatch):
    applied = []
    counted = {name: lambda image, name=name: applied.append(name) or image for name in STRONG_OPERATIONS}
    monkeypatch.setattr(random_operations, "STRONG_OPERATIONS", counted)
    torch.manual_seed(0)
    black, sides = Image.new("RGB", (60, 40), "black"), []
    for _ in range(1400):
        covered = levels(random_operations.strong_operations(black)) == random_operations.STRONG_COVER_COLOUR
        sides.append(covered.all(axis=-1).any(axis=0).sum())
    assert len(applied) == 3 * 1400 and all(abs(applied.count(name) / 300 - 1) < 0.3 for name in STRONG_OPERATIONS)
    triples = [applied[i : i + 3] for i in range(0, len(applied), 3)]
    assert any(len(set(triple)) < 3 for triple in triples)
    assert max(sides) == 30 and min(sides) <= 1


@pytest.mark.parametrize("size", [(60, 50), (61, 52), (2, 1)])
def test_tiles_are_the_parts_of_a_grid_each_resized(size):
    """Row by row; what is left of a side is cut off, and where there are too few pixels, tiles are black."""
    pixels = torch.randint(1, 256, (3, *size), dtype=torch.uint8)
    whole = fixed_view((8, 8))
    views = views_of_tiles(whole, 3)
    height, width = max(1, size[0] // 3), max(1, size[1] // 3)
    assert len(views) == 9 and {view.least_side for view in views} == {24}
    for place, view in enumerate(views):
        top, left = place // 3 * height, place % 3 * width
        tile = pixels[:, top : top + height, left : left + width]
        expected = whole(tile) if tile.numel() else torch.zeros(3, 8, 8, dtype=torch.uint8)
        assert torch.equal(view(pixels), expected)
