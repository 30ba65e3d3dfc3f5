"""Exports of annotation tools, written as their documentation shows them."""

import json

import pytest
from photos import write_photos

from hf_mlrpl.data.columns import SplitNotFound, label_matrix, label_names
from hf_mlrpl.data.containers.coco_json import load_coco_json
from hf_mlrpl.data.containers.cvat import load_cvat
from hf_mlrpl.data.containers.fiftyone import load_fiftyone
from hf_mlrpl.data.containers.label_studio import load_label_studio
from hf_mlrpl.data.containers.roboflow import load_roboflow
from hf_mlrpl.data.containers.voc_xml import load_voc_xml
from hf_mlrpl.registry import recognise


def write(folder, files, *photos):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    write_photos(folder, *photos)
    return folder


def labels(dataset):
    return dict(zip(label_names(dataset), label_matrix(dataset).T.tolist(), strict=True))


def first(path):
    return recognise(path)[0][0]


# Label Studio


def task(image, *results, **more):
    annotations = [{"result": result} | more for result in results]
    return {"id": 1, "annotations": annotations, "data": {"image": image, "note": "n"}}


def choice(*names, control="choice"):
    return {"from_name": control, "type": "choices", "value": {"choices": list(names)}}


def test_label_studio_with_boxes_and_several_annotators(tmp_path, caplog):
    box = {"from_name": "box", "type": "rectanglelabels", "value": {"x": 1, "rectanglelabels": ["Car"]}}
    tasks = [
        task("/data/upload/3/0a1b2c3d-a.jpg", [choice("Boat"), box], [choice("Boat")]),
        task("/data/local-files/?d=sub/b%20c.jpg", [box], was_cancelled=True),
        task("s3://bucket/deep/c.jpg", [choice("Boat", "Bird")]),
    ]
    folder = write(tmp_path, {"project-1.json": tasks}, "images/a.jpg", "images/b c.jpg", "images/c.jpg")
    assert first(folder) == "label_studio"
    dataset = load_label_studio(folder, unlisted="absent")
    assert dataset["image_id"][:] == ["a.jpg", "b c.jpg", "c.jpg"]
    assert labels(dataset) == {"Bird": [-1, 0, 1], "Boat": [1, 0, 1], "Car": [0, 0, -1]}
    assert "annotators disagree on 1 labels" in caplog.text and "several controls: box, choice" in caplog.text
    assert labels(load_label_studio(folder, field="box")) == {"Car": [0, 0, 0]}
    with pytest.raises(ValueError, match="no results of the control 'tags'"):
        load_label_studio(folder, field="tags")


@pytest.mark.parametrize("cell", [{"choices": ["Boat", "Car"]}, [{"rectanglelabels": ["Boat"]}, {"labels": ["Car"]}]])
def test_label_studio_min(tmp_path, cell):
    rows = [
        {
            "image": "/data/upload/1/a.jpg",
            "id": 1,
            "choice": cell,
            "annotation_id": 4,
            "annotator": 1,
            "lead_time": 2.0,
        },
        {
            "image": "/data/upload/1/b.jpg",
            "id": 2,
            "choice": "Boat",
            "annotation_id": 5,
            "annotator": 1,
            "lead_time": 1,
        },
    ]
    folder = write(tmp_path, {"min.json": rows}, "a.jpg", "b.jpg")
    assert first(folder / "min.json") == "label_studio"
    assert labels(load_label_studio(folder / "min.json")) == {"Boat": [1, 1], "Car": [1, 0]}


def test_label_studio_with_several_columns_asks_which(tmp_path):
    header = "annotation_id,annotator,id,image,lead_time,weather,place\n"
    folder = write(tmp_path, {"e.csv": header + "1,1,1,/data/upload/1/a.jpg,1,sunny,sea\n"}, "a.jpg")
    with pytest.raises(ValueError, match="which field holds the labels, weather, place.*data.field=weather"):
        load_label_studio(folder / "e.csv")
    assert labels(load_label_studio(folder / "e.csv", field="place")) == {"sea": [1]}


# CVAT

CVAT = """<?xml version="1.0"?><annotations><meta><project><labels>
<label><name>dog</name><type>any</type></label><label><name>cow</name><type>any</type></label>
<label><name>cat</name><type>tag</type></label></labels></project></meta>
<image id="0" name="a.jpg" subset="Train"><tag label="cat"/><polygon label="dog" points="1,1"/></image>
<image id="1" name="sub/b.jpg" subset="Validation"></image></annotations>"""


