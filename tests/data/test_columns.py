"""The columns of a data set: made and read."""

import io

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, List, Value
from PIL import Image

from hf_mlrpl.data.columns import SplitNotFound, check_split, label_matrix, label_names, make_dataset
from hf_mlrpl.data.hiding import hide_labels
from hf_mlrpl.data.protocols.rules import RandomKnown

NAMES = ["cat", "dog", "sofa"]
LABELS = np.array([[1, -1, 1], [-1, -1, -1], [-1, 1, -1], [1, 1, 1]], dtype=np.int8)


def small_dataset(labels: np.ndarray = LABELS) -> Dataset:
    images = [Image.new("RGB", (8, 6), (40 * i, 0, 0)) for i in range(len(labels))]
    return make_dataset(images, [f"photo-{i}" for i in range(len(labels))], labels, NAMES)


def test_make_dataset_has_the_columns_of_the_library():
    dataset = small_dataset()
    assert dataset.column_names == ["image", "image_id", "labels", "positives"]
    assert dataset.features["labels"] == List(Value("int8"), length=3)
    assert dataset.features["positives"] == List(ClassLabel(names=NAMES))
    assert dataset[0]["positives"] == [0, 2]
    assert dataset[1]["positives"] == []
    assert dataset[3]["image"].getpixel((0, 0)) == (120, 0, 0)
    assert label_names(dataset) == NAMES


def test_make_dataset_takes_paths_bytes_and_pil_images(tmp_path):
    image = Image.new("L", (5, 7), 99)
    image.save(tmp_path / "a.png")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    dataset = make_dataset([tmp_path / "a.png", buffer.getvalue(), image], ["a", "b", "c"], LABELS[:3], NAMES)
    assert [row["image"].size for row in dataset] == [(5, 7)] * 3
    with pytest.raises(TypeError, match="must be a path, encoded bytes or a PIL image, got int"):
        make_dataset([3], ["a"], LABELS[:1], NAMES)


def test_label_matrix_is_a_view_and_follows_the_order_of_the_rows():
    dataset = small_dataset()
    matrix = label_matrix(dataset)
    assert matrix.dtype == np.int8
    assert np.array_equal(matrix, LABELS)
    assert not matrix.flags.owndata, "no copy"
    assert np.array_equal(label_matrix(dataset.select([2, 0])), LABELS[[2, 0]])
    assert np.array_equal(label_matrix(dataset.with_format("torch").select(range(1, 3))), LABELS[1:3])
    assert label_matrix(dataset.select([])).shape == (0, 3)


def test_labels_survive_the_disk(tmp_path):
    hidden = hide_labels(small_dataset(), RandomKnown(0.5))
    hidden.save_to_disk(tmp_path / "saved")
    loaded = Dataset.load_from_disk(tmp_path / "saved")
    assert loaded.features == hidden.features
    assert np.array_equal(label_matrix(loaded), label_matrix(hidden))
    assert np.array_equal(label_matrix(loaded, "full_labels"), LABELS)


def test_make_dataset_names_what_is_wrong():
    images = [Image.new("L", (4, 4))] * 4
    ids = ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="one entry per image, got 4, 3 and 4"):
        make_dataset(images, ids[:3], LABELS, NAMES)
    with pytest.raises(ValueError, match=r"`image_ids` must be unique, but these are repeated: 'a' \(3 times\)"):
        make_dataset(images, ["a", "a", "a", "b"], LABELS, NAMES)
    with pytest.raises(ValueError, match=r"unique label names.*'cat' \(2 times\)"):
        make_dataset(images, ids, LABELS, ["cat", "cat", "dog"])
    with pytest.raises(ValueError, match="got 2 in image 'b', column 1"):
        wrong = LABELS.copy()
        wrong[1, 1] = 2
        make_dataset(images, ids, wrong, NAMES)


def test_missing_columns_are_explained():
    plain = Dataset.from_dict({"image": ["a.png"], "label": [1]})
    with pytest.raises(ValueError, match="carries no label names.*found the columns image, label.*load_from_dataset"):
        label_names(plain)
    with pytest.raises(ValueError, match="no column `full_labels`.*only after `hide_labels`"):
        label_matrix(small_dataset(), "full_labels")


def test_split_not_found_names_the_splits():
    with pytest.raises(SplitNotFound, match="no split 'val' in photos. Available splits: 'train', 'test'") as caught:
        check_split("val", ["train", "test"], "photos")
    assert caught.value.available == ["train", "test"]
    assert isinstance(caught.value, ValueError)
