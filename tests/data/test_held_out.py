import numpy as np
import pytest
from tiny import tiny_recipe

from hf_mlrpl.data.columns import make_dataset
from hf_mlrpl.data.held_out import hold_out


def dataset_of(labels):
    ids = [str(row) for row in range(len(labels))]
    names = [f"label {column}" for column in range(labels.shape[1])]
    return make_dataset(ids, ids, labels.astype(np.int8), names)


@pytest.mark.parametrize("stratify", [False, True])
@pytest.mark.parametrize("num_labels", [1, 2, 9])
@pytest.mark.parametrize("shown_by", ["no image", "every image", "some images"])
def test_every_image_is_in_one_of_two_parts_of_the_wanted_size(stratify, num_labels, shown_by):
    if shown_by == "some images":
        labels = np.random.RandomState(0).choice([-1, 0, 1], (30, num_labels))
    else:
        labels = np.full((30, num_labels), -1 if shown_by == "no image" else 1)
    kept, held_out = hold_out(dataset_of(labels), 6, stratify=stratify)
    assert len(held_out) == 6
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held_out])), np.arange(30))
    assert (np.diff(kept) > 0).all() and (np.diff(held_out) > 0).all()


def test_stratified_parts_have_the_same_share_of_every_label():
    present = np.random.RandomState(0).random((400, 8)) < np.linspace(0.05, 0.5, 8)
    images, errors = dataset_of(np.where(present, 1, -1)), {}
    for stratify in (False, True):
        _, held_out = hold_out(images, 40, stratify=stratify)
        errors[stratify] = np.abs(present[held_out].sum(axis=0) - present.sum(axis=0) / 10).max()
    assert errors[True] <= 1 < errors[False]


def test_a_stratified_part_depends_on_the_seed_alone():
    images = dataset_of(np.random.RandomState(0).choice([-1, 1], (60, 4)))
    parts = [hold_out(images, 12, seed=seed, stratify=True)[1].tolist() for seed in (None, 0, 1)]
    assert parts[0] == parts[1] != parts[2]


def test_a_recipe_stratifies_what_it_holds_out():
    recipe = tiny_recipe(data={"validation": 0.25, "stratify": True})
    images = recipe.data.load_split("train")
    _, held_out = hold_out(images, len(images) // 4, stratify=True)
    assert recipe.data.load().validation["image_id"][:] == images.select(held_out)["image_id"][:]
