"""Features that are stored are those of the pixels, whatever happens on the way."""

import copy
import errno
import pickle
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from safetensors import SafetensorError

from hf_mlrpl.data.images import feature_files
from hf_mlrpl.data.images.feature_files import FEATURES, FeatureFiles, StoredFeatures
from hf_mlrpl.data.images.photos import BadImageError
from hf_mlrpl.data.images.stored_images import StoredImages, StoredViews
from hf_mlrpl.data.images.storing import Storing
from hf_mlrpl.data.images.torch_dataset import PIXELS, PartialLabelImages
from hf_mlrpl.data.images.training_images import TrainingImages
from hf_mlrpl.data.images.views import View, crop_flip_view, flip_both_view, flip_view, normalized, plain_view
from hf_mlrpl.data.rows import make_dataset
from hf_mlrpl.models.parts.pooling import mean_of_map

SIZE = (24, 16)


def noise(rows, seed: int = 0, unreadable=()):
    """A data set of the photos `rows` of a long list."""
    photos = []
    for row in rows:
        pixels = np.random.default_rng([seed, row]).integers(0, 256, (20, 30, 3), np.uint8)
        photos.append(b"no image" if row in unreadable else Image.fromarray(pixels))
    labels = np.ones((len(photos), 2), np.int8)
    return make_dataset(photos, [f"image {row}" for row in rows], labels, ["a", "b"])


class Encoder:
    """Counts the images that it sees; breaks behind the first `stop` of them."""

    def __init__(self, stop: int | None = None, name: str = "encoder"):
        self.seen, self.stop, self.name = 0, stop, name

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        if self.stop is not None and self.seen + len(pixels) > self.stop:
            raise KeyboardInterrupt
        self.seen += len(pixels)
        return pixels[:, :, ::2, ::2].exp()

    def storing(self, dtype: torch.dtype = torch.float32) -> Storing:
        return Storing(
            encode=self,
            normalize=partial(normalized, mean=[0.5] * 3, std=[0.5] * 3),
            settings=lambda: {"weights": self.name, "dtype": str(dtype)},
            dtype=dtype,
            batch_size=4,
        )


def images_of(dataset, view: View | None = None, **settings) -> PartialLabelImages:
    plain = plain_view(SIZE)
    return PartialLabelImages(dataset, view or plain, plain_view=plain, image_size=SIZE, **settings)


def stored(images: PartialLabelImages, encoder: Encoder, count: int | None = None, **settings) -> StoredImages:
    view = images.views[PIXELS]
    views = StoredViews.of(view) if count is None else StoredViews.with_number(count, view, images.plain_view)
    made = StoredImages(images, views, encoder.storing(**settings))
    made.make_ready()
    return made


