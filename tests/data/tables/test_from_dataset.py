"""Any `datasets.Dataset` becomes a data set of the library."""

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from PIL import Image

from hf_mlrpl.data.columns import SplitNotFound, label_matrix, label_names, make_dataset
from hf_mlrpl.data.hiding import hide_labels
from hf_mlrpl.data.protocols.rules import RandomKnown
from hf_mlrpl.data.tables.from_dataset import in_our_columns, load_from_dataset

IMAGES = [Image.new("RGB", (10 + i, 8)) for i in range(3)]
EXPECTED = [[1, 0, 0], [1, 0, 1], [0, 0, 0]]  # bird, cat, dog


def dataset_with(features=None, image="image", **columns) -> Dataset:
    types = {image: datasets.Image()} | (features or {})
    types |= {name: Dataset.from_dict({name: columns[name]}).features[name] for name in columns if name not in types}
    return Dataset.from_dict({image: IMAGES, **columns}, features=Features(types))


def check(dataset, names, labels):
    assert dataset.column_names == ["image", "image_id", "labels", "positives"]
    assert dataset.features["image"] == datasets.Image()
    assert label_names(dataset) == names
    assert np.array_equal(label_matrix(dataset), labels)
    assert [row["image"].size for row in dataset] == [(10, 8), (11, 8), (12, 8)]


def test_lists_of_text():
    source = dataset_with(labels=[["bird"], ["bird", "dog"], []])
    check(load_from_dataset(source, labels=["bird", "cat", "dog"]), ["bird", "cat", "dog"], EXPECTED)
    check(load_from_dataset(source, unlisted="absent"), ["bird", "dog"], [[1, -1], [1, 1], [-1, -1]])


def test_lists_of_a_class_label():
    feature = List(ClassLabel(names=["bird", "cat", "dog"]))
    source = dataset_with({"labels": feature}, labels=[[0], [0, 2], []], image="photo")
    check(load_from_dataset(source), ["bird", "cat", "dog"], EXPECTED)
    reordered = load_from_dataset(source, labels=["dog", "bird", "cat"])
    check(reordered, ["dog", "bird", "cat"], np.array(EXPECTED)[:, [2, 0, 1]])


@pytest.mark.parametrize("index", [-1, None])  # `datasets` refuses those that are too large
def test_an_index_without_a_name_is_refused(index):
    source = dataset_with({"positive": List(ClassLabel(names=["bird", "cat", "dog"]))}, positive=[[0], [1, index], []])
    message = rf"row 1, column `positive`: a label index must be a number from 0 to 2, got {index}"
    with pytest.raises(ValueError, match=message):
        load_from_dataset(source)


def test_positive_and_negative_lists():
    source = dataset_with(positive=[["dog"], [], ["cat"]], negative=[["cat"], ["dog"], None])
    check(load_from_dataset(source), ["cat", "dog"], [[-1, 1], [0, -1], [1, 0]])


def test_one_column_per_label():
    source = dataset_with(image_id=["x", "y", "z"], dog=[1, 0, None], cat=[True, None, False])
    loaded = load_from_dataset(source)
    check(loaded, ["dog", "cat"], [[1, 1], [-1, 0], [0, -1]])
    assert loaded["image_id"][:] == ["x", "y", "z"]
    assert load_from_dataset(dataset_with(dog=[1, 0, 1]))["image_id"][:] == ["0", "1", "2"]


def test_the_columns_of_this_library():
    full = make_dataset(IMAGES, ["a", "b", "c"], np.array([[1, -1], [-1, -1], [1, 1]], dtype=np.int8), ["cat", "dog"])
    hidden = hide_labels(full, RandomKnown(0.5))
    again = load_from_dataset(hidden, labels=["dog", "cat"])
    assert label_names(again) == ["dog", "cat"]
    for column in ("labels", "full_labels"):
        assert np.array_equal(label_matrix(again, column), label_matrix(hidden, column)[:, ::-1])
    assert again.column_names == hidden.column_names
    with pytest.raises(ValueError, match="`labels` names 'dgo', which the data set does not have. Did you mean 'dog'"):
        load_from_dataset(full, labels=["dgo"])


def test_the_labels_of_a_model():
    ours = make_dataset(IMAGES, ["a", "b", "c"], np.array([[1, -1], [-1, -1], [1, 1]], dtype=np.int8), ["cat", "dog"])
    assert in_our_columns(ours) is ours and in_our_columns(ours, ["cat", "dog"]) is ours
    assert np.array_equal(label_matrix(in_our_columns(ours, ["dog", "cat"])), label_matrix(ours)[:, ::-1])
    with pytest.raises(ValueError, match="other labels than the model: dog only in data, bird only in model"):
        in_our_columns(ours, ["cat", "bird"])
    raw = dataset_with(dog=[1, 0, None], cat=[True, None, False], caption=["x", "y", "z"])
    check(in_our_columns(raw, ["cat", "dog"]), ["cat", "dog"], [[1, 1], [0, -1], [-1, 0]])
    with pytest.raises(ValueError, match="no column for the label 'cart'. Did you mean 'cat'"):
        in_our_columns(raw, ["cart", "dog"])


