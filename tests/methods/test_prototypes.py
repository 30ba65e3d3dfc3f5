"""What SARB's prototypes must be, whatever the number of processes and threads and wherever features are kept."""

import errno
import os
import tempfile
import warnings

import numpy as np
import plain
import pytest
import torch
from accelerate import PartialState
from golden_files import cases, golden
from tiny import PatchMeans, batches_of, tiny_images
from torch.testing import assert_close
from transformers.utils import logging

from hf_mlrpl.distributed import state_digest
from hf_mlrpl.methods import prototypes
from hf_mlrpl.methods.prototypes import Positives, collect_positives, kmeans, label_prototypes


class Images:
    """Representations `(num_images, num_labels, dim)` in the place of images, in batches of 7, without `unreadable`
    ones, and the model that represents them."""

    show_progress = False
    unreadable = -1

    def __init__(self, representations, labels):
        self.representations, self.labels = representations, labels
        self.image_ids = [f"image {row}" for row in range(len(labels))]

    def __len__(self):
        return len(self.labels)

    def map(self, function, description):
        for rows in torch.arange(len(self)).split(7):
            values = function({"pixel_values": self.representations[rows], "labels": self.labels[rows]})
            yield rows[rows != self.unreadable], values[rows != self.unreadable]

    def encode(self, pixel_values):
        return pixel_values

    def represent(self, features):
        return features, None


