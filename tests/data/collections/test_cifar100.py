"""CIFAR-100, on tiny files written as Python 2 wrote the published ones."""

import os
import pickle
import struct

import numpy as np
import pytest

from hf_mlrpl.data.collections.cifar100 import load_cifar100
from hf_mlrpl.data.columns import label_matrix, label_names
from hf_mlrpl.data.protocols.hierarchy import read_hierarchy, with_ancestors

NAMES = ["beaver", "apple", "wolf"]


def pickle2(value) -> bytes:
    """`value` in protocol 2 with the byte strings of Python 2."""
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value) -> bytes:
    if isinstance(value, dict):
        return b"}(" + b"".join(_opcodes(key) + _opcodes(entry) for key, entry in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_opcodes, value)) + b"e"
    if isinstance(value, np.ndarray):
        shape = b"(" + b"".join(map(_opcodes, value.shape)) + b"t"
        dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
        return array + b"(K\x01" + shape + dtype + b"\x89" + _opcodes(value.tobytes()) + b"tb"
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    return b"T" + struct.pack("<i", len(value)) + value


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "cifar-100-python"
    root.mkdir()
    (root / "meta").write_bytes(pickle2({b"fine_label_names": [name.encode() for name in NAMES]}))
    for split, indices in (("train", [2, 0]), ("test", [1])):
        content = {b"data": pixels(split, len(indices)), b"fine_labels": indices, b"coarse_labels": [0] * len(indices)}
        (root / split).write_bytes(pickle2(content))
    return tmp_path


def pixels(split: str, count: int) -> np.ndarray:
    return np.random.RandomState(len(split)).randint(0, 256, (count, 3072)).astype(np.uint8)


@pytest.mark.parametrize("part", ["", "cifar-100-python"])
def test_photos_and_labels(folder, part):
    train, test = load_cifar100(folder / part), load_cifar100(folder / part, "test")
    assert label_names(train) == NAMES
    assert np.array_equal(label_matrix(train), [[-1, -1, 1], [1, -1, -1]])
    assert np.array_equal(label_matrix(test), [[-1, 1, -1]])
    assert train["image_id"][:] == ["train-00000", "train-00001"]
    expected = pixels("train", 2)[1].reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(np.asarray(train[1]["image"]), expected)


def test_the_shipped_hierarchy_knows_the_labels(folder):
    dataset = with_ancestors(load_cifar100(folder), read_hierarchy("cifar100_superclasses"))
    present = [{label_names(dataset)[i] for i in row} for row in dataset["positives"]]
    assert present == [{"wolf", "large_carnivores"}, {"beaver", "aquatic_mammals"}]


class RunsCode:
    def __reduce__(self):
        return os.getcwd, ()


@pytest.mark.parametrize(
    "content, message",
    [
        (pickle.dumps(RunsCode(), protocol=2), "posix.getcwd, which could run code"),
        (pickle2({b"data": b""}), "fine_labels"),
        (pickle2({b"fine_labels": [2]})[:-5], "cannot be read as a file of CIFAR-100"),
        (b"no pickle", "cannot be read as a file of CIFAR-100"),
        (b"", "cannot be read as a file of CIFAR-100"),
        (
            pickle2({b"data": pixels("x", 2), b"fine_labels": [1]}),
            r"3072 bytes for each of its 1 labels, got uint8",
        ),
        (pickle2({b"data": pixels("x", 1), b"fine_labels": [3]}), "a label index must be a number from 0 to 2, got 3"),
    ],
)
def test_a_wrong_file_is_named_and_runs_nothing(folder, content, message):
    (folder / "cifar-100-python" / "train").write_bytes(content)
    with pytest.raises(ValueError, match=f"cifar-100-python/train.*{message}"):
        load_cifar100(folder)


def test_missing_files_are_named(folder):
    (folder / "cifar-100-python" / "test").unlink()
    with pytest.raises(FileNotFoundError, match="test does not exist. Is this the Python version of CIFAR-100"):
        load_cifar100(folder, "test")