def test_chosen_rows_keep_their_labels():
    source = dataset_with(labels=[["bird"], ["bird", "dog"], []]).select([1, 0])
    assert np.array_equal(label_matrix(load_from_dataset(source)), [[1, 1], [1, 0]])


def test_paths_become_images(tmp_path):
    IMAGES[0].save(tmp_path / "a.png")
    source = Dataset.from_dict({"path": [str(tmp_path / "a.png")], "positive": [["dog"]]})
    assert load_from_dataset(source)[0]["image"].size == (10, 8)


def test_dataset_dicts_and_saved_folders(tmp_path):
    source = dataset_with(positive=[["dog"], [], ["cat"]])
    both = DatasetDict(train=source, test=source.select([0]))
    both.save_to_disk(tmp_path / "both")
    source.save_to_disk(tmp_path / "one")
    source.to_parquet(tmp_path / "one.parquet")
    for splits in (both, tmp_path / "both"):
        assert len(load_from_dataset(splits, "test", labels=["cat", "dog"])) == 1
        with pytest.raises(SplitNotFound, match="no split 'val' .*Available splits: 'train', 'test'"):
            load_from_dataset(splits, "val")
    for path in (str(tmp_path / "one"), tmp_path / "one.parquet"):
        assert label_names(load_from_dataset(path)) == ["cat", "dog"]
        with pytest.raises(SplitNotFound, match="no split 'test' .*Available splits: 'train'"):
            load_from_dataset(path, "test")


def test_image_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "photos"
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        IMAGES[0].save(folder / split / "a.png")
        (folder / split / "metadata.jsonl").write_text('{"file_name": "a.png", "labels": ["dog", "car"]}\n')
    loaded = load_from_dataset(folder, "test")
    assert label_names(loaded) == ["car", "dog"]
    assert loaded[0]["image"].size == (10, 8)
    with pytest.raises(SplitNotFound, match="no split 'val' .*Available splits: 'train', 'test'"):
        load_from_dataset(folder, "val")


def test_names_on_the_hub(monkeypatch):
    source = dataset_with(positive=[["dog"], [], ["cat"]])
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name: ["train"])
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: {"user/pets": {"train": source}}[name][split])
    assert label_names(load_from_dataset("user/pets")) == ["cat", "dog"]
    with pytest.raises(SplitNotFound, match="no split 'test' in user/pets. Available splits: 'train'"):
        load_from_dataset("user/pets", "test")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"caption": ["a", "b", "c"]}, "columns that are no labels.*`caption` .'a', 'b' and 1 more"),
        ({"dog": [1, 2, 0]}, "row 1, column `dog`: expected 1 .*got 2"),
        ({"dog": [1, -1, 0]}, r"-1 \(row 1, column `dog`\) and 0 \(row 2, column `dog`\)"),
        ({"image_id": ["a", "b", "c"]}, "has no labels. Expected one column per label"),
        ({"image_id": ["a", "b", "a"], "dog": [1, 1, 1]}, r"`image_id` must be unique.*'a' \(2 times\)"),
        ({"positive": [["dog"], [], ["cat"]], "negative": [["dog"], [], []]}, "row 0: dog is both positive and neg"),
    ],
)
def test_mistakes_in_columns(columns, message):
    with pytest.raises(ValueError, match=message):
        load_from_dataset(dataset_with(**columns))


def test_one_class_per_image_is_explained():
    source = dataset_with({"label": ClassLabel(names=["cat", "dog"])}, label=[0, 1, 0])
    with pytest.raises(ValueError, match="one class per image, in the column `label`.*several labels per image"):
        load_from_dataset(source)


def test_other_mistakes(tmp_path):
    with pytest.raises(ValueError, match="needs a column `image`: .*got `dog`"):
        load_from_dataset(Dataset.from_dict({"dog": [1, 0]}))
    with pytest.raises(ValueError, match="The data set is empty: its split 'train' has no rows"):
        load_from_dataset(dataset_with(dog=[1, 0, 1]).select([]))
    with pytest.raises(FileNotFoundError, match="There is no file or folder ./nowhere/at/all"):
        load_from_dataset("./nowhere/at/all")
    with pytest.raises(TypeError, match="must be a datasets.Dataset or DatasetDict, .* got dict"):
        load_from_dataset({"image": []})
    (tmp_path / "photos.csv").write_text("image,dog\n")
    with pytest.raises(ValueError, match="photos.csv must be a folder or a .parquet file. `load_table` reads"):
        load_from_dataset(tmp_path / "photos.csv")


