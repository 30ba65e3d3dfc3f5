import torch
from accelerate import PartialState
from tiny import tiny_images

from hf_mlrpl.data.collections.digit_scenes import load_digit_scenes
from hf_mlrpl.data.images.torch_dataset import PartialLabelImages
from hf_mlrpl.data.images.views import plain_view


def test_a_pass_shows_every_image_once_in_order_and_draws_no_random_numbers():
    images = tiny_images(num_images=20)
    state = torch.get_rng_state()
    batches = list(images.batches("Looking"))
    assert torch.equal(torch.get_rng_state(), state)
    assert [len(batch["index"]) for batch in batches] == [8, 8, 4]
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(20))
    assert torch.equal(torch.cat([batch["labels"] for batch in batches]), images.labels)


def test_processes_share_a_pass_with_batches_of_the_same_shapes(monkeypatch):
    images, seen, shapes = tiny_images(num_images=19), [], []
    PartialState()  # so that there is a state to change
    monkeypatch.setitem(PartialState._shared_state, "num_processes", 3)
    for process in range(3):
        monkeypatch.setitem(PartialState._shared_state, "process_index", process)
        batches = list(images.batches("Looking"))
        shapes.append([len(batch["index"]) for batch in batches])
        seen += torch.cat([batch["index"] for batch in batches]).tolist()
        for batch in batches:
            inside = batch["index"] >= 0
            assert torch.equal(batch["labels"][inside], images.labels[batch["index"][inside]])
    assert shapes == [[7], [7], [7]]
    assert sorted(seen) == [-1, -1, *range(19)]


def test_a_pass_begins_where_another_one_was_interrupted():
    images = tiny_images(num_images=20)
    assert torch.cat([batch["index"] for batch in images.batches("Looking", first=11)]).tolist() == [*range(11, 20)]


def test_other_images_have_another_fingerprint_and_other_labels_have_not():
    same = {tiny_images(num_labels=num_labels).fingerprint() for num_labels in (3, 5)}
    others = {tiny_images(num_images=19).fingerprint(), *(scenes_fingerprint(seed) for seed in (0, 1))}
    assert len(same) == 1 and len(same | others) == 4


def scenes_fingerprint(seed: int) -> str:
    """That of scenes with the same ids, whatever the seed."""
    scenes = load_digit_scenes(num_scenes=8, scenes_seed=seed)
    return PartialLabelImages(scenes, plain_view((32, 32)), image_size=(32, 32)).fingerprint()
