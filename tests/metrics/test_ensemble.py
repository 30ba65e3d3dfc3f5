import numpy as np
import pytest
import torch

from hf_mlrpl import ensemble_scores

FIRST = np.array([[0.0, 2.0], [1.0, 4.0]])
SECOND = torch.tensor([[-1.0, 1.0], [0.0, -3.0]])


def test_each_matrix_is_brought_to_0_and_1_and_weighted():
    np.testing.assert_allclose(ensemble_scores(FIRST, SECOND, share=0.0), FIRST / 4)
    np.testing.assert_allclose(ensemble_scores(FIRST, SECOND, share=1.0), (SECOND.double() + 3) / 4)
    mean = ensemble_scores(FIRST, SECOND)
    np.testing.assert_allclose(mean, [[0.25, 0.75], [0.5, 0.5]])
    np.testing.assert_allclose(ensemble_scores(10 * FIRST - 7, SECOND), mean)


def test_with_given_limits_an_image_has_its_scores_alone():
    limits = (0.0, 4.0), (-3.0, 1.0)
    rows = [ensemble_scores(FIRST[i : i + 1], SECOND[i : i + 1], limits=limits) for i in range(2)]
    np.testing.assert_allclose(np.concatenate(rows), ensemble_scores(FIRST, SECOND))


@pytest.mark.parametrize(
    ("first", "second", "share", "message"),
    [
        (FIRST, SECOND[:1], 0.5, r"must both have the shape \(num_images, num_labels\), got \(2, 2\) and \(1, 2\)"),
        (FIRST, SECOND, 90, r"`share` must lie in \[0, 1\], got 90"),
        (np.ones((2, 2)), SECOND, 0.5, "finite and not all the same, but they lie between 1.0 and 1.0"),
        (np.full((2, 2), np.nan), SECOND, 0.5, "finite and not all the same"),
    ],
)
def test_what_makes_no_ensemble(first, second, share, message):
    with pytest.raises(ValueError, match=message):
        ensemble_scores(first, second, share)
