"""Collections that say what is absent: LVIS, VAW, CheXpert, ChestX-ray14; and VISPR and CelebA."""

import json

import numpy as np
import pytest
from photos import write_photos

from hf_mlrpl.data.collections.celeba import load_celeba
from hf_mlrpl.data.collections.chexpert import NAMES as OBSERVATIONS
from hf_mlrpl.data.collections.chexpert import load_chexpert
from hf_mlrpl.data.collections.lvis import load_lvis
from hf_mlrpl.data.collections.nih import load_nih
from hf_mlrpl.data.collections.vaw import load_vaw
from hf_mlrpl.data.collections.vispr import load_vispr
from hf_mlrpl.data.columns import SplitNotFound, label_matrix, label_names
from hf_mlrpl.registry import recognise


def write(folder, files, *photos):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    write_photos(folder, *photos)
    return folder


def labels(dataset):
    return dict(zip(label_names(dataset), label_matrix(dataset).T.tolist(), strict=True))


# LVIS


def lvis(**image):
    return {
        "images": [{"id": 1, "neg_category_ids": [2], "not_exhaustive_category_ids": [3, 4]} | image],
        "categories": [{"id": i, "name": f"label {i}"} for i in (4, 3, 2, 1)],
        "annotations": [{"image_id": 1, "category_id": 3}],
    }


@pytest.mark.parametrize("name", ["COCO_val2014_000000000001.jpg", "000000000001.jpg"])
def test_lvis_of_both_versions(tmp_path, name):
    v1 = lvis(coco_url="http://images.cocodataset.org/val2017/000000000001.jpg")
    files = {"lvis_v1_val.json": v1, "annotations/lvis_v0.5_train.json": lvis(file_name=name)}
    folder = write(tmp_path, files, "val2017/000000000001.jpg", "train2017/000000000001.jpg")
    expected = {"label 1": [0], "label 2": [-1], "label 3": [1], "label 4": [0]}
    assert labels(load_lvis(folder, "test")) == labels(load_lvis(folder, version="v0.5")) == expected
    with pytest.raises(SplitNotFound, match="Available splits: 'test'"):
        load_lvis(folder)
    with pytest.raises(ValueError, match="`version` must be one of v1, v0.5, got 'v2'"):
        load_lvis(folder, version="v2")


