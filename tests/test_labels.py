import numpy as np
import pytest
import torch

from hf_mlrpl.labels import check_labels

LABELS = np.array([[-1, 0, 1], [1, 0, 0]])


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32])
def test_one_wrong_value_is_named(dtype):
    labels = LABELS.astype(dtype)
    check_labels(labels, 3)
    for wrong in (-2, 2):
        labels[1, 2] = wrong
        for given in (labels, torch.from_numpy(labels)):
            with pytest.raises(ValueError, match=rf"got {wrong}.* in row 1, column 2"):
                check_labels(given)
            with pytest.raises(ValueError, match="in image 'b', column 2"):
                check_labels(given, rows=["a", "b"])


def test_soft_labels_count_as_positive_and_nan_is_wrong():
    labels = LABELS.astype(np.float32)
    labels[0, 1] = 0.5
    check_labels(labels)
    for wrong in (-0.5, 1.5, np.nan):
        labels[0, 1] = wrong
        with pytest.raises(ValueError, match="in row 0, column 1"):
            check_labels(labels)


def test_no_images_are_no_mistake_but_another_shape_is():
    check_labels(np.empty((0, 3), np.int8), 3)
    for labels, found in ((LABELS[0], r"\(3,\)"), (LABELS[:, :2], r"\(2, 2\)")):
        with pytest.raises(ValueError, match=rf"shape \(num_images, 3\), got {found}"):
            check_labels(labels, 3)
