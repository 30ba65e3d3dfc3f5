"""NUS-WIDE, on tiny folders made here."""

import numpy as np
import pytest
from photos import write_photos

from hf_mlrpl.data.collections.nus_wide import load_nus_wide
from hf_mlrpl.data.columns import label_matrix, label_names
from hf_mlrpl.data.files import packaged_label_names

PHOTOS = ("actor/0001_21.jpg", "zebra/0002_5.jpg", "actor/0003_7.jpg")
LABELS = {"zebra": [0, 1, 0], "airport": [1, 1, 0], "sky": [0, 0, 1]}  # label: one entry per photo


@pytest.fixture
def official(tmp_path):
    write_photos(tmp_path / "Flickr", *PHOTOS)
    (tmp_path / "ImageList").mkdir()
    labels = tmp_path / "Groundtruth" / "TrainTestLabels"
    labels.mkdir(parents=True)
    for part, rows in (("Train", [0, 1]), ("Test", [2])):
        names = [PHOTOS[row].replace("/", "\\") for row in rows]
        (tmp_path / "ImageList" / f"{part}Imagelist.txt").write_text("\r\n".join(names) + "\r\n")
        for name, values in LABELS.items():
            (labels / f"Labels_{name}_{part}.txt").write_text("".join(f"{values[row]}\n" for row in rows))
    return tmp_path


def test_the_official_lists(official):
    train, test = load_nus_wide(official), load_nus_wide(official, "test")
    assert label_names(train) == ["airport", "sky", "zebra"]
    assert train["image_id"][:] == list(PHOTOS[:2]) and test["image_id"][:] == [PHOTOS[2]]
    assert np.array_equal(label_matrix(train), [[1, -1, -1], [1, -1, 1]])
    assert np.array_equal(label_matrix(test), [[-1, 1, -1]])
    assert train[1]["image"].size == (9, 6)


def test_photos_that_are_gone_may_be_left_out(official):
    (official / "Flickr" / PHOTOS[0]).unlink()
    with pytest.raises(FileNotFoundError, match="1 of 2 photos of .*TrainImagelist.txt do not exist: actor/0001_21"):
        load_nus_wide(official)
    train = load_nus_wide(official, missing="skip")
    assert train["image_id"][:] == [PHOTOS[1]]
    assert np.array_equal(label_matrix(train), [[1, -1, 1]])


def test_wrong_official_files_are_named(official):
    labels = official / "Groundtruth" / "TrainTestLabels"
    (labels / "Labels_sky_Train.txt").write_text("0\n2\n")
    with pytest.raises(ValueError, match="Labels_sky_Train.txt, line 2: expected 0 or 1, got '2'"):
        load_nus_wide(official)
    (labels / "Labels_sky_Train.txt").write_text("0\n1\n0\n")
    with pytest.raises(ValueError, match="sky_Train.txt has labels of 3 photos, but .*TrainImagelist.* lists 2"):
        load_nus_wide(official)
    for file in labels.glob("*_Test.txt"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"no label files .*Labels_\*_Test.txt"):
        load_nus_wide(official, "test")
    (official / "ImageList" / "TestImagelist.txt").unlink()
    with pytest.raises(FileNotFoundError, match="TestImagelist.txt does not exist"):
        load_nus_wide(official, "test")
    with pytest.raises(ValueError, match="`subset` must be one of official, splc, cole, got 'asl'"):
        load_nus_wide(official, subset="asl")


def test_the_lists_of_splc(tmp_path):
    write_photos(tmp_path / "images", "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "nus_train_full.txt").write_text("b.jpg,3 80\na.jpg, 0\n")
    (tmp_path / "nus_val.txt").write_text("c.jpg,1\n")
    train, test = (load_nus_wide(tmp_path, split, subset="splc") for split in ("train", "test"))
    assert label_names(train) == packaged_label_names("nus_wide")
    assert train["image_id"][:] == ["b.jpg", "a.jpg"] and test["image_id"][:] == ["c.jpg"]
    assert train["positives"][:] == [[3, 80], [0]] and (label_matrix(train) != 0).all()
    (tmp_path / "nus_val.txt").write_text("c.jpg,81\n")
    with pytest.raises(ValueError, match="nus_val.txt, line 1: a label index must be a number from 0 to 80, got 81"):
        load_nus_wide(tmp_path, "test", subset="splc")


def test_the_arrays_of_cole(tmp_path):
    write_photos(tmp_path / "Flickr", *PHOTOS)
    labels = np.random.RandomState(0).randint(0, 2, (3, 81)).astype(np.float64)
    for part, rows in (("train", [0, 1]), ("val", [2])):
        np.save(tmp_path / f"formatted_{part}_images.npy", np.array(PHOTOS)[rows])
        np.save(tmp_path / f"formatted_{part}_labels.npy", labels[rows])
    train, test = (load_nus_wide(tmp_path, split, subset="cole") for split in ("train", "test"))
    assert train["image_id"][:] == list(PHOTOS[:2]) and test["image_id"][:] == [PHOTOS[2]]
    assert np.array_equal(label_matrix(train), 2 * labels[:2] - 1)
    np.save(tmp_path / "formatted_val_labels.npy", labels[:1, :80])
    with pytest.raises(ValueError, match=r"val_labels.npy must have 81 labels of 0 or 1 in every row, got \(1, 80\)"):
        load_nus_wide(tmp_path, "test", subset="cole")
    np.save(tmp_path / "formatted_val_labels.npy", labels)
    with pytest.raises(ValueError, match="val_images.npy lists 1 photos, but there are labels of 3"):
        load_nus_wide(tmp_path, "test", subset="cole")
    np.save(tmp_path / "formatted_val_images.npy", np.array([{"code": 1}]))  # needs pickle
    with pytest.raises(ValueError, match="val_images.npy cannot be read as a NumPy array"):
        load_nus_wide(tmp_path, "test", subset="cole")
    (tmp_path / "formatted_val_images.npy").unlink()
    with pytest.raises(FileNotFoundError, match="formatted_val_images.npy does not exist"):
        load_nus_wide(tmp_path, "test", subset="cole")
