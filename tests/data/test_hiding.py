"""Labels of a data set are hidden, whatever its columns."""

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from PIL import Image

from hf_mlrpl import (
    RandomKnown,
    SinglePositive,
    hide_labels,
    label_matrix,
    label_names,
    load_from_dataset,
    make_dataset,
)

NAMES = ["cat", "dog", "sofa"]
LABELS = np.array([[1, -1, 1], [-1, -1, -1], [-1, 1, -1], [1, 1, 1]], dtype=np.int8)
IMAGES = [Image.new("RGB", (8, 6), (40 * i, 0, 0)) for i in range(len(LABELS))]


def small_dataset(labels: np.ndarray = LABELS) -> Dataset:
    return make_dataset(IMAGES, [f"photo-{i}" for i in range(len(labels))], labels, NAMES)


def raw_dataset(features: dict, **columns: list) -> Dataset:
    return Dataset.from_dict({"image": IMAGES, **columns}, features=Features({"image": datasets.Image(), **features}))


def test_hide_labels_keeps_the_truth_and_derives_positives_again():
    hidden = hide_labels(small_dataset(), SinglePositive())
    labels = label_matrix(hidden)
    assert np.array_equal(label_matrix(hidden, "full_labels"), LABELS)
    assert (labels == 1).sum(axis=1).tolist() == [1, 0, 1, 1]
    assert hidden["positives"][:] == [np.flatnonzero(row == 1).tolist() for row in labels]
    assert label_names(hidden) == NAMES
    assert hidden[3]["image"].size == (8, 6)


def test_hide_labels_works_on_chosen_and_shuffled_rows():
    hidden = hide_labels(small_dataset().select([3, 0]), RandomKnown(1.0))
    assert np.array_equal(label_matrix(hidden), LABELS[[3, 0]])
    assert hidden["image_id"][:] == ["photo-3", "photo-0"]


@pytest.mark.parametrize("proportion", [0.5, 1.0])
def test_hide_labels_refuses_to_run_twice(proportion):
    hidden = hide_labels(small_dataset(), RandomKnown(proportion))
    with pytest.raises(ValueError, match="needs full labels.*Was it run twice"):
        hide_labels(hidden, RandomKnown(0.5))


def test_hide_labels_refuses_unknown_labels_and_inventive_protocols():
    with pytest.raises(ValueError, match="hidden or unknown already"):
        hide_labels(small_dataset(np.where(LABELS == 1, 0, LABELS).astype(np.int8)), RandomKnown(0.5))
    with pytest.raises(ValueError, match="may only replace labels by 0"):
        hide_labels(small_dataset(), np.abs)


# ---- data sets with other columns ----


def test_one_column_per_label_is_brought_to_the_columns_of_this_library():
    """As `load_dataset("imagefolder", ...)` reads a `metadata.csv`."""
    columns = {name: LABELS[:, i].clip(0).tolist() for i, name in enumerate(NAMES)}
    hidden = hide_labels(raw_dataset(dict.fromkeys(NAMES, Value("int64")), **columns), RandomKnown(0.5))
    expected = hide_labels(small_dataset(), RandomKnown(0.5))
    assert label_names(hidden) == NAMES and hidden.column_names == expected.column_names
    assert np.array_equal(label_matrix(hidden), label_matrix(expected))
    assert np.array_equal(label_matrix(hidden, "full_labels"), LABELS)


def test_lists_that_leave_out_what_is_absent_must_say_so():
    positives = [np.flatnonzero(row == 1).tolist() for row in LABELS]
    raw = raw_dataset({"labels": List(ClassLabel(names=NAMES))}, labels=positives)
    with pytest.raises(ValueError, match=r'load_from_dataset\(dataset, unlisted="absent"\)'):
        hide_labels(raw, RandomKnown(0.5))
    hidden = hide_labels(load_from_dataset(raw, unlisted="absent"), RandomKnown(0.5))
    assert np.array_equal(label_matrix(hidden, "full_labels"), LABELS)


def test_numbers_without_names_are_refused():
    raw = raw_dataset({"labels": List(Value("int64"))}, labels=LABELS.clip(0).tolist())
    message = "the column `labels` has lists of 3 numbers, which may be one per label, .* names are not known"
    with pytest.raises(ValueError, match=message):
        hide_labels(raw, RandomKnown(0.5))


def test_several_splits_and_streams_are_refused():
    raw = small_dataset()
    with pytest.raises(TypeError, match="got DatasetDict of the splits 'train', 'test': choose one"):
        hide_labels(DatasetDict(train=raw, test=raw), RandomKnown(0.5))
    with pytest.raises(TypeError, match="got IterableDataset.*streamed data sets are not supported"):
        hide_labels(raw.to_iterable_dataset(), RandomKnown(0.5))