def test_lvis_mistakes(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no lvis_v1_train.json"):
        load_lvis(tmp_path)
    write(tmp_path, {"lvis_v1_train.json": lvis(file_name="a.jpg", neg_category_ids=[9])})
    with pytest.raises(ValueError, match="image 1 names a category that is not there"):
        load_lvis(tmp_path)


# VAW


def test_vaw(tmp_path):
    instances = [
        {"image_id": 7, "positive_attributes": ["red"], "negative_attributes": ["blue", "big"]},
        {"image_id": 7, "positive_attributes": ["big"], "negative_attributes": ["blue", "wet"]},
    ]
    other = [{"image_id": 8, "positive_attributes": ["wet"], "negative_attributes": ["red"]}]
    index = {"wet": 0, "red": 1, "blue": 2, "big": 3}
    files = {"train_part1.json": instances, "train_part2.json": other, "attribute_index.json": index}
    folder = write(
        tmp_path, {f"data/{name}": content for name, content in files.items()}, "VG_100K/7.jpg", "VG_100K_2/8.jpg"
    )
    assert recognise(folder)[0][0] == "vaw"
    expected = {"wet": [0, 1], "red": [1, -1], "blue": [-1, 0], "big": [1, 0]}
    assert labels(load_vaw(folder)) == expected and list(labels(load_vaw(folder))) == list(index)
    assert labels(load_vaw(folder, absent_in="any")) == expected | {"wet": [-1, 1]}
    with pytest.raises(ValueError, match="`absent_in` must be one of every, any, got 'all'"):
        load_vaw(folder, absent_in="all")
    with pytest.raises(FileNotFoundError, match="test.json does not exist"):
        load_vaw(folder, "test")
    (folder / "data" / "val.json").write_text('[{"image_id": 7}, {"image_id": 7, "image_id": 8}]')
    with pytest.raises(ValueError, match=r"entry 1 of .*val.json: .* repeated: 'image_id' \(2 times\)"):
        load_vaw(folder, "validation")


# CheXpert


def chexpert(*rows):
    empty = ["" for _ in OBSERVATIONS]
    lines = [",".join(["Path", "Sex", *OBSERVATIONS])]
    for path, *values in rows:
        lines.append(",".join([path, "Male", *values, *empty[len(values) :]]))
    return "\n".join(lines) + "\n"


def test_chexpert(tmp_path):
    train = chexpert(
        ("CheXpert-v1.0/train/p1/a.jpg", "1.0", "-1.0", "0.0"), ("CheXpert-v1.0/train/p2/b.jpg", "", "1.0")
    )
    valid = chexpert(("CheXpert-v1.0/valid/p3/c.jpg", *["0.0"] * 14))
    folder = write(
        tmp_path, {"train.csv": train, "valid.csv": valid}, "train/p1/a.jpg", "train/p2/b.jpg", "valid/p3/c.jpg"
    )
    assert recognise(folder)[0][0] == "chexpert"
    dataset = load_chexpert(folder)
    assert label_names(dataset) == list(OBSERVATIONS)
    assert label_matrix(dataset)[:, :4].tolist() == [[1, 0, -1, 0], [0, 1, 0, 0]]
    other = load_chexpert(folder, uncertain="present", unmentioned="absent")
    assert label_matrix(other)[:, :4].tolist() == [[1, 1, -1, -1], [-1, 1, -1, -1]]
    for split in ("validation", "test"):
        assert (label_matrix(load_chexpert(folder, split)) == -1).all()
    with pytest.raises(ValueError, match="`uncertain` must be one of present, absent, unknown, got 'ones'"):
        load_chexpert(folder, uncertain="ones")


# ChestX-ray14


def test_nih(tmp_path):
    table = "Image Index,Finding Labels,Age\na.png,Cardiomegaly|Hernia,5\nb.png,No Finding,6\nc.png,Mass,7\n"
    files = {"Data_Entry_2017.csv": table, "train_val_list.txt": "a.png\nb.png\n", "test_list.txt": "c.png\n"}
    folder = write(tmp_path, files, "images_001/images/a.png", "images_002/images/b.png", "images_002/images/c.png")
    assert recognise(folder)[0][0] == "nih"
    dataset = load_nih(folder)
    assert len(label_names(dataset)) == 14
    assert {name for name, values in labels(dataset).items() if values[0] == 1} == {"Cardiomegaly", "Hernia"}
    assert (label_matrix(dataset) != 0).all() and (label_matrix(dataset)[1] == -1).all()
    partly = label_matrix(load_nih(folder, unlisted="unknown"))
    assert (partly[0] >= 0).all() and (partly[1] == -1).all()
    assert len(load_nih(folder, "test")) == 1
    write(tmp_path, {"test_list.txt": "d.png\n"})
    with pytest.raises(ValueError, match="test_list.txt lists d.png, of which .* says nothing"):
        load_nih(folder, "test")


# CelebA


@pytest.mark.parametrize("suffix", ["txt", "csv"])
def test_celeba(tmp_path, suffix):
    lines = ["a.jpg -1  1", "b.jpg  1 -1", "c.jpg  1  1"]
    text = "3\nBald Young \n" + "\n".join(lines) + "\n"
    parts = "a.jpg 0\nb.jpg 1\nc.jpg 2\n"
    if suffix == "csv":
        text = "image_id,Bald,Young\n" + "\n".join(",".join(line.split()) for line in lines) + "\n"
        parts = "image_id,partition\n" + parts.replace(" ", ",")
    files = {f"list_attr_celeba.{suffix}": text, f"list_eval_partition.{suffix}": parts}
    folder = write(tmp_path, files, *(f"img_align_celeba/{name}.jpg" for name in "abc"))
    assert recognise(folder)[0][0] == "celeba"
    assert labels(load_celeba(folder)) == {"Bald": [-1], "Young": [1]}
    assert labels(load_celeba(folder, "test")) == {"Bald": [1], "Young": [1]}
    (folder / f"list_eval_partition.{suffix}").unlink()
    assert np.array_equal(label_matrix(load_celeba(folder / f"list_attr_celeba.{suffix}")), [[-1, 1], [1, -1], [1, 1]])
    with pytest.raises(SplitNotFound, match="Available splits: 'train'"):
        load_celeba(folder, "test")


def test_celeba_mistakes(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no list_attr_celeba.txt"):
        load_celeba(tmp_path)
    write(tmp_path, {"list_attr_celeba.txt": "1\nBald Young\na.jpg -1 2\n"})
    with pytest.raises(ValueError, match="line 3: expected a photo and 2 times 1 or -1, got 'a.jpg -1 2'"):
        load_celeba(tmp_path)


# VISPR


def test_vispr(tmp_path):
    files = {
        "train2017.txt": "train2017/1.json\n",
        "train2017/1.json": {"id": "1", "image_path": "images/train2017/1.jpg", "labels": ["a10_x", "a2_y"]},
        "test2017/2.json": {"id": "2", "image_path": "test2017/2.jpg", "labels": ["a0_safe"]},
    }
    folder = write(tmp_path, files, "images/train2017/1.jpg", "test2017/2.jpg")
    assert recognise(folder)[0][0] == "vispr"
    assert labels(load_vispr(folder)) == {"a0_safe": [-1], "a2_y": [1], "a10_x": [1]}
    assert labels(load_vispr(folder, "test")) == {"a0_safe": [1], "a2_y": [-1], "a10_x": [-1]}
    with pytest.raises(SplitNotFound, match="Available splits: 'train', 'test'"):
        load_vispr(folder, "validation")
    write(tmp_path, {"train2017/1.json": {"labels": 3}})
    with pytest.raises(ValueError, match="1.json cannot be read as an annotation of VISPR"):
        load_vispr(folder)