def random_images(counts=(40, 25, 30), num_images=60, dim=4, dtype=torch.float32):
    """Images of noise; label c has `counts[c]` known positives, the others are unknown or absent."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, 1, (num_images, len(counts)), generator=generator, dtype=torch.int8)
    for label, count in enumerate(counts):
        labels[torch.randperm(num_images, generator=generator)[:count], label] = 1
    return Images(torch.randn(num_images, len(counts), dim, generator=generator).to(dtype), labels)


def cluster(images, num_prototypes=3, seed=0, **options):
    return label_prototypes(images, images, num_prototypes, seed=seed, **options)


@pytest.fixture
def reported(monkeypatch):
    """The warnings of the logger."""
    messages = []
    monkeypatch.setattr(prototypes.logger, "warning_once", messages.append)
    return messages


# ---- the numbers ----


@pytest.mark.golden
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", cases("sarb_prototypes"))
def test_centers_are_those_of_the_authors(case, dtype):
    file = golden("sarb_prototypes")
    tensors = file.case(case)
    images = Images(tensors["in.category_features"].to(dtype), tensors["in.target"])
    found = cluster(images, file.hparams["k"], num_starts=10)
    order = found.centers[..., 0].argsort(dim=1)
    ordered = found.centers.gather(1, order.unsqueeze(-1).expand_as(found.centers))
    assert ordered.dtype == dtype
    prefix = f"{case}/" if case else ""
    actual = {"out.positives_per_class": found.counts, "out.prototypes_sorted": ordered}
    if dtype == torch.float64:
        actual["out64.prototypes_sorted"] = ordered
        assert {prefix + name for name in actual} == file.outputs(case)
    for name, tensor in actual.items():
        file.check(prefix + name, tensor)


def test_a_pass_finds_what_the_plain_one_finds():
    images, model = tiny_images(num_images=20), PatchMeans()
    positives = collect_positives(model, images, memory_limit=1)
    expected = plain.collect_positives(model, batches_of(images), num_labels=5, dim=12)
    for label in range(5):
        assert torch.equal(torch.from_numpy(positives.of(label)), expected[label])


def test_positives_are_kept_by_label_in_the_order_of_the_images():
    images = random_images()
    found = collect_positives(images, images, memory_limit=1)
    for label in range(3):
        expected = images.representations[images.labels[:, label].eq(1), label]
        assert torch.equal(torch.from_numpy(found.of(label)), expected)


def test_separate_clusters_are_found_like_by_the_plain_code():
    images = random_images()
    images.representations[..., 0] += 20 * torch.randint(
        3, images.labels.shape, generator=torch.Generator().manual_seed(0)
    )
    found = cluster(images, num_starts=10).centers
    positives = collect_positives(images, images, memory_limit=1)
    expected = plain.cluster_positives([torch.from_numpy(positives.of(label)) for label in range(3)], 3)
    for actual, wanted in zip(found, expected, strict=True):
        assert_close(actual[actual[:, 0].argsort()], wanted[wanted[:, 0].argsort()])


# ---- the same everywhere ----


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_temporary_file_gives_exactly_the_same(dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    images = random_images(dtype=dtype)
    in_memory, in_file = cluster(images, memory_limit=1), cluster(images, memory_limit=0)
    assert state_digest(vars(in_memory)) == state_digest(vars(in_file))
    assert in_memory.centers.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert not any(tmp_path.iterdir())


def test_only_what_is_beyond_the_limit_goes_to_a_file(monkeypatch):
    reserved = []
    monkeypatch.setattr(prototypes, "_reserve", lambda file, size: reserved.append(size) or os.truncate(file, size))
    images = random_images()
    size = int(images.labels.eq(1).sum()) * 4 * 4
    cluster(images, memory_limit=size / prototypes.GIB)
    assert reserved == []
    cluster(images, memory_limit=(size - 1) / prototypes.GIB)
    assert reserved == [size]


@pytest.mark.parametrize("threads", [1, 4])
def test_the_seed_alone_decides(threads):
    images, before = random_images(), torch.get_num_threads()
    random = torch.get_rng_state(), np.random.get_state()[1]
    first = cluster(images).centers
    try:
        torch.set_num_threads(threads)
        assert torch.equal(cluster(images).centers, first)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.get_rng_state(), random[0])
    np.testing.assert_array_equal(np.random.get_state()[1], random[1])
    assert not torch.equal(cluster(images, seed=1).centers, first)


def test_every_label_is_held_by_one_process():
    labels, held, sizes = random_images(counts=(9, 50, 3, 0, 24, 24, 8)).labels, [], []
    try:
        for process in range(3):
            PartialState().__dict__.update(num_processes=3, process_index=process)
            positives = Positives(labels, memory_limit=1)
            held += positives.labels
            sizes.append(sum(int(labels[:, label].eq(1).sum()) for label in positives.labels))
    finally:
        PartialState().__dict__.update(num_processes=1, process_index=0)
    assert sorted(held) == list(range(7))
    assert max(sizes) - min(sizes) <= 50


def test_the_largest_labels_decide_how_many_are_copied_at_once():
    images = random_images(counts=(40, 25, 30))
    for at_once in (1, 3):
        positives = collect_positives(images, images, memory_limit=(at_once * 40 * 4 * 4) / prototypes.GIB)
        assert positives.labels_at_once() == at_once
    assert collect_positives(images, images, memory_limit=0).labels_at_once() == 1


# ---- few points ----


def test_rare_labels_repeat_their_positives_and_absent_ones_have_none(reported):
    images = random_images(counts=(30, 2, 0, 3, 1))
    found = cluster(images, num_prototypes=3)
    assert found.counts.tolist() == [30, 2, 0, 3, 1]
    assert found.counts.dtype == torch.int64
    for label, repeats in ((1, [0, 1, 0]), (3, [0, 1, 2]), (4, [0, 0, 0])):
        shown = images.representations[images.labels[:, label].eq(1), label]
        assert torch.equal(found.centers[label], shown[repeats])
    assert not found.centers[2].any()
    assert [message[:11] for message in reported] == ["2 of 5 labe", "1 of 5 labe"]
    assert "fewer known positives than the 3 prototypes" in reported[0]
    assert "no known positive" in reported[1]


def test_nothing_is_reported_where_every_label_has_enough(reported):
    cluster(random_images())
    assert reported == []


def test_a_report_is_made_once(caplog):
    logging.enable_propagation()
    try:
        for _ in range(2):
            cluster(random_images(counts=(30, 0, 1, 0)))
    finally:
        logging.disable_propagation()
    assert caplog.text.count("2 of 4 labels have no known positive") == 1


def test_no_label_has_a_known_positive(reported):
    found = cluster(random_images(counts=(0, 0)))
    assert not found.centers.any() and found.counts.tolist() == [0, 0]
    assert found.centers.shape == (2, 3, 4)


@pytest.mark.parametrize("distinct", [1, 2])
def test_fewer_distinct_points_than_centers_are_no_problem(distinct):
    images = random_images()
    images.representations = images.representations[:distinct].repeat(60 // distinct, 1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = cluster(images)
    for label in range(3):
        distances = torch.cdist(found.centers[label], images.representations[:distinct, label])
        assert distances.amin(dim=1).max() < 1e-5
        assert distances.amin(dim=0).max() < 1e-5


def test_an_image_that_cannot_be_opened_is_no_point():
    """The table of labels still has it."""
    images, without = random_images(), random_images()
    images.unreadable = int(images.labels[:, 0].eq(1).nonzero()[3])
    without.labels[images.unreadable] = 0
    assert state_digest(vars(cluster(images))) == state_digest(vars(cluster(without)))


def test_kmeans_of_no_points_is_zero():
    assert kmeans(np.empty((0, 4), np.float32), 3, seed=0).tolist() == [[0] * 4] * 3


# ---- errors ----


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_name_the_image(value):
    images = random_images()
    row = int(images.labels[:, 1].eq(1).nonzero()[5])
    images.representations[row, 1, 2] = value
    with pytest.raises(RuntimeError, match=rf"row {row} \(image {row}\), label 1.*training diverged"):
        cluster(images)


def test_a_full_disk_is_named(monkeypatch, tmp_path):
    def full(file, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(prototypes, "_reserve", full)
    with pytest.raises(OSError, match=r"95 known positives.*No space left on device.*GiB are free.*`TMPDIR`"):
        cluster(random_images(), memory_limit=0)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("setting", "value"), [("num_prototypes", 0), ("num_starts", -1)])
def test_a_setting_below_one_is_refused(setting, value):
    with pytest.raises(ValueError, match=f"`{setting}` must be at least 1, got {value}"):
        label_prototypes(PatchMeans(), tiny_images(), **{"num_prototypes": 3, "seed": 0} | {setting: value})