def test_cvat_subsets_and_labels_of_the_project(tmp_path):
    folder = write(tmp_path, {"annotations.xml": CVAT}, "images/Train/a.jpg", "images/Validation/sub/b.jpg")
    assert first(folder) == "cvat"
    assert labels(load_cvat(folder)) == {"dog": [1], "cow": [0], "cat": [1]}
    assert labels(load_cvat(folder / "annotations.xml", "val", unlisted="absent")) == {
        "dog": [-1],
        "cow": [-1],
        "cat": [-1],
    }
    with pytest.raises(SplitNotFound, match="Available splits: 'train', 'validation'"):
        load_cvat(folder, "test")


def test_cvat_mistakes(tmp_path):
    write(tmp_path, {"annotations.xml": "<annotations><image name='a.jpg'><tag label='x'/></image>"})
    with pytest.raises(ValueError, match="annotations.xml is not valid XML"):
        load_cvat(tmp_path)
    write(tmp_path, {"annotations.xml": "<annotations><track label='x'></track><image name='a.jpg'/></annotations>"})
    with pytest.raises(ValueError, match="tracks of a video"):
        load_cvat(tmp_path)


# COCO


def coco(names, shown, files=("a.jpg", "b.jpg")):
    return {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(files)],
        "categories": [{"id": i, "name": name, "supercategory": "none"} for i, name in enumerate(names)],
        "annotations": [{"id": 1, "image_id": i, "category_id": j} for i, j in shown],
    }


def test_coco_by_its_path_with_splits(tmp_path):
    files = {f"annotations/instances_{part}.json": coco(["dog", "cat"], [(0, 1)]) for part in ("train2017", "val2017")}
    photos = [f"{part}/{name}" for part in ("train2017", "val2017") for name in ("a.jpg", "b.jpg")]
    folder = write(tmp_path, files, *photos)
    assert first(folder) == first(folder / "annotations" / "instances_val2017.json") == "coco_json"
    assert (
        labels(load_coco_json(folder))
        == labels(load_coco_json(folder, "validation"))
        == {"dog": [-1, -1], "cat": [1, -1]}
    )
    assert len(load_coco_json(folder / "annotations" / "instances_val2017.json", "val")) == 2
    assert labels(load_coco_json(folder, rename={"dog": "animal", "cat": "animal"})) == {"animal": [1, -1]}
    write(tmp_path, {"annotations/captions_train2017.json": coco(["dog"], [])})
    with pytest.raises(ValueError, match="several kinds of annotations: captions, instances"):
        load_coco_json(folder)


# Roboflow


def test_roboflow_coco_leaves_its_group_out(tmp_path, caplog):
    content = coco(["animals", "dog", "id"], [(0, 1)])
    for category in content["categories"][1:]:
        category["supercategory"] = "animals"
    files = {f"{part}/_annotations.coco.json": content for part in ("train", "valid")}
    folder = write(tmp_path, files, *(f"{part}/{name}" for part in ("train", "valid") for name in ("a.jpg", "b.jpg")))
    assert first(folder) == "roboflow"
    assert (
        labels(load_roboflow(folder))
        == labels(load_roboflow(folder, "validation"))
        == {"dog": [1, -1], "id": [-1, -1]}
    )
    assert "animals are names of groups" in caplog.text
    assert labels(load_roboflow(folder / "valid", "valid")) == {"dog": [1, -1], "id": [-1, -1]}


def test_roboflow_classes_may_have_any_name(tmp_path):
    files = {
        "train/_classes.csv": "filename, id, width\na.jpg, 1, 0\n",
        "test/_classes.csv": "filename, id, width\nb.jpg, 0, 1\n",
    }
    folder = write(tmp_path, files, "train/a.jpg", "test/b.jpg")
    assert labels(load_roboflow(folder, "test")) == {"id": [-1], "width": [1]}
    write(folder, {"train/_annotations.coco.json": {}})
    with pytest.raises(ValueError, match="has both _classes.csv and _annotations.coco.json"):
        load_roboflow(folder)


# FiftyOne


