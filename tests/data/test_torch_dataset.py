import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hf_mlrpl.data import torch_dataset
from hf_mlrpl.data.columns import make_dataset
from hf_mlrpl.data.digit_scenes import load_digit_scenes
from hf_mlrpl.data.images import BadImageError
from hf_mlrpl.data.torch_dataset import PartialLabelImages
from hf_mlrpl.data.views import plain_view, shift_view

SIZE, MEAN, STD = (32, 32), [0.5] * 3, [0.25] * 3


def images(dataset=None, view=shift_view, **settings) -> PartialLabelImages:
    dataset = load_digit_scenes("train", 6) if dataset is None else dataset
    plain = plain_view(SIZE, MEAN, STD)
    return PartialLabelImages(dataset, view(SIZE, MEAN, STD), plain_view=plain, image_size=SIZE, **settings)


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


def test_workers_end_with_the_epoch_and_keep_nothing():
    some = images()
    assert torch.equal(pixels(some, num_workers=1), pixels(images()))
    assert some._kept == {}


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


def test_a_bad_image_stays_bad():
    dataset = make_dataset([b"no image"], ["0"], np.ones((1, 2), np.int8), ["a", "b"])
    skipping = images(dataset, on_bad_image="skip")
    for _ in range(2):
        assert skipping[0]["pixel_values"].eq(0).all() and skipping.num_bad_images == 1
    for _ in range(2):
        with pytest.raises(BadImageError, match="on_bad_image=skip"):
            images(dataset)[0]
