"""The store of features outlives kills, is shared by processes, and takes no more memory for more photos."""

import random
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from kill import die
from PIL import Image
from processes import CONTEXT, KILLED, exit_codes, start
from test_stored_images import Encoder, cache, expected, images_of, noise, stored

from hf_mlrpl.data.images import feature_files, storing
from hf_mlrpl.data.images.feature_files import FEATURES
from hf_mlrpl.data.rows import make_dataset

__all__ = ["cache"]  # a fixture of all tests here


def store_until_killed(finished: int, half: bool) -> None:
    """Photos in files of 4; after `finished` files the process kills itself, in the middle of one if `half`."""
    storing.BYTES_PER_FILE = 1
    save, written = feature_files.save_file, []

    def save_or_die(tensors, file):
        if len(written) == finished:
            if half:
                save(tensors, file)
                file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
            die()
        save(tensors, file)
        written.append(file)

    feature_files.save_file = save_or_die
    stored(images_of(noise(range(16))), Encoder())


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("finished", [0, 2])
def test_after_a_kill_the_next_run_computes_what_is_not_on_the_disk(finished, half, cache):
    assert exit_codes(start(store_until_killed, finished, half, assets=cache)) == [KILLED]
    assert len(list(cache.rglob("*.unfinished"))) == half and len(list(cache.rglob("*.safetensors"))) == finished
    images, encoder = images_of(noise(range(16))), Encoder()
    features = stored(images, encoder)
    assert encoder.seen == 16 - 4 * finished and not list(cache.rglob("*.unfinished"))
    assert all(torch.equal(features[row][FEATURES], expected(images, row)) for row in range(16))


class SlowEncoder(Encoder):
    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        return super().__call__(pixels)


def store_and_count(all_are_there, rows: range, report: Path) -> None:
    encoder, images = SlowEncoder(), images_of(noise(rows))
    all_are_there.wait(60)
    features = stored(images, encoder)
    assert all(torch.equal(features[row][FEATURES], expected(images, row)) for row in range(len(rows)))
    report.write_text(str(encoder.seen))


@pytest.mark.slow
def test_runs_at_the_same_time_compute_each_photo_once(cache):
    rows, reports = (range(40), range(20, 60)), (cache / "first.txt", cache / "second.txt")
    all_are_there = CONTEXT.Barrier(2)
    shares = zip(rows, reports, strict=True)
    processes = [start(store_and_count, all_are_there, *share, assets=cache) for share in shares]
    assert exit_codes(*processes) == [0, 0]
    assert sum(int(report.read_text()) for report in reports) == 60


@pytest.mark.parametrize("seed", range(5))
def test_whatever_runs_come_in_whatever_order(seed):
    """Some of the photos in another order, in another precision, with an interruption: none is computed twice."""
    choose, known = random.Random(seed), {torch.float16: set(), torch.float32: set()}
    for _ in range(6):
        rows, dtype = choose.sample(range(20), choose.randint(1, 20)), choose.choice(list(known))
        new = set(rows) - known[dtype]
        images = images_of(noise(rows))
        if len(new) > 4 and choose.random() < 0.5:
            interrupted = Encoder(stop=4)
            with pytest.raises(KeyboardInterrupt):
                stored(images, interrupted, dtype=dtype)
            new = new - set(sorted(new, key=rows.index)[: interrupted.seen])
        encoder = Encoder()
        features = stored(images, encoder, dtype=dtype)
        assert encoder.seen == len(new)
        known[dtype] |= set(rows)
        for row in range(len(rows)):
            assert torch.equal(features[row][FEATURES], expected(images, row).to(dtype))


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


class WideEncoder(Encoder):
    """Gives 64 KiB of each photo."""

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.new_ones(len(pixels), 2**14)


def store_more_and_more(folder: Path, counts: list[int], report: Path) -> None:
    """Store so many photos, and then so many, in files of a MiB; the report has the peak of the memory after each."""
    storing.BYTES_PER_FILE = 2**20
    peaks = []
    for count in counts:
        files = [folder / f"{count}_{row}.png" for row in range(count)]
        for row, file in enumerate(files):
            Image.new("RGB", (8, 8), (row % 256, row // 256, count // 256)).save(file)
        names = [file.name for file in files]
        stored(
            images_of(make_dataset(list(map(str, files)), names, np.ones((count, 1), np.int8), ["x"])), WideEncoder()
        )
        peaks.append(peak_mib())
    report.write_text(" ".join(map(str, peaks)))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_photos(cache):
    """Four times as many have 24 MiB more of features."""
    assert exit_codes(start(store_more_and_more, cache, [128, 512], cache / "peaks.txt", assets=cache)) == [0]
    few, many = map(float, (cache / "peaks.txt").read_text().split())
    assert many - few < 8