@pytest.mark.parametrize(
    "content",
    [
        {"classes": ["cat", "dog", "cow"], "labels": {"a": [1, 0], "sub/b": 1, "c": None}},
        {
            "classes": ["cat", "dog", "cow"],
            "labels": {"a": [{"label": 1, "confidence": 0.9}, 0], "sub/b": [1], "c": None},
        },
    ],
)
def test_fiftyone_classifications(tmp_path, content):
    folder = write(tmp_path, {"labels.json": content}, "data/a.jpg", "data/sub/b.png", "data/c.jpg")
    assert first(folder) == "fiftyone"
    assert labels(load_fiftyone(folder, unlisted="absent")) == {
        "cat": [1, -1, 0],
        "dog": [1, 1, 0],
        "cow": [-1, -1, 0],
    }
    write(tmp_path, {"labels.json": {"classes": ["cat"], "labels": {"a": 3}}})
    with pytest.raises(
        ValueError, match="labels.json, a: expected the name of a label, or its index in `classes`, got 3"
    ):
        load_fiftyone(folder)


def test_fiftyone_samples(tmp_path):
    truth = {"_cls": "Detections", "detections": [{"label": "dog"}, {"label": "dog"}]}
    more = {"_cls": "Classification", "label": "night"}
    samples = [
        {"filepath": "data/a.jpg", "tags": ["train"], "ground_truth": truth, "time": more},
        {"filepath": "/elsewhere/b.jpg", "tags": ["validation"], "ground_truth": None, "time": more},
    ]
    folder = write(tmp_path, {"samples.json": {"samples": samples}}, "data/a.jpg", "data/b.jpg")
    with pytest.raises(ValueError, match="which field holds the labels, ground_truth, time.*data.field=ground_truth"):
        load_fiftyone(folder)
    assert labels(load_fiftyone(folder, "val", field="ground_truth", unlisted="absent")) == {"dog": [0]}
    assert labels(load_fiftyone(folder, field="time")) == {"night": [1]}


def test_fiftyone_csv(tmp_path):
    content = 'filepath,tags,ground_truth.label\n/data/x/a.jpg,train,"dog,hot dog"\n/data/x/b.jpg,train,\n'
    folder = write(tmp_path, {"labels.csv": content}, "data/a.jpg", "data/b.jpg")
    assert first(folder / "labels.csv") == "fiftyone"
    assert labels(load_fiftyone(folder, unlisted="absent")) == {"dog": [1, -1], "hot dog": [1, -1]}


# VOC


def voc(*objects, file="a.jpg"):
    shown = "".join(f"<object><name>{name}</name><difficult>{hard}</difficult></object>" for name, hard in objects)
    return f"<annotation><filename>{file}</filename>{shown}</annotation>"


def test_voc_with_lists_and_other_file_names(tmp_path):
    files = {
        "Annotations/1.xml": voc(("helmet", 0), ("vest", "true"), file="renamed.jpg"),
        "Annotations/2.xml": voc(("vest", 0), ("vest", 1)),
        "ImageSets/Main/trainval.txt": "1\n",
        "ImageSets/Main/test.txt": "2\n",
    }
    folder = write(tmp_path, files, "JPEGImages/1.png", "JPEGImages/2.jpg")
    assert first(folder) == "voc_xml"
    assert labels(load_voc_xml(folder)) == {"helmet": [1], "vest": [-1]}
    assert labels(load_voc_xml(folder, difficult="present")) == {"helmet": [1], "vest": [1]}
    assert labels(load_voc_xml(folder, "test", difficult="unknown")) == {"helmet": [-1], "vest": [1]}
    with pytest.raises(ValueError, match="`difficult` must be one of absent, unknown, present, got 'skip'"):
        load_voc_xml(folder, difficult="skip")


def test_voc_in_a_folder_for_each_split(tmp_path):
    files = {"train/a.xml": voc(("dog", 0)), "valid/b.xml": voc(("cat", 0), file="b.jpg")}
    folder = write(tmp_path, files, "train/a.jpg", "valid/b.jpg")
    assert labels(load_voc_xml(folder, "val")) == {"cat": [1], "dog": [-1]}
    write(tmp_path, {"train/a.xml": "<annotation><object/></annotation>"})
    with pytest.raises(ValueError, match="a.xml: the objects 0 have no <name>"):
        load_voc_xml(folder)
