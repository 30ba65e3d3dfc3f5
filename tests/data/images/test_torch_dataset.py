import copy
import traceback
from types import SimpleNamespace

import pytest
import torch
from datasets import Image
from torch.utils.data import DataLoader

from hf_mlrpl.data.collections.digit_scenes import load_digit_scenes
from hf_mlrpl.data.columns import label_matrix, label_names, make_dataset
from hf_mlrpl.data.hiding import hide_labels
from hf_mlrpl.data.images import torch_dataset
from hf_mlrpl.data.images.photos import BadImageError
from hf_mlrpl.data.images.torch_dataset import PartialLabelImages
from hf_mlrpl.data.images.views import View, plain_view, shift_view, strong_shift_view
from hf_mlrpl.data.protocols.rules import RandomKnown

SIZE = (32, 32)


def images(dataset=None, view=shift_view, **settings) -> PartialLabelImages:
    dataset = load_digit_scenes("train", 6) if dataset is None else dataset
    plain = plain_view(SIZE)
    return PartialLabelImages(dataset, view(SIZE), plain_view=plain, image_size=SIZE, **settings)


def pixels(images: PartialLabelImages, **settings) -> torch.Tensor:
    return torch.cat([batch["pixel_values"] for batch in DataLoader(images, 2, **settings)])


def test_kept_images_change_nothing(monkeypatch):
    kept = images()
    epochs = []
    for epoch in range(3):
        kept.set_epoch(epoch)
        epochs.append(pixels(kept))
    assert len(kept._kept) == 6 and not torch.equal(epochs[0], epochs[1])
    monkeypatch.setattr(torch_dataset, "MAX_KEPT_BYTES", 0)
    read_again = images()
    for epoch, expected in enumerate(epochs):
        read_again.set_epoch(epoch)
        assert torch.equal(pixels(read_again), expected)
    assert read_again._kept == {}


def test_images_are_kept_only_if_all_of_them_fit(monkeypatch):
    some = images()
    size = some[0]["pixel_values"].nbytes * (40 * 40) // (32 * 32)  # with the padding of a shift
    for limit, expected in ((6 * size, 6), (6 * size - 1, 0)):
        monkeypatch.setattr(torch_dataset, "MAX_KEPT_BYTES", limit)
        some = images()
        pixels(some)
        assert len(some._kept) == expected


def test_workers_that_live_on_hear_of_the_next_epoch():
    some, expected = images(), images()
    loader = DataLoader(some, 2, num_workers=2, persistent_workers=True)
    for epoch in (0, 1, 5):
        some.set_epoch(epoch)
        expected.set_epoch(epoch)
        assert torch.equal(torch.cat([batch["pixel_values"] for batch in loader]), pixels(expected))
    assert some._kept == {}, "it is the workers that keep images"


def test_each_worker_keeps_images_only_if_there_is_room_for_as_many_copies(monkeypatch):
    some = images()
    size = sum(pixels.nbytes for pixels in some._prepared(0).values())
    monkeypatch.setattr(torch_dataset, "get_worker_info", lambda: SimpleNamespace(num_workers=2))
    for limit, expected in ((12 * size, 6), (12 * size - 1, 0)):
        monkeypatch.setattr(torch_dataset, "MAX_KEPT_BYTES", limit)
        some = images()
        pixels(some)
        assert len(some._kept) == expected


def test_a_changed_item_does_not_come_again():
    some = images(view=plain_view)
    expected = some[0]["pixel_values"].clone()
    for _ in range(3):
        item = some[0]["pixel_values"]
        assert torch.equal(item, expected)
        item.zero_()


def test_the_same_images_without_augmentation():
    some = images()
    pixels(some)
    assert torch.equal(pixels(some.without_augmentation()), pixels(images(view=plain_view)))


# ---- further views ----


def with_views(dataset=None, **further) -> PartialLabelImages:
    views = {name: view(SIZE) for name, view in further.items()}
    return images(dataset, further_views=views)


def test_every_view_has_its_own_random_choices_which_no_other_view_changes():
    alone, some = images(), with_views(weak=shift_view, strong=strong_shift_view)
    for epoch in range(3):
        alone.set_epoch(epoch)
        some.set_epoch(epoch)
        for index in range(6):
            item = some[index]
            assert torch.equal(item["pixel_values"], alone[index]["pixel_values"])
            assert torch.equal(item["weak"], with_one_view(shift_view, epoch)[index]["weak"])
            assert item["strong"].shape == item["weak"].shape == (3, *SIZE)
    drawn = [some[index] for index in range(6)]
    assert not all(torch.equal(item["pixel_values"], item["weak"]) for item in drawn)
    again = with_views(strong=strong_shift_view, weak=shift_view)  # in another order
    again.set_epoch(2)
    assert all(torch.equal(item["strong"], again[i]["strong"]) for i, item in reversed([*enumerate(drawn)]))


def with_one_view(view, epoch: int) -> PartialLabelImages:
    some = with_views(weak=view)
    some.set_epoch(epoch)
    return some


