"""Containers that no tool writes: folders, lists; and what no container is."""

import pytest
from photos import write_photos
from PIL import Image

from hf_mlrpl.data.columns import label_matrix, label_names
from hf_mlrpl.data.containers.folders import load_folders
from hf_mlrpl.data.containers.index_list import load_index_list
from hf_mlrpl.registry import DATASETS, recognise


def labels(dataset):
    return dict(zip(label_names(dataset), label_matrix(dataset).T.tolist(), strict=True))


def save(folder, name, colour):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(folder / name)


def test_photos_that_lie_in_several_folders_have_several_labels(tmp_path, caplog):
    for name, colour in (("dog/a.png", 1), ("cat/a.png", 1), ("cat/b.png", 2), ("dog/c.png", 3), ("cat/c.png", 4)):
        save(tmp_path, name, colour)
    assert recognise(tmp_path)[0] == ["folders"]
    dataset = load_folders(tmp_path)
    assert dataset["image_id"][:] == ["a.png", "b.png", "cat/c.png", "dog/c.png"]
    assert labels(dataset) == {"cat": [1, 1, 1, 0], "dog": [1, 0, 0, 1]}
    assert "1 names are those of different photos" in caplog.text


def test_links_that_are_left_out_are_named(tmp_path, caplog):
    write_photos(tmp_path, "dog/a.jpg", "cat/b.jpg")
    (tmp_path / "dog" / "more").symlink_to(tmp_path / "cat")
    (tmp_path / "dog" / "gone.jpg").symlink_to("nowhere")
    assert len(load_folders(tmp_path)) == 2
    assert f"left out: {tmp_path / 'dog' / 'gone.jpg'}, {tmp_path / 'dog' / 'more'}." in caplog.text


def test_folders_of_splits(tmp_path):
    for name in ("train/dog/a.png", "train/cat/a.png", "valid/dog/b.png", "valid/cat/c.png"):
        save(tmp_path, name, 5)
    assert labels(load_folders(tmp_path)) == {"cat": [1], "dog": [1]}
    assert labels(load_folders(tmp_path, "validation", unlisted="absent")) == {"cat": [1, -1], "dog": [-1, 1]}
    with pytest.raises(FileNotFoundError, match="has no folders with photos"):
        load_folders(tmp_path / "train" / "dog")


@pytest.mark.parametrize("content", ["a.jpg 0 2\nb.jpg 1\n", "a.jpg,0,2\nb.jpg,1\n", "a.jpg\t2 0\n\nb.jpg\t1\n"])
def test_lists_of_indices(tmp_path, content):
    (tmp_path / "train.txt").write_text(content)
    write_photos(tmp_path, "a.jpg", "b.jpg")
    assert recognise(tmp_path)[0][0] == recognise(tmp_path / "train.txt")[0][0] == "index_list"
    assert labels(load_index_list(tmp_path)) == {"label 0": [1, -1], "label 1": [-1, 1], "label 2": [1, -1]}
    named = load_index_list(tmp_path / "train.txt", names=["cat", "dog", "cow", "pig"], unlisted="unknown")
    assert labels(named) == {"cat": [1, 0], "dog": [0, 1], "cow": [1, 0], "pig": [0, 0]}


def test_lists_that_can_be_read_in_two_ways(tmp_path):
    (tmp_path / "train.txt").write_text("a.jpg 0 1\nb.jpg 1 0\n")
    write_photos(tmp_path, "a.jpg", "b.jpg")
    with pytest.raises(
        ValueError, match="data.numbers=indices; if there is one per label: data.numbers=one_per_label"
    ):
        load_index_list(tmp_path)
    assert labels(load_index_list(tmp_path, numbers="indices")) == {"label 0": [1, 1], "label 1": [1, 1]}
    assert labels(load_index_list(tmp_path, numbers="one_per_label")) == {"label 0": [-1, 1], "label 1": [1, -1]}
    (tmp_path / "train.txt").write_text("a.jpg 0 0\nb.jpg 1 0\n")
    assert labels(load_index_list(tmp_path)) == {"label 0": [-1, 1], "label 1": [-1, -1]}, "no index stands twice"


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("a.jpg dog\n", {}, "line 1: expected a photo and whole numbers"),
        ("a.jpg 0 5\n", {"names": ["x", "y"]}, "line 1: a label index must be a number from 0 to 1, got 5"),
        ("a.jpg 0 0 1\n", {"names": ["x", "y"]}, "line 1: expected 2 numbers, one per label, got 3"),
        ("a.jpg 0 1\n", {"numbers": "words"}, "`numbers` must be one of indices, one_per_label, got 'words'"),
    ],
)
def test_mistakes_in_lists(tmp_path, content, settings, message):
    (tmp_path / "train.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_index_list(tmp_path / "train.txt", **settings)


def test_reasons_why_a_path_is_nothing(tmp_path):
    found, reasons = recognise(tmp_path)
    assert found == []
    assert list(reasons) == [name for name, line in DATASETS.items() if line.recognise]
    assert all(reasons.values())
    (tmp_path / "a.bin").write_bytes(b"\x00\xff")
    assert recognise(tmp_path / "a.bin")[0] == []
    with pytest.raises(FileNotFoundError, match="There is no file and no folder"):
        recognise(tmp_path / "nothing")