def expected(images: PartialLabelImages, row: int) -> torch.Tensor:
    pixels = normalized(images[row][PIXELS], [0.5] * 3, [0.5] * 3)
    return Encoder()(pixels.unsqueeze(0))[0]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Features of this test alone."""

    def folder(library, namespace, subfolder):
        place = tmp_path / library / namespace / subfolder
        place.mkdir(parents=True, exist_ok=True)
        return place

    monkeypatch.setattr(feature_files, "cached_assets_path", folder)
    return tmp_path


@pytest.mark.parametrize("make_view", [plain_view, flip_view, flip_both_view])
def test_an_item_has_the_features_of_its_pixels_in_each_epoch(make_view):
    images = images_of(noise(range(9)), make_view(SIZE), seed=3)
    features = stored(images, Encoder())
    seen = set()
    for epoch in range(4):
        images.set_epoch(epoch)
        for row in range(9):
            item = features[row]
            assert torch.equal(item[FEATURES], expected(images, row)) and PIXELS not in item
            seen.add((row, item[FEATURES].sum().item()))
    assert len(seen) > 9 or make_view is plain_view


@pytest.mark.parametrize("unreadable, count", [((), None), ((2,), None), ((), 4)])
def test_the_items_of_a_batch_are_those_of_its_rows(unreadable, count):
    view = crop_flip_view(SIZE) if count else flip_both_view(SIZE)
    images = images_of(
        noise(range(9), unreadable=unreadable), view, seed=3, on_bad_image="replace", with_full_labels=True
    )
    features = stored(images, Encoder(), count)
    for rows in [0, 5, 1, 8], [4, 2, 3, 7]:
        before = torch.get_rng_state()
        batch = features.__getitems__(rows)
        assert torch.equal(torch.get_rng_state(), before)
        for row, item in zip(rows, batch, strict=True):
            alone = features[row]
            assert item.keys() == alone.keys() and all(torch.equal(item[name], alone[name]) for name in alone)


@pytest.mark.parametrize("unreadable", [(), (2,)])
def test_means_of_maps_are_stored_beside_them(unreadable, cache):
    maps, means = Encoder(), Encoder()
    images = images_of(noise(range(9), unreadable=unreadable), flip_view(SIZE), on_bad_image="skip")
    of_maps = stored(images, maps, dtype=torch.float16)
    of_means = StoredImages(
        images, of_maps.stored, replace(means.storing(torch.float16), mean=lambda maps: mean_of_map(maps.float()))
    )
    of_means.make_ready()
    assert not means.seen  # they are made of the maps
    for row in set(range(9)) - set(unreadable):
        assert torch.equal(of_means[row][FEATURES], of_maps[row][FEATURES].float().mean(dim=(1, 2)))
    files = {file: file.stat().st_mtime_ns for file in cache.rglob("*.safetensors")}
    of_means._made = []
    of_means.make_ready()
    assert files == {file: file.stat().st_mtime_ns for file in cache.rglob("*.safetensors")}


def test_each_photo_is_seen_once_whatever_their_order_and_number(cache):
    encoder = Encoder()
    stored(images_of(noise(range(10)), flip_view(SIZE)), encoder)
    assert encoder.seen == 20  # and their mirror images
    others = images_of(noise([7, 3, 9]))
    features = stored(others, encoder)
    assert encoder.seen == 20
    assert all(torch.equal(features[row][FEATURES], expected(others, row)) for row in range(3))
    stored(images_of(noise([5, 10, 11])), encoder)
    assert encoder.seen == 22


@pytest.mark.parametrize(
    "change", [{"name": "other weights"}, {"dtype": torch.float16}, {"seed": 1}, {"view": flip_view((16, 24))}]
)
def test_nothing_of_other_weights_precision_photos_or_views_is_used(change):
    stored(images_of(noise(range(4))), Encoder())
    encoder = Encoder(name=change.get("name", "encoder"))
    images = images_of(noise(range(4), seed=change.get("seed", 0)), change.get("view"))
    stored(images, encoder, dtype=change.get("dtype", torch.float32))
    assert encoder.seen in (4, 8)


def test_a_changed_photo_is_computed_again(tmp_path):
    files = [tmp_path / f"{row}.png" for row in range(3)]
    for row, file in enumerate(files):
        Image.new("RGB", (20, 30), (row, 0, 0)).save(file)
    labels = np.ones((3, 1), np.int8)
    dataset = make_dataset([str(file) for file in files], ["a", "b", "c"], labels, ["x"])
    encoder = Encoder()
    first = stored(images_of(dataset), encoder)
    Image.new("RGB", (20, 30), (9, 0, 0)).save(files[1])
    images = images_of(dataset)
    second = stored(images, encoder)
    assert encoder.seen == 4 and second.digests() != first.digests()
    assert all(torch.equal(second[row][FEATURES], expected(images, row)) for row in range(3))


def test_new_weights_give_new_features():
    encoder = Encoder()
    features = stored(images_of(noise(range(4))), encoder)
    encoder.name = "new weights"
    features.make_ready()
    features.make_ready()
    assert encoder.seen == 8


@pytest.mark.parametrize("view", [plain_view, flip_view])
def test_what_is_computed_before_an_interruption_is_not_computed_again(view):
    images = images_of(noise(range(16)), view(SIZE))
    with pytest.raises(KeyboardInterrupt):
        stored(images, Encoder(stop=11))
    encoder = Encoder()
    features = stored(images, encoder)
    assert 16 - 8 <= encoder.seen <= 32 - 8
    assert all(torch.equal(features[row][FEATURES], expected(images, row)) for row in range(16))


def test_random_views_are_the_same_in_every_run():
    images = images_of(noise(range(3)), crop_flip_view(SIZE), seed=1)
    encoder = Encoder()
    one = stored(images, encoder, count=3)
    other = stored(images_of(noise([2, 1]), crop_flip_view(SIZE), seed=2), encoder, count=3)
    assert encoder.seen == 9
    drawn = []
    for epoch in range(9):
        images.set_epoch(epoch)
        drawn.append(one[1][FEATURES])
    assert len({each.sum().item() for each in drawn}) == 3
    assert any(torch.equal(other[1][FEATURES], each) for each in drawn)


@pytest.mark.parametrize("is_augmented", [False, True])
def test_passes_over_the_training_images_see_what_they_would_of_pixels(is_augmented):
    images = images_of(noise(range(6)), flip_view(SIZE))
    training = TrainingImages(stored(images, Encoder()), normalize=lambda pixels: pixels, batch_size=4)

    def look(batch):
        assert isinstance(batch[PIXELS], StoredFeatures)
        return batch[PIXELS].features

    seen = images if is_augmented else images.without_augmentation()
    for rows, features in (training.augmented() if is_augmented else training).map(look, "Looking"):
        assert all(torch.equal(each, expected(seen, int(row))) for row, each in zip(rows, features, strict=True))


@pytest.mark.parametrize("policy", ["replace", "skip", "error"])
def test_photos_that_cannot_be_read(policy):
    dataset = noise(range(8), unreadable=[2, 5])
    if policy == "error":
        with pytest.raises(BadImageError, match="image 2"):
            stored(images_of(dataset), Encoder())
        return
    features = stored(images_of(dataset, on_bad_image=policy), Encoder())
    assert features.count_bad_images() == 2
    item = features[2]
    if policy == "replace":
        assert int(item["index"]) not in (2, 5) and item[FEATURES].any()
    else:
        assert not item[FEATURES].any() and not item["labels"].any()


def test_a_full_disk_is_an_error_with_a_way_out(monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OSError, match="need 0.0 GB, and .* has 0.0 GB left. Make room. .*HF_ASSETS_CACHE"):
        stored(images_of(noise(range(4))), Encoder())


def test_a_file_that_cannot_be_written_leaves_nothing_behind(cache, monkeypatch):
    def fail(tensors, file):
        file.write_bytes(b"half")
        raise SafetensorError("No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left .* the next run goes on"):
        patch.setattr(feature_files, "save_file", fail)
        stored(images_of(noise(range(4))), Encoder())
    assert [file.name for file in cache.rglob("*") if file.is_file() and file.name != ".lock"] == ["made_from.json"]


def test_a_cache_that_cannot_be_written_is_an_error_with_a_way_out(cache, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    for owner, name in ((FileLock, "acquire"), (feature_files, "cached_assets_path")):
        with (
            monkeypatch.context() as patch,
            pytest.raises(OSError, match="Permission denied. Choose another place, .* HF_ASSETS_CACHE names"),
        ):
            patch.setattr(owner, name, fail)
            stored(images_of(noise(range(4))), Encoder())


def test_what_a_killed_process_left_behind_is_removed(cache):
    """Killed in the middle of a file, a process has written the others, and a part of this one."""
    images = images_of(noise(range(8)))
    stored(images_of(noise(range(4))), Encoder())
    (file,) = cache.rglob("*.safetensors")
    file.with_name("half.unfinished").write_bytes(file.read_bytes()[:100])
    encoder = Encoder()
    features = stored(images, encoder)
    assert encoder.seen == 4 and not list(cache.rglob("*.unfinished"))
    assert all(torch.equal(features[row][FEATURES], expected(images, row)) for row in range(8))


def test_a_damaged_file_is_an_error_with_its_name(cache):
    stored(images_of(noise(range(4))), Encoder())
    (file,) = cache.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ValueError, match=f"{file.name} is damaged .* Delete it"):
        stored(images_of(noise(range(4))), Encoder())


@pytest.mark.parametrize(
    "scale, error, message", [(1e6, ValueError, "feature_dtype=bfloat16"), (float("nan"), RuntimeError, "NaN")]
)
def test_features_that_are_no_numbers_are_an_error(scale, error, message):
    encoder = Encoder()
    storing = replace(encoder.storing(torch.float16), encode=lambda pixels: encoder(pixels) * scale)
    images = images_of(noise(range(4)))
    with pytest.raises(error, match=message):
        StoredImages(images, StoredViews.of(images.views[PIXELS]), storing).make_ready()


def test_a_worker_process_gets_paths_not_features():
    features = stored(images_of(noise(range(40))), Encoder())
    features[3]
    copied = pickle.loads(pickle.dumps(features))
    assert torch.equal(copied[3][FEATURES], features[3][FEATURES])
    assert copied._storing is None


def test_features_are_read_from_the_disk_when_they_are_needed():
    """The memory of a tensor that maps a file cannot be resized."""
    features = stored(images_of(noise(range(4))), Encoder())
    assert not features[0][FEATURES].untyped_storage().resizable()


@pytest.mark.parametrize(
    "use, name",
    [
        (lambda pixel_values: torch.cat([pixel_values]), "torch.cat"),
        (lambda pixel_values: pixel_values.flip(-1), "pixel_values.flip"),
        (lambda pixel_values: pixel_values[:1], r"pixel_values\[...\]"),
    ],
)
def test_pixels_of_stored_features_are_refused_by_name(use, name):
    features = StoredFeatures(torch.zeros(1))
    assert torch.equal(copy.deepcopy(features).features, features.features)
    with pytest.raises((AttributeError, TypeError), match=f"{name} needs the pixels .*store_features=false"):
        use(features)


def test_equal_photos_are_found_in_any_file():
    files = FeatureFiles({"test": 1})
    photos = np.arange(64, dtype=np.uint8).reshape(4, 16)
    files.add(photos[:2], torch.zeros(2, 3))
    files.add(photos[2:3], torch.ones(1, 3))
    found = files.find(photos[::-1])
    assert found.is_missing.tolist() == [True, False, False, False] and found[1].tolist() == [1, 1, 1]