def test_another_name_draws_otherwise():
    some = with_views(weak=shift_view, weaker=shift_view)
    assert not all(torch.equal(some[i]["weak"], some[i]["weaker"]) for i in range(6))


def test_an_image_is_opened_once_and_prepared_once_for_equal_views(monkeypatch):
    opened, prepared = [], []
    open_pixels = torch_dataset.open_pixels
    monkeypatch.setattr(torch_dataset, "open_pixels", lambda *a, **k: opened.append(1) or open_pixels(*a, **k))
    plain = plain_view(SIZE)
    counted = View(lambda image: prepared.append(1) or plain(image))
    some = PartialLabelImages(
        load_digit_scenes("train", 2),
        counted,
        image_size=SIZE,
        further_views={"weak": counted, "strong": strong_shift_view(SIZE)},
    )
    some[0]
    assert (len(opened), len(prepared)) == (1, 1)


def test_kept_views_change_nothing():
    kept = with_views(weak=plain_view)
    for epoch in range(2):
        kept.set_epoch(epoch)
        fresh = with_views(weak=plain_view)
        fresh.set_epoch(epoch)
        assert all(
            item[name].equal(fresh[i][name]) for i, item in enumerate(kept) for name in ("pixel_values", "weak")
        )
    assert len(kept._kept) == 6


def test_without_augmentation_there_are_no_further_views():
    some = with_views(weak=shift_view)
    plain = some.without_augmentation()
    assert "weak" in some[0] and "weak" not in plain[0]
    assert torch.equal(plain[0]["pixel_values"], images(view=plain_view)[0]["pixel_values"])


# ---- images that cannot be read ----


def with_bad_rows(*rows: int, num_images: int = 6):
    """Scenes of which some are no images."""
    scenes = load_digit_scenes("train", num_images)
    files = [b"no image" if row in rows else image["bytes"] for row, image in enumerate(undecoded(scenes))]
    return make_dataset(files, scenes["image_id"], label_matrix(scenes), label_names(scenes))


def undecoded(dataset) -> list[dict]:
    return dataset.cast_column("image", Image(decode=False))["image"]


@pytest.mark.parametrize("views", [{}, {"weak": shift_view(SIZE)}])
def test_another_image_takes_the_place_of_a_bad_one(views):
    dataset = hide_labels(with_bad_rows(1, 2, 3), RandomKnown(0.5))
    some = images(dataset, on_bad_image="replace", with_full_labels=True, further_views=views)
    places = set()
    for epoch in range(8):
        some.set_epoch(epoch)
        again = copy.copy(some)
        for bad in (1, 2, 3):
            item = some[bad]
            row = int(item["index"])
            assert row not in (1, 2, 3) and item.keys() == some[row].keys()
            assert all(item[name].equal(some[row][name]) for name in item)
            assert again[bad]["index"] == row, "whatever the process, and after resuming"
            places.add(row)
    assert len(places) == 3 and some.count_bad_images() == 3


def test_workers_replace_a_bad_image_by_the_same_one():
    some = images(with_bad_rows(0, 5), on_bad_image="replace")
    expected = images(with_bad_rows(0, 5), on_bad_image="replace")
    assert torch.equal(pixels(some, num_workers=2), pixels(expected))
    assert some.count_bad_images() == expected.count_bad_images() == 2


def test_a_pass_without_augmentation_replaces_no_image():
    plain = images(with_bad_rows(1), on_bad_image="replace").without_augmentation()
    assert plain[1]["index"] == 1 and not plain[1]["pixel_values"].any() and not plain[1]["labels"].any()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_only_bad_images_are_an_error(num_workers):
    some = images(with_bad_rows(*range(6)), on_bad_image="replace")
    with pytest.raises(BadImageError, match="None of the 6 images can be read, train-0000. for one") as caught:
        pixels(some, num_workers=num_workers)
    traceback.clear_frames(caught.tb)  # ends the worker, which a garbage collection would wait for


def test_all_views_of_a_skipped_image_are_black():
    views = {"weak": shift_view(SIZE)}
    item = images(with_bad_rows(0), on_bad_image="skip", further_views=views)[0]
    assert item["weak"].shape == (3, *SIZE) and not item["weak"].any() and not item["labels"].any()


def test_a_bad_image_stays_bad():
    skipping = images(with_bad_rows(0), on_bad_image="skip")
    for _ in range(2):
        assert skipping[0]["pixel_values"].eq(0).all() and skipping.count_bad_images() == 1
    for _ in range(2):
        with pytest.raises(BadImageError, match="on_bad_image=skip"):
            images(with_bad_rows(0))[0]


def test_an_image_that_two_processes_cannot_read_counts_once(monkeypatch):
    first, second = (images(with_bad_rows(0, 1, 2), on_bad_image="skip") for _ in range(2))
    for some, rows in ((first, (0, 1)), (second, (1, 2))):
        for row in rows:
            some[row]
    monkeypatch.setattr(torch_dataset, "sum_over_processes", lambda bad: bad + second.is_bad.int())
    assert first.count_bad_images() == 3
