"""VOC, on a tiny devkit made here."""

import numpy as np
import pytest
from PIL import Image

from hf_mlrpl.data.collections.voc import load_voc
from hf_mlrpl.data.columns import SplitNotFound, label_matrix, label_names

OBJECTS = {  # image id: (class, difficult) of every object
    "000005": [("chair", 0), ("chair", 1), ("person", 1)],
    "000007": [("car", 1)],
    "000009": [("horse", None), ("person", 0)],
}


def write_devkit(root, year="2007", lists=("trainval", "test")):
    folder = root / f"VOC{year}"
    for name in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    for image_id, objects in OBJECTS.items():
        Image.new("RGB", (10, 8)).save(folder / "JPEGImages" / f"{image_id}.jpg")
        (folder / "Annotations" / f"{image_id}.xml").write_text(annotation(objects))
    for name in lists:
        # no newline after the last id
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text("000009\n000005\n000007")
    return root


def annotation(objects) -> str:
    items = [
        f"<object><part><name>head</name></part><name>{name}</name>"
        + (f"<difficult>{difficult}</difficult>" if difficult is not None else "")
        + "</object>"
        for name, difficult in objects
    ]
    return f"<annotation><folder>VOC</folder>{''.join(items)}</annotation>"


def test_labels_of_a_devkit(tmp_path):
    dataset = load_voc(write_devkit(tmp_path))
    names = label_names(dataset)
    assert len(names) == 20 and names == sorted(names)
    assert dataset["image_id"][:] == ["000009", "000005", "000007"], "order of the list, last id complete"
    present = [[names[i] for i in row] for row in dataset["positives"]]
    assert present == [["horse", "person"], ["chair"], []], "difficult objects do not count"
    assert (label_matrix(dataset) != 0).all()
    assert dataset[0]["image"].size == (10, 8)


@pytest.mark.parametrize("part", ["", "VOC2007"])
def test_the_path_may_be_the_devkit_or_the_year(tmp_path, part):
    write_devkit(tmp_path)
    assert len(load_voc(tmp_path / part, "test")) == 3


def test_the_splits_of_2012(tmp_path):
    write_devkit(tmp_path / "VOCdevkit", "2012", ("train", "val"))
    train, test = load_voc(tmp_path, "train", "2012"), load_voc(tmp_path, "test", "2012")
    assert np.array_equal(label_matrix(train), label_matrix(test))


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no VOC 2007 in"):
        load_voc(tmp_path)
    folder = write_devkit(tmp_path, lists=("trainval",)) / "VOC2007"
    with pytest.raises(SplitNotFound, match="no split 'test' in .*VOC2007. Available splits: 'train'"):
        load_voc(tmp_path, "test")
    with pytest.raises(ValueError, match="`year` must be one of 2007, 2012, got '2010'"):
        load_voc(tmp_path, year="2010")
    (folder / "JPEGImages" / "000005.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 3 photos of .*trainval.txt do not exist: .*000005.jpg"):
        load_voc(tmp_path)
    (folder / "Annotations" / "000007.xml").unlink()
    with pytest.raises(FileNotFoundError, match="000007.xml does not exist"):
        load_voc(tmp_path)
    (folder / "ImageSets" / "Main" / "trainval.txt").write_text("\n")
    with pytest.raises(ValueError, match="trainval.txt names no image"):
        load_voc(tmp_path)
    (folder / "ImageSets" / "Main" / "trainval.txt").unlink()
    with pytest.raises(FileNotFoundError, match="list .*trainval.txt does not exist"):
        load_voc(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation><object>", "000005.xml is not valid XML"),
        (annotation([("unicorn", 0)]), "000005.xml has an object of the unknown class 'unicorn'. Classes: aeroplane"),
    ],
)
def test_a_wrong_annotation_names_its_file(tmp_path, content, message):
    folder = write_devkit(tmp_path) / "VOC2007"
    (folder / "Annotations" / "000005.xml").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_voc(tmp_path)


def test_difficult_objects_and_missing_photos(tmp_path, caplog):
    write_devkit(tmp_path)
    file = tmp_path / "VOC2007" / "Annotations" / "000007.xml"
    file.write_text(file.read_text().replace("<difficult>1<", "<difficult>True<"))
    assert (label_matrix(load_voc(tmp_path)) == 1).sum() == 3
    dataset = load_voc(tmp_path, difficult="unknown")
    unknown = {label_names(dataset)[column] for column in np.nonzero(label_matrix(dataset) == 0)[1]}
    assert unknown == {"car", "person"} and label_matrix(dataset)[1, label_names(dataset).index("chair")] == 1
    (tmp_path / "VOC2007" / "JPEGImages" / "000005.jpg").unlink()
    assert load_voc(tmp_path, missing="skip")["image_id"][:] == ["000009", "000007"]
    assert "1 of 3 photos" in caplog.text


def test_boxes_on_request(tmp_path):
    write_devkit(tmp_path)
    annotations = tmp_path / "VOC2007" / "Annotations"
    box = "<bndbox><xmin>1</xmin><ymin>3.5</ymin><xmax>10</xmax><ymax>6</ymax></bndbox>"
    item = f"<object><name>car</name><difficult>1</difficult>{box}</object>"
    size = "<size><width>30</width><height>20</height></size>"
    (annotations / "000007.xml").write_text(f"<annotation>{size}{item}</annotation>")
    dataset = load_voc(tmp_path, boxes=True)
    assert dataset["objects"][:2] == [{"bbox": [], "category": [], "photo_size": []}] * 2, "objects without a box"
    names = dataset.features["objects"]["category"].feature.names
    assert names == label_names(dataset)
    expected = {"bbox": [[0, 2.5, 10, 3.5]], "category": [names.index("car")], "photo_size": [20, 30]}
    assert dataset[2]["objects"] == expected
    assert "objects" not in load_voc(tmp_path).column_names

    (annotations / "000007.xml").write_text(f"<annotation>{item.replace('3.5', 'low')}</annotation>")
    with pytest.raises(ValueError, match=r"000007\.xml: the box of car must have four numbers"):
        load_voc(tmp_path)
