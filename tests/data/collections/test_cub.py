"""CUB, on a tiny folder made here."""

import numpy as np
import pytest
from photos import write_photos

from hf_mlrpl.data.collections.cub import load_cub
from hf_mlrpl.data.columns import label_matrix, label_names
from hf_mlrpl.data.files import packaged_label_names

PHOTOS = ("001.Albatross/a_1.jpg", "001.Albatross/a_2.jpg", "002.Wren/w_1.jpg")


@pytest.fixture
def folder(tmp_path):
    return write_cub(tmp_path, [[1, 0], [0, 1], [1, 1]], ["has_bill_shape::curved_(up_or_down)", "has_size::small"])


def write_cub(root, labels, names):
    folder = root / "CUB_200_2011"
    (folder / "attributes").mkdir(parents=True)
    write_photos(folder / "images", *PHOTOS)
    (root / "attributes.txt").write_text(numbered(names))
    (folder / "images.txt").write_text(numbered(PHOTOS))
    (folder / "train_test_split.txt").write_text(numbered(["0", "1", "1"]))
    lines = [
        f"{photo} {attribute} {present} {certainty} 27.708{' 0' * (photo == 2)}"  # some lines have more columns
        for photo, row in enumerate(labels, start=1)
        for attribute, present in enumerate(row, start=1)
        for certainty in [1 + photo % 4]
    ]
    (folder / "attributes" / "image_attribute_labels.txt").write_text("\n".join(lines) + "\n")
    return root


def numbered(texts):
    return "".join(f"{number} {text}\n" for number, text in enumerate(texts, start=1))


def test_both_splits(folder):
    train, test = load_cub(folder), load_cub(folder, "test")
    assert label_names(train) == ["has_bill_shape::curved_(up_or_down)", "has_size::small"]
    assert train["image_id"][:] == list(PHOTOS[1:]) and test["image_id"][:] == [PHOTOS[0]]
    assert np.array_equal(label_matrix(train), [[-1, 1], [1, 1]])
    assert np.array_equal(label_matrix(test), [[1, -1]])
    assert train[1]["image"].size == (10, 6)


def test_the_short_names_of_scpnet(tmp_path, folder):
    with pytest.raises(ValueError, match="`names=short` is for 312 attributes, but attributes.txt has 2"):
        load_cub(folder, names="short")
    labels = np.random.RandomState(0).randint(0, 2, (3, 312))
    root = write_cub(tmp_path / "all", labels, [f"attribute {i}" for i in range(312)])
    dataset = load_cub(root, names="short")
    assert label_names(dataset) == packaged_label_names("cub")
    assert np.array_equal(label_matrix(dataset), 2 * labels[1:] - 1)


LABELS = "CUB_200_2011/attributes/image_attribute_labels.txt"


@pytest.mark.parametrize(
    "file, content, message",
    [
        (LABELS, "1 1 1 3\n1 2 2 3\n", r"labels.txt, line 2: expected a photo from 1 to 3, .* got \[1, 2, 2\]"),
        (LABELS, "1 1 1 3\n4 2 1 3\n", r"labels.txt, line 2: .* got \[4, 2, 1\]"),
        (LABELS, "1 1 1 3\n1 0 1 3\n", r"labels.txt, line 2: .* got \[1, 0, 1\]"),
        (LABELS, "1 1 1 3\n1 two 1 3\n", "3 whole numbers in every line: line 2 is '1 two 1 3'"),
        (LABELS, "1 1 1 3\n1 2\n", "3 whole numbers in every line: line 2 is '1 2'"),
        (LABELS, "1 1 1 3\n1 2 1 3\n2 1 0 1\n", "lacks 3 labels; the first is attribute 2 of photo 2"),
        ("attributes.txt", "1 a\n3 b\n", "attributes.txt, line 2: expected `2 ...`, got '3 b'"),
        ("CUB_200_2011/train_test_split.txt", "1 0\n", "train_test_split.txt has 1 lines, but images.txt has 3"),
    ],
)
def test_a_wrong_file_is_named(folder, file, content, message):
    (folder / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_cub(folder)


def test_missing_parts_are_named(folder):
    with pytest.raises(ValueError, match="`names` must be one of official, short, got 'long'"):
        load_cub(folder, names="long")
    (folder / "CUB_200_2011" / "images" / PHOTOS[1]).unlink()
    with pytest.raises(FileNotFoundError, match="1 of 2 photos of .*images.txt do not exist: 001.Albatross/a_2.jpg"):
        load_cub(folder)
    (folder / LABELS).unlink()
    with pytest.raises(FileNotFoundError, match="image_attribute_labels.txt does not exist"):
        load_cub(folder)
    (folder / "attributes.txt").unlink()
    with pytest.raises(FileNotFoundError, match="attributes.txt does not exist"):
        load_cub(folder)


def test_attributes_that_are_not_visible(folder):
    file = folder / "CUB_200_2011" / "attributes" / "image_attribute_labels.txt"
    file.write_text("1 1 0 1 2\n1 2 0 2 2\n2 1 0 1 2 0\n2 2 1 4 2\n3 1 1 1 2\n3 2 0 3 2\n")
    assert label_matrix(load_cub(folder)).tolist() == [[-1, 1], [1, -1]]
    assert label_matrix(load_cub(folder, not_visible="unknown")).tolist() == [[0, 1], [1, -1]]
    with pytest.raises(ValueError, match="`not_visible` must be one of unknown, absent, got 'present'"):
        load_cub(folder, not_visible="present")
