import numpy as np
import pytest
import torch
from accelerate import PartialState
from PIL import Image
from tiny import tiny_images

from hf_mlrpl.data.collections.digit_scenes import load_digit_scenes
from hf_mlrpl.data.columns import make_dataset
from hf_mlrpl.data.images import training_images
from hf_mlrpl.data.images.torch_dataset import PartialLabelImages
from hf_mlrpl.data.images.training_images import TrainingImages
from hf_mlrpl.data.images.views import plain_view


def seen(images, **options) -> list[tuple[list[int], torch.Tensor]]:
    """Rows and values of a pass that gives the rows and the labels that it sees."""
    passing = images.map(lambda batch: torch.column_stack([batch["index"], batch["labels"]]), "Looking", **options)
    return [(rows.tolist(), values) for rows, values in passing]


def test_a_pass_gives_every_image_once_in_order_and_draws_no_random_numbers():
    images = tiny_images(num_images=20)
    state = torch.get_rng_state()
    chunks = seen(images)
    assert torch.equal(torch.get_rng_state(), state)
    assert [rows for rows, _ in chunks] == [[*range(8)], [*range(8, 16)], [*range(16, 20)]]
    expected = torch.column_stack([torch.arange(20), images.labels])
    assert torch.equal(torch.cat([values for _, values in chunks]), expected)


def test_processes_share_a_pass_with_batches_of_the_same_shapes(monkeypatch):
    images, given, sizes = tiny_images(num_images=19), [], []
    PartialState()  # so that there is a state to change
    monkeypatch.setitem(PartialState._shared_state, "num_processes", 3)
    for process in range(3):
        monkeypatch.setitem(PartialState._shared_state, "process_index", process)
        passing = images.map(lambda batch: sizes.append(len(batch["index"])) or batch["index"], "Looking")
        for rows, values in passing:
            assert torch.equal(rows, values), "without the repeated images"
            given += rows.tolist()
    assert sizes == [7, 7, 7] and sorted(given) == [*range(19)]


def test_rows_are_in_order_whatever_process_they_come_from(monkeypatch):
    """As gathered from two processes, of which the second one has one image less."""
    images = tiny_images(num_images=3)
    monkeypatch.setattr(training_images, "gather_rows", lambda own: torch.tensor([0, 2, 1, -1]))
    assert [rows for rows, _ in seen(images)] == [[0, 1, 2]]
    ((_, values),) = images.map(lambda batch: batch["index"], "Looking")
    assert values.tolist() == [0, 1, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_cannot_be_read_are_left_out(workers):
    images = tiny_images(num_images=20, unreadable=(0, 9, 10, 19))
    images.num_workers = workers
    chunks = seen(images)
    assert [rows for rows, _ in chunks] == [[*range(1, 8)], [8, *range(11, 16)], [16, 17, 18]]
    for rows, values in chunks:
        assert torch.equal(values, torch.column_stack([torch.tensor(rows), images.labels[rows]]))


def test_a_black_photo_is_an_image():
    black = Image.new("RGB", (32, 32), (0, 0, 0))
    dataset = make_dataset([black, b"no image"], ["black", "bad"], np.ones((2, 1), np.int8), ["label"])
    view = plain_view((32, 32))  # black pixels are zeros, as those in the place of a bad image
    photos = PartialLabelImages(dataset, view, image_size=(32, 32), on_bad_image="replace")
    assert [rows for rows, _ in seen(TrainingImages(photos, normalize=torch.Tensor.float, batch_size=8))] == [[0]]


def test_a_pass_begins_where_another_one_was_interrupted():
    assert [rows for rows, _ in seen(tiny_images(num_images=20), first=11)] == [[*range(11, 19)], [19]]


def test_other_images_have_another_fingerprint_and_other_labels_have_not():
    same = {tiny_images(num_labels=num_labels).fingerprint() for num_labels in (3, 5)}
    others = {tiny_images(num_images=19).fingerprint(), *(scenes_fingerprint(seed) for seed in (0, 1))}
    assert len(same) == 1 and len(same | others) == 4


def scenes_fingerprint(seed: int) -> str:
    """That of scenes with the same ids, whatever the seed."""
    scenes = load_digit_scenes(num_scenes=8, scenes_seed=seed)
    return PartialLabelImages(scenes, plain_view((32, 32)), image_size=(32, 32)).fingerprint()


def test_another_network_sees_the_same_images_in_its_own_size():
    images = tiny_images(num_images=12, unreadable=(4,))
    views = {"pixel_values": plain_view((16, 24)), "top": plain_view((16, 24))}
    others = images.in_views(views, (16, 24), lambda pixels: pixels.float() + 1000)

    def look(batch):
        assert batch["pixel_values"].shape[1:] == batch["top"].shape[1:] == (3, 16, 24)
        assert batch["pixel_values"].min() >= 1000 and batch["top"].dtype == torch.uint8
        return batch["labels"]

    chunks = [(rows.tolist(), values) for rows, values in others.map(look, "Looking")]
    assert [row for rows, _ in chunks for row in rows] == [0, 1, 2, 3, *range(5, 12)]
    for rows, values in chunks:
        assert torch.equal(values, images.labels[rows])
    assert len(seen(images)[0][0]) == 7, "the images themselves are as they were"
