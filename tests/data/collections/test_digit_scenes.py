"""The embedded data set: deterministic, with labels that occur together, and no digit in two splits."""

import numpy as np
import pytest

from hf_mlrpl.data.collections.digit_scenes import FAMILIES, digit_scans, draw_digits, load_digit_scenes
from hf_mlrpl.data.columns import SplitNotFound, label_matrix, label_names


def image_bytes(dataset) -> list[bytes]:
    return [value["bytes"].as_py() for value in dataset.data.column("image")]


def test_scenes_look_as_described():
    scenes = load_digit_scenes("test", num_scenes=40)
    assert len(scenes) == 40
    assert label_names(scenes) == [str(digit) for digit in range(10)]
    assert scenes[0]["image_id"] == "test-00000"
    assert {(row["image"].size, row["image"].mode) for row in scenes} == {((64, 64), "L")}
    present = (label_matrix(scenes) == 1).sum(axis=1)
    assert present.min() >= 1 and present.max() <= 4
    assert (label_matrix(scenes) != 0).all(), "every label is known"
    pixels = np.asarray(scenes[0]["image"], dtype=float)
    assert pixels.std() > 5, "noise and digits"


def test_the_seed_decides_every_pixel():
    scenes = load_digit_scenes(num_scenes=20)
    assert image_bytes(scenes) == image_bytes(load_digit_scenes(num_scenes=20))
    assert image_bytes(scenes)[:5] == image_bytes(load_digit_scenes(num_scenes=5)), "fewer are the first ones"
    assert image_bytes(scenes) != image_bytes(load_digit_scenes(num_scenes=20, scenes_seed=1))
    assert not set(image_bytes(scenes)) & set(image_bytes(load_digit_scenes("test", num_scenes=20)))


def test_scenes_leave_the_global_generator_alone():
    state = np.random.get_state()
    load_digit_scenes(num_scenes=2)
    assert all(np.array_equal(a, b) for a, b in zip(state, np.random.get_state(), strict=True))


def test_no_scan_is_in_both_splits():
    train, train_digits = digit_scans("train")
    test, test_digits = digit_scans("test")
    assert len(train) + len(test) == 1797
    assert not {scan.tobytes() for scan in train} & {scan.tobytes() for scan in test}
    assert set(train_digits) == set(test_digits) == set(range(10))
    assert train.min() == 0 and train.max() == 1


def test_labels_of_a_family_occur_together():
    generator = np.random.RandomState(0)
    scenes = [draw_digits(generator) for _ in range(3000)]
    assert {len(scene) for scene in scenes} == {1, 2, 3, 4}
    pairs = [(a, b) for scene in scenes for i, a in enumerate(scene) for b in scene[:i]]
    together = np.mean([any(a in family and b in family for family in FAMILIES) for a, b in pairs])
    # 80 % of the digits come from the family of the scene: 0.8 * 0.8, and some pairs of strangers.
    assert 0.62 < together < 0.74
    counts = np.bincount([digit for scene in scenes for digit in scene])
    assert counts.max() < 1.3 * counts.min(), "all digits are about as frequent"


def test_default_sizes():
    scenes = load_digit_scenes("test")
    assert len(scenes) == 1000
    assert len(set(scenes["image_id"])) == 1000


def test_wrong_arguments_are_explained():
    with pytest.raises(SplitNotFound, match="no split 'val' in digit_scenes. Available splits: 'train', 'test'"):
        load_digit_scenes("val")
    for number in (0, 10**12):
        with pytest.raises(ValueError, match=rf"`num_scenes` must lie in \[1, 100000\], got {number}"):
            load_digit_scenes(num_scenes=number)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The folder that scenes are kept in, from the first one on."""
    monkeypatch.setattr("hf_mlrpl.data.collections.digit_scenes.KEPT_FROM", 1)
    monkeypatch.setattr("huggingface_hub.cached_assets_path", lambda *args, **kwargs: tmp_path)
    return tmp_path


def test_scenes_that_are_kept_are_not_drawn_again(kept, monkeypatch):
    drawn = load_digit_scenes(num_scenes=5, scenes_seed=3)
    (file,) = kept.iterdir()
    monkeypatch.setattr("hf_mlrpl.data.collections.digit_scenes.draw_scene", None)
    again = load_digit_scenes(num_scenes=5, scenes_seed=3)
    assert image_bytes(again) == image_bytes(drawn) and again.features == drawn.features
    assert (label_matrix(again) == label_matrix(drawn)).all() and again["image_id"] == drawn["image_id"]
    for other in ({"num_scenes": 4}, {"scenes_seed": 4}, {"split": "test"}):
        with pytest.raises(TypeError):  # these have not been drawn
            load_digit_scenes(**{"split": "train", "num_scenes": 5, "scenes_seed": 3} | other)


def test_scenes_are_drawn_where_the_kept_ones_are_cut_off_or_cannot_be_written(kept):
    drawn = image_bytes(load_digit_scenes(num_scenes=5))
    (file,) = kept.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert image_bytes(load_digit_scenes(num_scenes=5)) == drawn
    assert image_bytes(load_digit_scenes(num_scenes=5)) == drawn, "and kept again"
    file.unlink()
    file.mkdir()  # where no file can be
    assert image_bytes(load_digit_scenes(num_scenes=5)) == drawn and [*kept.iterdir()] == [file]


def test_boxes_hold_the_digits():
    scenes = load_digit_scenes("test", num_scenes=30, boxes=True)
    assert image_bytes(scenes) == image_bytes(load_digit_scenes("test", num_scenes=30))
    inside, outside = [], []
    for row in scenes:
        assert {*row["objects"]["category"]} == {*row["positives"]}
        pixels = np.asarray(row["image"], dtype=float)
        covered = np.zeros((64, 64), dtype=bool)
        for x, y, width, height in row["objects"]["bbox"]:
            assert 0 <= x and x + width <= 64 and 0 <= y and y + height <= 64
            covered[int(y) : int(y + height), int(x) : int(x + width)] = True
        inside.append(pixels[covered].mean())
        outside.append(pixels[~covered].mean())
    assert (np.array(inside) > np.array(outside) + 10).all(), "digits are brighter than the canvas"
