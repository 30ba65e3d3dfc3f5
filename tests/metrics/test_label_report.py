import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from hf_mlrpl.metrics.label_report import label_report

NAMES = ["a", "b", "c", "d"]


def problem() -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels; "c" has no known positive, "d" no known negative."""
    random = np.random.RandomState(3)
    labels = random.choice([-1, 0, 1], size=(80, 4))
    labels[:, 2] = np.minimum(labels[:, 2], 0)
    labels[:, 3] = np.maximum(labels[:, 3], 0)
    return random.randn(80, 4) + labels * [[2, 0.2, 1, 1]], labels


def test_results_are_those_of_scikit_learn_over_known_labels():
    logits, labels = problem()
    thresholds = np.array([0.4, 0.6, 0.5, 0.5])
    report = label_report(logits, labels, NAMES, thresholds=thresholds)
    for i in (0, 1):
        known = labels[:, i] != 0
        truth, scores = labels[known, i] == 1, 1 / (1 + np.exp(-logits[known, i]))
        expected = [average_precision_score(truth, scores)]
        expected += precision_recall_fscore_support(truth, scores >= thresholds[i], average="binary")[:3]
        result = report.results[i]
        found = [result.average_precision, result.precision, result.recall, result.f1]
        assert found == pytest.approx([100 * value for value in expected])
        assert (result.positives, result.negatives, result.unknown) == (truth.sum(), (~truth).sum(), (~known).sum())
        assert result.threshold == thresholds[i]


def test_what_is_not_defined_is_none_and_said():
    report = label_report(*problem(), NAMES)
    no_positive, no_negative = report.results[2:]
    assert (no_positive.average_precision, no_positive.recall, no_positive.f1) == (None, None, None)
    assert no_positive.precision == 0 and no_negative.average_precision is None and no_negative.recall > 0
    assert report.warnings == [
        "1 label(s) have no known positive, so they have no average precision: c.",
        "1 label(s) have no known negative, so they have no average precision: d.",
    ]
    assert label_report(*problem(), NAMES, thresholds=1.0).results[0].precision is None, "nothing is predicted"


def test_the_worst_label_comes_first_and_those_without_a_number_last():
    assert [result.label for result in label_report(*problem(), NAMES).worst_first] == ["b", "a", "c", "d"]


def test_mistakes():
    with pytest.raises(ValueError, match="`names` must hold 4 names"):
        label_report(*problem(), ["a"])
    with pytest.raises(ValueError, match="`thresholds` must be a number or"):
        label_report(*problem(), NAMES, thresholds=[0.5])
