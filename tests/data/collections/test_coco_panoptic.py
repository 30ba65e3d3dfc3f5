"""COCO panoptic, on a tiny folder made here."""

import json

import numpy as np
import pytest
from photos import write_photos

from hf_mlrpl.data.collections.coco_panoptic import load_coco_panoptic
from hf_mlrpl.data.columns import label_matrix, label_names
from hf_mlrpl.data.protocols.hierarchy import read_hierarchy, with_ancestors
from hf_mlrpl.recipe.document import Recipe


def panoptic() -> dict:
    return {
        "info": {},
        "categories": [
            {"id": 187, "name": "sky-other-merged", "supercategory": "sky", "isthing": 0},
            {"id": 1, "name": "person", "supercategory": "person", "isthing": 1},
            {"id": 24, "name": "zebra", "supercategory": "animal", "isthing": 1},
        ],
        "images": [{"id": 9, "file_name": "b.jpg"}, {"id": 4, "file_name": "a.jpg"}, {"id": 5, "file_name": "c.jpg"}],
        "annotations": [
            {"image_id": 4, "file_name": "a.png", "segments_info": [segment(24), segment(24), segment(187)]},
            {"image_id": 9, "file_name": "b.png", "segments_info": [segment(1)]},
            {"image_id": 5, "file_name": "c.png", "segments_info": []},
        ],
    }


def segment(category_id: int) -> dict:
    return {"id": 8345037, "category_id": category_id, "iscrowd": 0, "bbox": [0, 14, 434, 374], "area": 24315}


def write_panoptic(folder, content):
    (folder / "annotations").mkdir()
    (folder / "annotations" / "panoptic_train2017.json").write_text(json.dumps(content))
    write_photos(folder / "train2017", "a.jpg", "b.jpg", "c.jpg")
    return folder


def test_things_and_stuff(tmp_path):
    dataset = load_coco_panoptic(write_panoptic(tmp_path, panoptic()))
    assert label_names(dataset) == ["person", "zebra", "sky-other-merged"], "ascending category id"
    assert dataset["image_id"][:] == ["9", "4", "5"], "order of the file"
    assert np.array_equal(label_matrix(dataset), [[1, -1, -1], [-1, 1, 1], [-1, -1, -1]])
    assert dataset[0]["image"].size == (9, 6)


def test_the_shipped_hierarchy_knows_the_labels(tmp_path):
    dataset = with_ancestors(load_coco_panoptic(write_panoptic(tmp_path, panoptic())), read_hierarchy("coco_panoptic"))
    present = {label_names(dataset)[i] for i in dataset[1]["positives"]}
    assert present == {"zebra", "animal", "thing", "sky-other-merged", "sky", "stuff", "root"}


def test_the_recipe_hides_labels_below_where_the_annotator_stops(tmp_path):
    write_panoptic(tmp_path, panoptic())
    recipe = Recipe.load("soft_exposure/coco_panoptic", [f"data.path={tmp_path}", "data.validation=0"])
    train = recipe.data.load().train
    known, full = label_matrix(train), label_matrix(train, "full_labels")
    assert known.shape == (3, 9) and (known == 0).any() and np.array_equal(known[known != 0], full[known != 0])
    assert known[0, label_names(train).index("thing")] == 1


def test_wrong_files_are_named(tmp_path):
    content = panoptic()
    del content["annotations"][0]["segments_info"][1]["category_id"]
    write_panoptic(tmp_path, content)
    with pytest.raises(ValueError, match=r"entry 1 of `annotations\[0\].segments_info` lacks category_id"):
        load_coco_panoptic(tmp_path)
    file = tmp_path / "annotations" / "panoptic_train2017.json"
    content = panoptic()
    content["annotations"][1]["segments_info"][0]["category_id"] = 3
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="panoptic_train2017.json: an annotation of image .* names the category id 3"):
        load_coco_panoptic(tmp_path)
    with pytest.raises(FileNotFoundError, match="panoptic_train2018.json does not exist. The folder has pano"):
        load_coco_panoptic(tmp_path, year="2018")
