"""The set-up of Cole et al. 2021 (also ROLE's and LargeLoss'): images, their order, what is known, what is held out.

The expected values come from slow transcriptions of the published preparation and split.
"""

import json

import numpy as np
import pytest
from photos import write_photos

from hf_mlrpl.data.columns import label_matrix
from hf_mlrpl.recipe.document import Recipe

VOC_COLUMNS = {"aeroplane": 0, "bird": 2, "cat": 7, "person": 14, "tvmonitor": 19}  # some of the 20


def setup(data: dict) -> Recipe:
    data = {"protocol": "single_positive", "validation": 0.2, "validation_seed": 1200} | data
    return Recipe.from_dict({"method": "role", "objective": {"expected_positives": 2.0}, "data": data})


def transcribed_observation(labels: np.ndarray) -> np.ndarray:
    rng = np.random.RandomState(1200)
    observed = np.zeros_like(labels)
    for i in range(len(labels)):
        positive = np.nonzero(labels[i, :] == 1)[0]
        rng.shuffle(positive)
        observed[i, positive[:1]] = 1
        negative = np.nonzero(labels[i, :] == -1)[0]
        rng.shuffle(negative)
    return observed


def transcribed_split(count: int) -> tuple[np.ndarray, np.ndarray]:
    n_2 = int(np.round(0.2 * count))
    permutation = np.random.RandomState(1200).permutation(count)
    return np.sort(permutation[: count - n_2]), np.sort(permutation[-n_2:])


def assert_is_setup(splits, ids: list[str], labels: np.ndarray) -> None:
    """`ids` and `labels` of all training images in the authors' order."""
    train, validation = transcribed_split(len(ids))
    assert splits.train["image_id"][:] == [ids[row] for row in train]
    assert splits.validation["image_id"][:] == [ids[row] for row in validation]
    assert np.array_equal(label_matrix(splits.train), transcribed_observation(labels)[train])
    assert np.array_equal(label_matrix(splits.validation), labels[validation]), "validation labels are clean"


def test_coco(tmp_path):
    rng = np.random.RandomState(3)
    ids = rng.permutation(1200)[:60].tolist()  # of one to four digits: sorted as text is not sorted as numbers
    annotations = [
        {"image_id": int(rng.choice(ids[:50])), "category_id": int(rng.choice([1, 3, 7, 90]))} for _ in range(130)
    ]
    (tmp_path / "annotations").mkdir()
    for part in ("train", "val"):
        instances = {
            "categories": [{"id": i, "name": f"category {i}"} for i in (1, 3, 7, 90)],
            "images": [{"id": i, "file_name": f"{i}.jpg"} for i in ids],
            "annotations": annotations,
        }
        (tmp_path / "annotations" / f"instances_{part}2014.json").write_text(json.dumps(instances))
    write_photos(tmp_path / "images", *(f"{i}.jpg" for i in ids))
    splits = setup({"name": "coco", "path": str(tmp_path), "annotated_only": True, "order": "id_as_text"}).data.load()

    sorted_ids = sorted({str(annotation["image_id"]) for annotation in annotations})
    assert sorted_ids != sorted(sorted_ids, key=int) and len(sorted_ids) < 50
    labels = np.full((len(sorted_ids), 4), -1)
    for annotation in annotations:
        labels[sorted_ids.index(str(annotation["image_id"])), [1, 3, 7, 90].index(annotation["category_id"])] = 1
    assert_is_setup(splits, sorted_ids, labels)
    assert splits.test["image_id"][:] == sorted_ids and np.array_equal(label_matrix(splits.test), labels)


def test_coco_has_no_other_order_and_needs_annotations(tmp_path):
    (tmp_path / "annotations").mkdir()
    instances = {"categories": [{"id": 1, "name": "a"}], "images": [{"id": 1, "file_name": "1.jpg"}]}
    file = tmp_path / "annotations" / "instances_train2014.json"
    file.write_text(json.dumps(instances | {"annotations": []}))
    with pytest.raises(ValueError, match="`order` must be one of file, id_as_text, got 'id'"):
        setup({"name": "coco", "path": str(tmp_path), "order": "id"}).data.load()
    with pytest.raises(ValueError, match="annotates none of its 1 images, and `annotated_only` leaves them out"):
        setup({"name": "coco", "path": str(tmp_path), "annotated_only": True}).data.load()


def test_voc_2012(tmp_path):
    rng = np.random.RandomState(4)
    folder = tmp_path / "VOC2012"
    for name in ("ImageSets/Main", "Annotations"):
        (folder / name).mkdir(parents=True)
    ids = [f"2008_{i:06d}" for i in sorted(rng.permutation(500)[:20].tolist())]  # the official lists are sorted
    labels = np.full((len(ids), 20), -1)
    for row, image_id in zip(labels, ids, strict=True):
        shown = rng.choice(list(VOC_COLUMNS), size=rng.randint(1, 4), replace=False)
        row[[VOC_COLUMNS[name] for name in shown]] = 1
        objects = "".join(f"<object><name>{name}</name></object>" for name in shown)
        (folder / "Annotations" / f"{image_id}.xml").write_text(f"<annotation>{objects}</annotation>")
    write_photos(folder / "JPEGImages", *(f"{image_id}.jpg" for image_id in ids))
    for part in ("train", "val"):
        (folder / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(ids))
    splits = setup({"name": "voc", "year": "2012", "path": str(tmp_path)}).data.load()
    assert_is_setup(splits, ids, labels)


def test_without_a_seed_the_held_out_images_stay_what_they_were(tmp_path):
    ids = [f"{i:02d}.jpg" for i in range(30)]
    write_photos(tmp_path, *ids)
    (tmp_path / "train.csv").write_text("image,cat,dog\n" + "".join(f"{name},1,0\n" for name in ids))
    splits = setup({"name": "table", "path": str(tmp_path), "protocol": "none", "validation_seed": None}).data.load()
    order = np.random.RandomState(0).permutation(30)
    assert splits.validation["image_id"][:] == [ids[row] for row in sorted(order[:6])]
    assert splits.train["image_id"][:] == [ids[row] for row in sorted(order[6:])]
