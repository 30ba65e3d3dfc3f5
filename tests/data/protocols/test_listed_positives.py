"""Lists of SPLC and SCPNet: parsed strictly, matched by file name, for every data set."""

import json

import numpy as np
import pytest
from photos import write_photos

from hf_mlrpl.data.collections.coco import load_coco
from hf_mlrpl.data.columns import image_files, label_matrix, make_dataset
from hf_mlrpl.data.hiding import hide_labels
from hf_mlrpl.data.protocols.listed_positives import ListedPositives
from hf_mlrpl.data.tables.index_lists import labels_at, read_index_list
from hf_mlrpl.recipe.document import Recipe

LABELS = np.array([[1, -1, 1], [-1, 1, 1], [1, 1, 1]], dtype=np.int8)
FILES = ["/data/images/a/1.jpg", "/data/images/b/1.jpg", "/data/images/b/2.jpg"]


def write_list(folder, *lines):
    (folder / "list.txt").write_text("\n".join(lines))
    return str(folder / "list.txt")


def test_only_the_listed_positives_stay_known(tmp_path):
    protocol = ListedPositives(write_list(tmp_path, "b/2.jpg,1 2", "a/1.jpg, 2", "b/1.jpg,"))
    assert protocol(LABELS, FILES).tolist() == [[0, 0, 1], [0, 0, 0], [0, 1, 1]]


def test_the_names_may_have_no_folder(tmp_path):
    protocol = ListedPositives(write_list(tmp_path, "2.jpg,0"))
    assert protocol(LABELS[2:], FILES[2:]).tolist() == [[1, 0, 0]]
    assert protocol(LABELS[2:], ["C:\\images\\2.jpg"]).tolist() == [[1, 0, 0]]


@pytest.mark.parametrize(
    "lines, message",
    [
        (["a/1.jpg,0", "1.jpg,1"], "list.txt, line 2: 2 images of the data are called 1.jpg"),
        (["a/1.jpg,0", "", "c/1.jpg,1"], "list.txt, line 3: no image of the data is called c/1.jpg"),
        (["a/1.jpg,0", "b/1.jpg,1"], "list.txt does not list 1 of the 3 images: /data/images/b/2.jpg. For COCO"),
        (["a/1.jpg,0", "b/2.jpg,1", "b/1.jpg,0"], "line 3: label 0 is listed as present, but the data say otherwise"),
        (["a/1.jpg,0", "a/1.jpg,2"], "list.txt, line 2: a/1.jpg is listed already, in line 1"),
        (["a/1.jpg 0"], "list.txt, line 1: expected a file name, a comma and label indices, .* got 'a/1.jpg 0'"),
        (["a/1.jpg,0,1"], "list.txt, line 1: expected a file name, a comma"),
        (["a/1.jpg,-1"], "list.txt, line 1: expected a file name, a comma"),
        ([",1"], "list.txt, line 1: expected a file name, a comma"),
        (["a/1.jpg,3"], "list.txt, line 1: a label index must be a number from 0 to 2, got 3"),
        ([], "list.txt lists no image"),
    ],
)
def test_mistakes_name_file_and_line(tmp_path, lines, message):
    protocol = ListedPositives(write_list(tmp_path, *lines))
    with pytest.raises(ValueError, match=message):
        protocol(LABELS, FILES)


def test_a_list_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.txt does not exist"):
        ListedPositives(str(tmp_path / "none.txt"))(LABELS, FILES)


def test_a_list_of_full_labels(tmp_path):
    listed = read_index_list(write_list(tmp_path, "a.jpg,2 0", "b.jpg,"), 3)
    assert labels_at([image.labels for image in listed], 3).tolist() == [[1, -1, 1], [-1, -1, -1]]


def test_images_without_a_path_are_called_by_their_id(tmp_path):
    write_photos(tmp_path, "x.png")
    photo = tmp_path / "x.png"
    dataset = make_dataset([photo, photo.read_bytes()], ["1", "y.png"], LABELS[:2], ["a", "b", "c"])
    assert image_files(dataset) == [str(photo), "y.png"]
    hidden = hide_labels(dataset, ListedPositives(write_list(tmp_path, "y.png,1", "x.png,0")))
    assert label_matrix(hidden).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert np.array_equal(label_matrix(hidden, "full_labels"), LABELS[:2])


def test_a_recipe_with_a_list_for_coco(tmp_path):
    """Photos without annotation are not listed, as in the authors' file."""
    instances = {
        "categories": [{"id": 3, "name": "car"}, {"id": 1, "name": "person"}],
        "images": [{"id": i, "file_name": f"COCO_train2014_{i}.jpg"} for i in (7, 8, 9)],
        "annotations": [{"image_id": i, "category_id": c} for i, c in ((9, 3), (9, 1), (7, 1))],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train2014.json").write_text(json.dumps(instances))
    write_photos(tmp_path / "train2014", *(image["file_name"] for image in instances["images"]))
    names = write_list(tmp_path, "COCO_train2014_9.jpg,1", "COCO_train2014_7.jpg,0")
    data = {"name": "coco", "path": str(tmp_path), "protocol": "listed_positives", "list": names}
    with pytest.raises(ValueError, match="does not list 1 of the 3 images: .*COCO_train2014_8.jpg"):
        Recipe.from_dict({"method": "splc", "data": data}).data.load()
    train = Recipe.from_dict({"method": "splc", "data": data | {"annotated_only": True}}).data.load().train
    assert label_matrix(train).tolist() == [[1, 0], [0, 1]]
    assert load_coco(tmp_path, annotated_only=True)["image_id"][:] == ["7", "9"], "order of the file"
