"""COCO, on a small set of real photos and on folders made here."""

import json

import numpy as np
import pytest
from PIL import Image

from hf_mlrpl.data.collections.coco import count_coco_objects, load_coco
from hf_mlrpl.data.columns import SplitNotFound, label_matrix, label_names


def small_instances() -> dict:
    return {
        "categories": [{"id": 7, "name": "train"}, {"id": 2, "name": "bicycle"}, {"id": 90, "name": "toothbrush"}],
        "images": [
            {"id": 30, "file_name": "c.jpg"},
            {"id": 10, "file_name": "a.jpg"},
            {"id": 20, "file_name": "b.jpg"},
        ],
        "annotations": [
            {"image_id": 10, "category_id": 7, "iscrowd": 1, "segmentation": []},
            {"image_id": 30, "category_id": 2, "iscrowd": 0},
            {"image_id": 30, "category_id": 90, "iscrowd": 0},
            {"image_id": 30, "category_id": 90, "iscrowd": 0},
        ],
    }


def write_coco(folder, instances, photos="train2014", file="instances_train2014.json"):
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / photos).mkdir(exist_ok=True)
    (folder / "annotations" / file).write_text(json.dumps(instances))
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        Image.new("RGB", (12, 9)).save(folder / photos / name)
    return folder


@pytest.mark.parametrize("split", ["train", "test"])
def test_labels_of_real_photos(coco_mini, split):
    dataset = load_coco(coco_mini, split, year="")
    file = coco_mini / "annotations" / f"instances_{'train' if split == 'train' else 'val'}.json"
    instances = json.loads(file.read_text())
    names = [category["name"] for category in sorted(instances["categories"], key=lambda category: category["id"])]
    assert label_names(dataset) == names
    assert dataset["image_id"][:] == [str(image["id"]) for image in instances["images"]]
    name_of = {category["id"]: category["name"] for category in instances["categories"]}
    expected = {str(image["id"]): set() for image in instances["images"]}
    for annotation in instances["annotations"]:
        expected[str(annotation["image_id"])].add(name_of[annotation["category_id"]])
    for image_id, positives in zip(dataset["image_id"], dataset["positives"], strict=True):
        assert {names[i] for i in positives} == expected[image_id]
    assert (label_matrix(dataset) != 0).all()
    assert dataset[0]["image"].size == (instances["images"][0]["width"], instances["images"][0]["height"])


@pytest.mark.parametrize("photos", ["train2014", "images", "."])
def test_order_crowds_and_empty_images(tmp_path, photos):
    dataset = load_coco(write_coco(tmp_path, small_instances(), photos))
    assert label_names(dataset) == ["bicycle", "train", "toothbrush"], "ascending category id"
    assert dataset["image_id"][:] == ["30", "10", "20"], "order of the file"
    expected = [[1, -1, 1], [-1, 1, -1], [-1, -1, -1]]
    assert np.array_equal(label_matrix(dataset), expected)
    assert dataset[0]["image"].size == (12, 9)


def test_missing_splits_years_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"instances_train2014.json does not exist. Is this the folder"):
        load_coco(tmp_path)
    write_coco(tmp_path, small_instances())
    with pytest.raises(SplitNotFound, match="no split 'test' in .*instances_val2014.json.*Available splits: 'train'"):
        load_coco(tmp_path, "test")
    with pytest.raises(SplitNotFound, match="no split 'val' in COCO. Available splits: 'train', 'test'"):
        load_coco(tmp_path, "val")
    with pytest.raises(
        FileNotFoundError, match="instances_train2017.json.*instances_train2014.json: choose with `year`"
    ):
        load_coco(tmp_path, year="2017")


def test_missing_photos_are_counted_and_named(tmp_path):
    write_coco(tmp_path, small_instances())
    (tmp_path / "train2014" / "b.jpg").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"1 of 3 photos of .*instances_train2014.json do not exist: b.jpg. Folders searched: .*train2014,",
    ):
        load_coco(tmp_path)


def drop_category(instances):
    instances["categories"].pop(0)


def drop_image(instances):
    instances["images"].pop(1)


def repeat_image(instances):
    instances["images"].append({"id": 99, "file_name": "a.jpg"})


def repeat_id(instances):
    instances["images"].append({"id": 10, "file_name": "d.jpg"})


def drop_section(instances):
    instances.pop("annotations")


def drop_key(instances):
    instances["annotations"][2].pop("category_id")


def drop_everything(instances):
    instances["images"], instances["annotations"] = [], []


def no_list(instances):
    instances["annotations"] = {"0": 1}


def no_object(instances):
    instances["images"][1] = "a.jpg"


def no_file_name(instances):
    instances["images"][1]["file_name"] = None


def list_of_ids(instances):
    instances["annotations"][1]["category_id"] = [2, 90]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_list, "`annotations` must be a list of JSON objects"),
        (no_object, "`images` must be a list of JSON objects"),
        (no_file_name, "entry 1 of `images` must have a text as file_name, got null"),
        (list_of_ids, "entry 1 of `annotations` must have a whole number as category_id, got array"),
        (drop_category, "an annotation of image 10 names the category id 7, which is not in `categories`"),
        (drop_image, "an annotation names the image id 10, which is not in `images`"),
        (repeat_image, "the file name 'a.jpg' 2 times"),
        (repeat_id, "the image id 10 2 times"),
        (drop_section, "has no section `annotations`"),
        (drop_key, "entry 2 of `annotations` lacks category_id"),
        (drop_everything, "lists 0 images and 3 categories"),
    ],
)
def test_damaged_annotations_name_file_and_place(tmp_path, damage, message):
    instances = small_instances()
    damage(instances)
    with pytest.raises(ValueError, match=f"instances_train2014.json.*{message}"):
        load_coco(write_coco(tmp_path, instances))


def test_ids_may_be_texts(tmp_path):
    instances = small_instances()
    for image in instances["images"]:
        image["id"] = f"photo {image['id']}"
    for annotation in instances["annotations"]:
        annotation["image_id"] = f"photo {annotation['image_id']}"
    dataset = load_coco(write_coco(tmp_path, instances))
    assert dataset["image_id"][:] == ["photo 30", "photo 10", "photo 20"]


def test_broken_json_names_the_file(tmp_path):
    write_coco(tmp_path, small_instances())
    file = tmp_path / "annotations" / "instances_train2014.json"
    file.write_text(file.read_text()[:100])
    with pytest.raises(ValueError, match="instances_train2014.json is not valid JSON, perhaps an incomplete download"):
        load_coco(tmp_path)
    file.write_text("[1, 2]")
    with pytest.raises(ValueError, match="instances_train2014.json must hold one JSON object, got a list"):
        load_coco(tmp_path)


def test_objects_are_counted(tmp_path):
    counts = count_coco_objects(write_coco(tmp_path, small_instances()))
    assert counts.tolist() == [[1, 0, 2], [0, 1, 0], [0, 0, 0]], "bicycle, train, toothbrush of c, a, b"
