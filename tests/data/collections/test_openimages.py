"""Open Images, on a tiny folder made here."""

import numpy as np
import pytest
from photos import write_photos

from hf_mlrpl.data.collections.openimages import load_openimages
from hf_mlrpl.data.columns import label_matrix, label_names

NAMES = "/m/1,Tortoise\n/m/2,Container\n/m/3,Magpie\n"
ROWS = {
    "train": ["b,/m/2,1", "a,/m/1,0", "b,/m/1,0", "c,/m/9,1", "a,/m/2,0", "a,/m/3,1", "a,/m/1,1"],
    "validation": ["v,/m/2,1", "w,/m/2,0", "w,/m/1,1"],
    "test": ["t,/m/2,0", "u,/m/2,1", "u,/m/1,0"],
}


def write_labels(file, rows):
    lines = [f"{image},verification,{label},{confidence}" for image, label, confidence in (r.split(",") for r in rows)]
    file.write_text("\n".join(["ImageID,Source,LabelName,Confidence", *lines]) + "\n")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "class-descriptions-boxable.csv").write_text(NAMES)
    for split, rows in ROWS.items():
        write_labels(tmp_path / f"{split}-annotations-human-imagelabels-boxable.csv", rows)
        write_photos(tmp_path / split, *(f"{row[0]}.jpg" for row in rows))
    return tmp_path


def test_what_nobody_verified_is_unknown(folder):
    train = load_openimages(folder)
    assert label_names(train) == ["Tortoise", "Container", "Magpie"]
    assert train["image_id"][:] == ["b", "a"], "in the order of their first label; c has none of these labels"
    assert np.array_equal(label_matrix(train), [[-1, 1, 0], [1, -1, 1]]), "present wins over absent"
    assert np.array_equal(label_matrix(load_openimages(folder, "validation")), [[0, 1, 0], [1, -1, 0]])
    assert train[0]["image"].height == 6


def test_labels_that_can_be_measured_in_every_split(folder):
    for split in ROWS:
        assert label_names(load_openimages(folder, split, measurable_only=True)) == ["Container"]
    assert np.array_equal(label_matrix(load_openimages(folder, measurable_only=True)), [[1], [-1]])
    write_labels(folder / "test-annotations-human-imagelabels-boxable.csv", ["t,/m/2,0"])
    with pytest.raises(ValueError, match="no label is verified as present and as absent in every split"):
        load_openimages(folder, measurable_only=True)


def test_all_labels_newer_names_and_a_header(folder):
    (folder / "oidv7-class-descriptions.csv").write_text(
        'LabelName,DisplayName\n/m/9,"Bird, small"\n/m/1,Bat\n/m/2,Bat\n'
    )
    write_labels(folder / "oidv7-train-annotations-human-imagelabels.csv", ROWS["train"])
    train = load_openimages(folder, boxable=False)
    assert label_names(train) == ["Bird, small", "Bat (/m/1)", "Bat (/m/2)"]
    assert train["image_id"][:] == ["b", "a", "c"]


def test_photos_that_do_not_exist(folder):
    (folder / "train" / "b.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 2 photos of .*train-annotations.* do not exist: b.jpg"):
        load_openimages(folder)
    assert load_openimages(folder, missing="skip")["image_id"][:] == ["a"]


def test_wrong_files_are_named(folder):
    write_labels(folder / "train-annotations-human-imagelabels-boxable.csv", ["a,/m/1,1", "a,/m/2,0.5"])
    with pytest.raises(ValueError, match="boxable.csv, line 3: `Confidence` must be 0 or 1, got 0.5"):
        load_openimages(folder)
    (folder / "test-annotations-human-imagelabels-boxable.csv").write_text("ImageID,Label\na,1\n")
    with pytest.raises(ValueError, match="test-annotations.* cannot be read as labels of Open Images"):
        load_openimages(folder, "test")
    (folder / "class-descriptions-boxable.csv").write_text("/m/1,Tortoise\n/m/2\n")
    with pytest.raises(ValueError, match="class-descriptions-boxable.csv, line 2: expected a new machine name"):
        load_openimages(folder)
    with pytest.raises(FileNotFoundError, match="class-descriptions.csv does not exist, with `oidv6-`"):
        load_openimages(folder, boxable=False)
    with pytest.raises(ValueError, match="no split 'val' in Open Images"):
        load_openimages(folder, "val")
