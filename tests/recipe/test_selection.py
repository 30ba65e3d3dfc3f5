"""Which images train, and which select."""

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_recipe

from hf_mlrpl.cli.main import main
from hf_mlrpl.data.columns import label_matrix, make_dataset
from hf_mlrpl.hub.facts import SELECTED_ON_TEST
from hf_mlrpl.recipe.document import Recipe

ON_TEST = {"validation": "test", "model_selection": "test_as_published"}


@pytest.fixture
def some_empty(tmp_path) -> str:
    """A data set with images that show none of the labels."""
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((200, 3)) < 0.2, 1, -1).astype(np.int8)
    images = [Image.new("RGB", (8, 8)) for _ in labels]
    dataset = make_dataset(images, [str(i) for i in range(200)], labels, ["a", "b", "c"])
    dataset.save_to_disk(tmp_path / "data")
    return str(tmp_path / "data")


def splits_of(path: str, **settings):
    data = {"name": "dataset", "dataset": path, "protocol": "random_known", "proportion": 0.3, "validation": 0.25}
    return Recipe.from_dict({"method": "partial_bce", "data": data | settings}).data.load()


def test_images_without_a_known_label_may_be_left_out(some_empty):
    every, some = splits_of(some_empty), splits_of(some_empty, drop_unlabelled=True)
    has_known = every.known_labels.any(axis=1)
    assert 0 < has_known.sum() < len(has_known)
    assert list(some.train["image_id"]) == [every.train["image_id"][i] for i in np.flatnonzero(has_known)]
    assert np.array_equal(some.known_labels, every.known_labels[has_known])
    assert len(some.validation) == len(every.validation)


def test_images_that_show_nothing_may_be_left_out_after_labels_are_hidden(some_empty):
    every, some = splits_of(some_empty), splits_of(some_empty, drop_empty=True)
    shows = (label_matrix(every.train, "full_labels") == 1).any(axis=1)
    assert 0 < shows.sum() < len(shows)
    assert np.array_equal(some.known_labels, every.known_labels[shows]), "the labels are drawn as before"
    assert (label_matrix(some.validation) == 1).any(axis=1).all()


def test_where_nothing_is_left_it_is_an_error(some_empty):
    with pytest.raises(ValueError, match="images have no known label, so none is left"):
        splits_of(some_empty, proportion=1e-9, drop_unlabelled=True)


@pytest.mark.parametrize(
    "settings",
    [{"validation": "test"}, {"model_selection": "test_as_published"}, ON_TEST | {"validation": 0.1}],
)
def test_test_images_select_only_where_the_recipe_says_so_twice(settings):
    with pytest.raises(ValueError, match="the test images select nothing, unless both say so"):
        tiny_recipe(data=settings)


def test_test_images_by_another_name_select_nothing(monkeypatch):
    part = tiny_recipe(data={"validation": "other"}).data
    real = part.load_split
    monkeypatch.setattr(part, "load_split", lambda split: real("test" if split == "other" else split))
    with pytest.raises(ValueError, match="images of `data.validation: other` are test images"):
        part.load()


@pytest.mark.slow
def test_a_run_that_selects_on_the_test_images_says_so(tmp_path, capsys):
    recipe = tiny_recipe("partial_bce", data=ON_TEST, training={"num_train_epochs": 1, "load_best_model_at_end": True})
    recipe.save(tmp_path / "r.yaml")
    assert main(["train", str(tmp_path / "r.yaml"), "--output", str(tmp_path / "run"), "--no-pictures"]) == 0
    assert f"warning: {SELECTED_ON_TEST}" in capsys.readouterr().out
    assert (tmp_path / "run" / "README.md").read_text().count(SELECTED_ON_TEST) == 2
    (tmp_path / "s.yaml").write_text(f"runs: [{{name: A, recipe: {tmp_path / 'r.yaml'}}}]")
    assert main(["sweep", str(tmp_path / "s.yaml"), "--output", str(tmp_path / "out"), "--table"]) == 0
    for file in ("table.md", "table.tex"):
        assert f"{SELECTED_ON_TEST}: A." in (tmp_path / "out" / file).read_text()
