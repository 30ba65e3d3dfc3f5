import torch
from accelerate import PartialState
from tiny import tiny_images


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