def test_the_same_warnings_as_for_tables(caplog):
    load_from_dataset(dataset_with({"dog": Value("int8")}, dog=[None, None, None]))
    assert "all labels of all 3 images are unknown" in caplog.text


def test_columns_that_were_added_to_a_stored_data_set(tmp_path):
    dataset_with(dog=[1, 0, None]).to_parquet(tmp_path / "one.parquet")
    stored = Dataset.from_parquet(str(tmp_path / "one.parquet"), cache_dir=tmp_path)
    check(load_from_dataset(stored.add_column("cat", [0, 1, 1])), ["dog", "cat"], [[1, -1], [-1, 1], [0, 1]])
    listed = stored.remove_columns("dog").add_column("labels", [["bird"], ["bird", "dog"], []])
    hidden = hide_labels(load_from_dataset(listed, unlisted="absent"), RandomKnown(0.5))
    assert label_names(hidden) == ["bird", "dog"]


def test_one_number_per_label_is_no_list_of_indices():
    feature = List(ClassLabel(names=["bird", "cat", "dog"]))
    source = dataset_with({"labels": feature}, labels=[[1, 0, 0], [1, 0, 1], [0, 0, 0]])
    check(load_from_dataset(source), ["bird", "cat", "dog"], np.where(np.array(EXPECTED) == 1, 1, -1))
    two = dataset_with({"labels": List(ClassLabel(names=["a", "b"]))}, labels=[[1, 0], [0, 1], [0, 1]])
    with pytest.raises(ValueError, match="which may be indices or one number per label"):
        load_from_dataset(two)


def test_a_class_label_with_two_classes_is_a_label():
    hat = {"hat": ClassLabel(names=["no", "yes"]), "dog": Value("int8")}
    check(
        load_from_dataset(dataset_with(hat, hat=[0, 1, 1], dog=[1, 0, None])),
        ["hat", "dog"],
        [[-1, 1], [1, -1], [1, 0]],
    )


def test_labels_inside_of_objects(caplog):
    names = ClassLabel(names=["bird", "cat", "dog"])
    boxes = List(List(Value("float32")))
    objects = [{"category": row, "bbox": [[1.0]] * len(row)} for row in ([0], [0, 2], [])]
    source = dataset_with({"objects": {"category": List(names), "bbox": boxes}}, objects=objects)
    check(load_from_dataset(source, label_columns="objects.category"), ["bird", "cat", "dog"], EXPECTED)
    assert "not used: `objects.bbox`" in caplog.text
    objects = [[{"category": index} for index in row] for row in ([0], [0, 2], [])]
    source = dataset_with({"objects": List({"category": names})}, objects=objects)
    check(load_from_dataset(source, label_columns="objects.category"), ["bird", "cat", "dog"], EXPECTED)


def test_a_single_class_on_request():
    source = dataset_with({"label": ClassLabel(names=["bird", "cat", "dog"])}, label=[0, 0, 2])
    check(load_from_dataset(source, label_columns="label"), ["bird", "cat", "dog"], [[1, 0, 0], [1, 0, 0], [0, 0, 1]])


def test_real_lists_need_no_setting():
    check(load_from_dataset(dataset_with(stuff=[["a"], ["a, b"], None])), ["a", "a, b"], [[1, 0], [0, 1], [0, 0]])


def test_the_columns_of_this_library_may_be_renamed(caplog):
    full = make_dataset(IMAGES, ["a", "b", "c"], np.array([[1, -1], [-1, -1], [1, 1]], dtype=np.int8), ["cat", "dog"])
    source = full.add_column("night", [1, 0, 1])
    check(load_from_dataset(source, rename={"cat": "animal", "dog": "animal"}), ["animal"], [[1], [-1], [1]])
    assert "this column is not used: `night`" in caplog.text
    with pytest.raises(ValueError, match="`values` says nothing here"):
        load_from_dataset(source, values="zero_absent")


def test_texts_in_lists_are_labels_and_numbers_are_not(caplog):
    source = dataset_with(stuff=[["bird"], ["bird", "dog"], []], box=[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    check(load_from_dataset(source), ["bird", "dog"], [[1, 0], [1, 1], [0, 0]])
    assert "not used: `box`" in caplog.text
    caplog.clear()
    load_from_dataset(dataset_with(split=["a", "b", "c"], dog=[1, 0, 1]))
    assert "not used: `split`" in caplog.text


def test_files_that_do_not_exist(tmp_path, caplog):
    IMAGES[0].save(tmp_path / "a.png")
    paths = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    source = Dataset.from_dict({"path": paths, "dog": [1, 0]})
    with pytest.raises(FileNotFoundError, match="1 of 2 photos of The data set do not exist: .*b.png"):
        load_from_dataset(source)
    loaded = load_from_dataset(source, missing="skip")
    assert label_matrix(loaded).tolist() == [[1]] and loaded[0]["image"].size == (10, 8)
    assert "They are left out" in caplog.text
