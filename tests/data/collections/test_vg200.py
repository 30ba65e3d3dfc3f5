"""VG-200, on a tiny folder made here."""

import json

import numpy as np
import pytest
from photos import write_photos

from hf_mlrpl.data.collections import vg200
from hf_mlrpl.data.collections.vg200 import load_vg200
from hf_mlrpl.data.columns import label_matrix, label_names

INDEX = {"3.jpg": [199, 0], "1.jpg": [], "20.jpg": [7], "4.jpg": [7, 8]}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / vg200.INDEX_FILE).write_text(json.dumps(INDEX))
    (tmp_path / "train_list_500.txt").write_text("3.jpg\n1.jpg\n20.jpg")  # no newline after the last one
    (tmp_path / "test_list_500.txt").write_text("4.jpg\n")
    write_photos(tmp_path / "VG_100K", "3.jpg", "4.jpg")
    write_photos(tmp_path / "VG_100K_2", "1.jpg", "20.jpg")
    return tmp_path


def test_the_released_lists(folder):
    train, test = load_vg200(folder), load_vg200(folder, "test")
    assert train["image_id"][:] == ["3.jpg", "1.jpg", "20.jpg"] and test["image_id"][:] == ["4.jpg"]
    assert train["positives"][:] == [[0, 199], [], [7]] and test["positives"][:] == [[7, 8]]
    assert label_matrix(train).shape == (3, 200) and (label_matrix(train) != 0).all()
    assert label_names(train)[:2] == ["label 0", "label 1"]
    assert train[2]["image"].size == (9, 6), "the photo lies in the second folder"


def test_the_split_of_the_papers_is_drawn_and_covers_all_images(folder, monkeypatch):
    monkeypatch.setattr(vg200, "PAPER_TEST_IMAGES", 1)
    train, test = (load_vg200(folder, split, split_lists="paper") for split in ("train", "test"))
    drawn = sorted(INDEX)[np.random.RandomState(0).permutation(4)[0]]
    assert test["image_id"][:] == [drawn]
    assert train["image_id"][:] == sorted(INDEX.keys() - {drawn})


def test_the_split_of_the_papers_needs_all_images(folder):
    with pytest.raises(ValueError, match="must have more than 10000 images, got 4"):
        load_vg200(folder, split_lists="paper")


def test_names_of_the_labels_may_be_given(folder):
    names = [f"object {i}" for i in range(200)]
    (folder / "names.txt").write_text("\n".join(names))
    assert label_names(load_vg200(folder, labels=folder / "names.txt")) == names
    with pytest.raises(ValueError, match="`labels` must name the 200 labels of VG-200, got 2 names"):
        load_vg200(folder, labels=["a", "b"])


@pytest.mark.parametrize(
    "content, message",
    [
        ('{"3.jpg": [200]}', "labels_index.json, 3.jpg: a label index must be a number from 0 to 199, got 200"),
        ('{"3.jpg": ["a"]}', "labels_index.json, 3.jpg: a label index .* got 'a'"),
        ('{"3.jpg": 4}', "labels_index.json must be a JSON object of file names and lists"),
        ("[1]", "labels_index.json must be a JSON object"),
        ('{"3.jpg": [', "labels_index.json is not valid JSON"),
        ('{"3.jpg": [1]}', "train_list_500.txt, line 2: vg_category_200_labels_index.json has no labels of 1.jpg"),
    ],
)
def test_a_wrong_file_is_named(folder, content, message):
    (folder / vg200.INDEX_FILE).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_vg200(folder)


def test_missing_parts_are_named(folder):
    with pytest.raises(ValueError, match="`split_lists` must be one of released, paper, got 'official'"):
        load_vg200(folder, split_lists="official")
    with pytest.raises(ValueError, match="no split 'val' in VG-200"):
        load_vg200(folder, "val")
    (folder / "VG_100K_2" / "20.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 3 photos of .*train_list_500.txt do not exist: 20.jpg"):
        load_vg200(folder)
    (folder / "test_list_500.txt").unlink()
    with pytest.raises(FileNotFoundError, match="test_list_500.txt does not exist"):
        load_vg200(folder, "test")
    (folder / vg200.INDEX_FILE).unlink()
    with pytest.raises(FileNotFoundError, match="label file .*labels_index.json does not exist"):
        load_vg200(folder)
