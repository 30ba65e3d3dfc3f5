import logging
import re
import tracemalloc
from importlib import import_module

import numpy as np
import pytest
import torch
from golden_files import assert_close, cases, golden, sub_cases
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score

from hf_mlrpl import metrics
from hf_mlrpl.metrics import average_precision, mean_over_labels, multi_label_metrics, precision_recall_f1

BLOCKS = import_module("hf_mlrpl.metrics.average_precision")  # the function has the name of its module

# Golden numbers that the reference computed in float32.
FLOAT32 = re.compile(r"hcp_ap_per_class|averageAP|threshold_(?!mAP)")
# Golden numbers that depend on how a sort breaks ties; the reference used the sort of the machine.
BY_LABEL = re.compile(
    r"(hcp_ap|hcp_ap_voc2012|asl_ap)_per_class|averageAP|mAP_voc2012|asl_mAP|scpnet_mAP|threshold_mAP"
)
BY_IMAGE = re.compile(r"spml_(prec|rec|precision|recall)_at_(\d+)|spml_top_(\d+)|(OP|OR|OF1|CP|CR|CF1)_top(\d+)")


def library_labels(targets: torch.Tensor) -> np.ndarray:
    """The golden targets, 1 present, 0 absent, -1 unknown, in our alphabet."""
    targets = targets.numpy()
    return np.select([targets == 1, targets == 0], [1, -1], 0).astype(np.int8)


def recompute(name: str, scores: np.ndarray, labels: np.ndarray):
    """The number `name` of the golden file with this library."""

    def per_label(**kwargs):
        return average_precision(scores, labels, **kwargs)

    def mean(empty, **kwargs):
        return mean_over_labels(per_label(**kwargs), empty)

    if match := re.fullmatch(r"spml_(precision|recall|prec|rec)_at_(\d+)", name):
        at_k = metrics.precision_at_k if match[1].startswith("prec") else metrics.recall_at_k
        values = at_k(scores, labels, int(match[2]))
        return values if match[1] in ("precision", "recall") else values.mean()
    if match := re.fullmatch(r"spml_top_(\d+)", name):
        return metrics.hit_at_k(scores, labels, int(match[1])).mean()
    if match := re.fullmatch(r"threshold_([PRF]_[CO])", name):
        return 100 * metrics.macro_f1(scores, labels)[match[1].lower()]
    if match := re.fullmatch(r"(OP|OR|OF1|CP|CR|CF1)(?:_top(\d+))?", name):
        top_k = int(match[2]) if match[2] else None
        return precision_recall_f1(scores, labels, top_k=top_k, ref_op=True, empty="nan")[match[1].lower()]
    partial = metrics.partial_average_precision(scores, labels)
    return {
        "hcp_ap_per_class": lambda: per_label(ties="order"),
        "hcp_ap_voc2012_per_class": lambda: per_label(form="interpolated", ties="order"),
        "asl_ap_per_class": lambda: np.nan_to_num(per_label(form="eps", ties="order")),
        "sklearn_ap_per_class": lambda: np.nan_to_num(per_label()),
        "averageAP": lambda: mean("nan", ties="order"),
        "mAP_voc2012": lambda: mean("nan", form="interpolated", ties="order"),
        "asl_mAP": lambda: 100 * mean("zero", form="eps", ties="order"),
        "scpnet_mAP": lambda: 100 * mean("zero", form="eps", ties="order"),
        "threshold_mAP": lambda: 100 * mean("zero", form="eps", ties="order"),
        "largeloss_map": lambda: 100 * mean("zero"),
        "spml_map": lambda: 100 * mean("zero"),
        "ap_tie_lower_bound": lambda: average_precision(
            *arranged(scores, labels, positives_first=False), ties="order"
        ),
        "ap_tie_upper_bound": lambda: average_precision(*arranged(scores, labels, positives_first=True), ties="order"),
        "ap_per_class": lambda: np.nan_to_num(partial.per_label, nan=-1),
        "map": lambda: 100 * partial.map,
        "map_macro": lambda: 100 * partial.map_macro,
        "no_labels": lambda: partial.no_labels,
        "no_positives": lambda: partial.no_positives,
        "no_negatives": lambda: partial.no_negatives,
    }[name]()


def arranged(scores, labels, positives_first: bool):
    """Every column sorted so that a stable ranking puts its positives before, or behind, all others in a tie."""
    order = np.argsort(-labels if positives_first else labels, axis=0, kind="stable")
    return np.take_along_axis(scores, order, axis=0), np.take_along_axis(labels, order, axis=0)


def image_bounds(name: str, scores: np.ndarray, labels: np.ndarray):
    """Smallest and largest value of a top-k number over all ways to break ties; equal if there are none."""
    k = int(re.search(r"(\d+)$", name)[1])
    positive = labels == 1
    # (N, C): some way to break ties puts the label among the k largest; every way does
    possible = (scores[:, None, :] > scores[:, :, None]).sum(axis=2) < k
    sure = (scores[:, None, :] >= scores[:, :, None]).sum(axis=2) <= k
    if not name.startswith("spml"):
        key, predicted = name.partition("_")[0], scores >= 0
        low = set_metrics(sure & positive & predicted, possible & ~positive & predicted, positive)[key]
        return low, set_metrics(possible & positive & predicted, sure & ~positive & predicted, positive)[key]
    picks = min(k, scores.shape[1])
    low = np.maximum((sure & positive).sum(axis=1), picks - (possible & ~positive).sum(axis=1))
    high = np.minimum((possible & positive).sum(axis=1), picks)
    if "top" in name:
        return (low > 0).mean(), (high > 0).mean()
    over = k if "prec" in name else np.maximum(positive.sum(axis=1), 1)
    low, high = low / over, high / over
    return (low, high) if "precision" in name or "recall" in name else (low.mean(), high.mean())


def set_metrics(correct, wrong, positive) -> dict[str, float]:
    """OP to CF1 with the reference's rule for labels without predictions, written independently of the library."""
    hits, predictions, truth = correct.sum(axis=0), (correct | wrong).sum(axis=0).clip(min=1), positive.sum(axis=0)
    overall = hits.sum() / predictions.sum(), hits.sum() / truth.sum()
    recalls = [h / t if t else np.nan for h, t in zip(hits, truth, strict=True)]
    per_label = (hits / predictions).mean(), np.mean(recalls)
    of1, cf1 = (2 * p * r / (p + r) if p + r else 0.0 for p, r in (overall, per_label))
    return {"OP": overall[0], "OR": overall[1], "OF1": of1, "CP": per_label[0], "CR": per_label[1], "CF1": cf1}


def tie_bounds(name: str, scores: np.ndarray, labels: np.ndarray):
    """Bounds of a number that depends on ties, `None` for all others and where no tie matters."""
    if BY_LABEL.fullmatch(name):
        low, high = (recompute(name, *arranged(scores, labels, first)) for first in (False, True))
    elif BY_IMAGE.fullmatch(name):
        low, high = image_bounds(name, scores, labels)
    else:
        return None
    return None if np.allclose(low, high, rtol=1e-12, atol=0, equal_nan=True) else (low, high)


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("metrics"))
def test_golden(case):
    tensors = golden("metrics").case(case)
    scores, labels = tensors["in.scores"].numpy(), library_labels(tensors["in.targets"])
    names = [name for name in tensors if name.startswith("out")]
    assert names
    for full_name in names:
        name, expected = full_name.partition(".")[2], tensors[full_name].double()
        actual = torch.as_tensor(recompute(name, scores, labels), dtype=torch.float64)
        bounds = tie_bounds(name, scores, labels)
        what = f"metrics {case}/{full_name}"
        if bounds is None:
            assert_close(actual, expected, torch.float32 if FLOAT32.search(name) else torch.float64, what)
            continue
        low, high = (torch.as_tensor(bound, dtype=torch.float64) for bound in bounds)
        slack = 1e-5 * high.nan_to_num().max()  # part of the reference ran in float32
        for value in (actual, expected):
            assert value.shape == low.shape, what
            between = (low - slack <= value) & (value <= high + slack) | (value.isnan() & low.isnan())
            assert between.all(), f"{what}: {value} not in {bounds}"


@pytest.mark.golden
def test_golden_reads_every_output():
    file = golden("metrics")
    outputs = {name for name in file.tensors if name.rpartition("/")[2].startswith(("out.", "out64.", "grad."))}
    assert outputs
    assert outputs == {name for case in sub_cases("metrics") for name in file.outputs(case)}
    assert all("in.scores" in file.case(case) and "in.targets" in file.case(case) for case in sub_cases("metrics"))


SCORES = np.array(
    [
        [1.624, -0.612, -0.528],
        [-1.073, 0.865, -2.302],
        [1.745, -0.761, 0.319],
        [-0.249, 1.462, -2.060],
        [-0.322, -0.384, 1.134],
        [-1.100, -0.172, -0.878],
        [0.042, 0.583, -1.101],
        [1.145, 0.902, 0.502],
    ]
)
LABELS = 2 * np.array([[1, 0, 1], [0, 1, 0], [1, 0, 0], [1, 1, 1], [1, 0, 1], [1, 0, 1], [0, 1, 0], [0, 1, 0]]) - 1


def test_published_values_on_a_small_table():
    assert metrics.mean_average_precision(SCORES, LABELS, form="interpolated") == pytest.approx(0.828175, abs=1e-6)
    assert average_precision(SCORES, LABELS) == pytest.approx([0.778333, 1.0, 0.667857], abs=1e-6)
    assert metrics.mean_average_precision(SCORES, LABELS, form="eps") == pytest.approx(0.815397, abs=1e-6)
    expected = {"op": 0.636364, "or": 0.538462, "of1": 0.583333, "cp": 0.611111, "cr": 0.55, "cf1": 0.578947}
    assert precision_recall_f1(SCORES, LABELS) == pytest.approx(expected, abs=1e-6)
    expected = {"op": 0.7, "or": 0.538462, "of1": 0.608696, "cp": 0.666667, "cr": 0.55, "cf1": 0.60274}
    assert precision_recall_f1(SCORES, LABELS, top_k=2) == pytest.approx(expected, abs=1e-6)


def test_all_metrics_are_percent_and_take_tensors():
    result = multi_label_metrics(torch.tensor(SCORES).bfloat16().requires_grad_(), torch.tensor(LABELS))
    assert result["labels_without_positives"] == 0
    assert result == pytest.approx(
        multi_label_metrics(torch.tensor(SCORES).bfloat16().double(), LABELS.astype(np.int8))
    )
    exact = multi_label_metrics(SCORES, LABELS)
    assert exact["map"] == pytest.approx(81.5397, abs=1e-4)
    assert exact["map_interpolated"] == pytest.approx(82.8175, abs=1e-4)
    assert exact["cf1"] == pytest.approx(57.8947, abs=1e-4)
    assert exact["op_top3"] == pytest.approx(63.6364, abs=1e-4)  # three labels: all are among the top 3


def random_problem(num_images=200, num_labels=12, unknown=0.4, ties=True, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random((num_images, num_labels)) < 0.3, 1, -1)
    scores = rng.normal(size=labels.shape) + 0.7 * labels
    labels[rng.random(labels.shape) < unknown] = 0
    return (scores.round(1) if ties else scores), labels.astype(np.int8)


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("unknown", [0.0, 0.4])
def test_average_precision_equals_scikit_learn_on_known_entries(ties, unknown):
    scores, labels = random_problem(ties=ties, unknown=unknown)
    for label, value in enumerate(average_precision(scores, labels)):
        known = labels[:, label] != 0
        expected = average_precision_score(labels[known, label] == 1, scores[known, label])
        assert value == pytest.approx(expected, rel=1e-12)


def test_interpolated_precision_is_the_area_of_voc2012():
    scores, labels = random_problem(ties=False)
    for label, value in enumerate(average_precision(scores, labels, form="interpolated")):
        known = labels[:, label] != 0
        positive = labels[known, label][np.argsort(-scores[known, label])] == 1
        recall = np.concatenate([[0], np.cumsum(positive) / positive.sum(), [1]])
        precision = np.concatenate([[0], np.cumsum(positive) / np.arange(1, len(positive) + 1), [0]])
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        assert value == pytest.approx(np.sum(np.diff(recall) * envelope[1:]), rel=1e-12)


def test_ties_in_the_order_of_the_rows():
    labels = np.array([[1], [-1]])
    assert average_precision(np.zeros((2, 1)), labels, ties="order") == [1.0]
    assert average_precision(np.zeros((2, 1)), labels[::-1], ties="order") == [0.5]
    assert average_precision(np.zeros((2, 1)), labels) == average_precision(np.zeros((2, 1)), labels[::-1]) == [0.5]


def test_rules_for_labels_without_positives():
    scores = np.array([[2.0, 1.0], [-1.0, -2.0]])
    labels = np.array([[1, -1], [-1, -1]])
    assert multi_label_metrics(scores, labels)["map"] == 100
    assert multi_label_metrics(scores, labels)["cr"] == 100
    assert multi_label_metrics(scores, labels)["cp"] == 50  # the wrong prediction of the second label counts
    assert multi_label_metrics(scores, labels)["labels_without_positives"] == 1
    assert multi_label_metrics(scores, labels, empty="zero")["map"] == 50
    assert np.isnan(multi_label_metrics(scores, labels, empty="nan")["map"])


def test_labels_without_positives_are_named(caplog):
    logging.Logger.warning_once.cache_clear()  # each message is shown once in a process
    multi_label_metrics([[1.0, 1.0], [0.0, 0.0]], np.array([[1, -1], [-1, -1]]), ["cat", "unicorn"])
    assert "unicorn" in caplog.text and "cat" not in caplog.text


def test_labels_of_zeros_and_ones_are_refused():
    with pytest.raises(ValueError, match="need their zeros turned into -1"):
        multi_label_metrics([[1.0, 1.0], [0.0, 0.0]], np.array([[1, 0], [0, 1]]))


def test_a_label_without_known_negatives_does_not_count(caplog):
    """Any order of the images ranks it right."""
    scores, labels = np.array([[2.0, -2.0], [1.0, 3.0], [0.3, -1.0]]), np.array([[1, 1], [1, -1], [1, -1]])
    result = multi_label_metrics(scores, labels, ["cat", "dog"])
    assert result["map"] == pytest.approx(100 / 3) == result["map_interpolated"]
    assert (result["labels_without_negatives"], result["labels_without_positives"]) == (1, 0)
    assert "no known negative in the evaluated images (left out of the mAP): cat" in caplog.text
    assert np.isnan(average_precision(scores, labels)).tolist() == [True, False]
    for empty in ("zero", "nan"):
        assert multi_label_metrics(scores, labels, empty=empty)["map"] == pytest.approx(100 / 3)


@pytest.mark.parametrize("labels", [[[1, 0], [1, 0]], [[1, -1], [1, -1]], [[1, 1], [0, 1]]])
def test_nothing_to_measure(labels):
    with pytest.raises(ValueError, match="no average precision is defined"):
        multi_label_metrics(np.zeros((2, 2)), np.array(labels))


def test_a_label_without_predictions_counts_one_in_the_published_op_only():
    logits, labels = np.array([[1.0, -1.0], [1.0, -1.0]]), np.array([[1, 1], [1, -1]])
    assert precision_recall_f1(logits, labels)["op"] == 1
    assert precision_recall_f1(logits, labels, ref_op=True)["op"] == pytest.approx(2 / 3)


def test_top_k_with_and_without_threshold():
    logits, labels = np.array([[3.0, -1.0, -2.0, -3.0]]), np.array([[1, 1, -1, -1]])
    assert precision_recall_f1(logits, labels, top_k=2)["or"] == 0.5
    assert precision_recall_f1(logits, labels, top_k=2, threshold=None)["or"] == 1
    assert precision_recall_f1(logits, labels, top_k=9, threshold=None)["op"] == 0.5
    with pytest.raises(ValueError, match="`threshold` and `top_k`"):
        precision_recall_f1(logits, labels, threshold=None)
    with pytest.raises(ValueError, match="at least 1"):
        precision_recall_f1(logits, labels, top_k=0)


def test_chosen_thresholds_are_the_best_of_all_scores():
    scores, labels = random_problem(num_images=60, num_labels=5)
    labels[:, 3] = np.minimum(labels[:, 3], 0)  # no positives
    thresholds = metrics.choose_thresholds(scores, labels)
    chosen = metrics.f1_at_thresholds(scores, labels, thresholds)
    for label in (0, 1, 2, 4):
        candidates = np.unique(scores[:, label])
        f1 = np.array([metrics.f1_at_thresholds(scores, labels, t)[label] for t in candidates])
        assert chosen[label] == f1.max()
        assert thresholds[label] == candidates[f1 == f1.max()].max()
    assert thresholds[3] == 0.5 and np.isnan(chosen[3])
    assert metrics.mean_f1(scores, labels, thresholds) == pytest.approx(np.nanmean(chosen))
    assert metrics.mean_f1(scores, labels, thresholds, empty="zero") == pytest.approx(np.nansum(chosen) / 5)
    with pytest.raises(ValueError, match="`thresholds` must"):
        metrics.f1_at_thresholds(scores, labels, thresholds[:2])


def test_reported_mean_f1():
    """At the given scores, in percent; a threshold belongs to the score of a logit, not to the logit."""
    logits, labels = random_problem(num_images=40, num_labels=4)
    scores = torch.from_numpy(logits).sigmoid().numpy()
    thresholds = metrics.choose_thresholds(scores, labels)
    reported = multi_label_metrics(logits, labels, thresholds=thresholds)
    assert reported["mean_f1_chosen"] == pytest.approx(100 * metrics.mean_f1(scores, labels, thresholds), abs=1e-9)
    assert reported["mean_f1_chosen"] > reported["mean_f1"] == multi_label_metrics(logits, labels)["mean_f1"]
    assert multi_label_metrics(logits, labels, thresholds=1)["mean_f1_chosen"] == 0


def test_metrics_at_chosen_thresholds_are_named_so():
    logits, labels = random_problem(num_images=40, num_labels=4)
    plain, low = multi_label_metrics(logits, labels), multi_label_metrics(logits, labels, thresholds=0.25)
    assert not [name for name in plain if name.endswith("_chosen")]
    assert {name: low[name] for name in plain} == plain
    expected = metrics.precision_recall_f1(logits, labels, threshold=np.log(0.25 / 0.75))
    assert {name: low[f"{name}_chosen"] for name in expected} == pytest.approx(
        {name: 100 * value for name, value in expected.items()}
    )


def test_average_over_proportions():
    assert metrics.average_over_proportions({0.1: 60.0, 0.2: 70.0}) == 65
    with pytest.raises(ValueError, match="at least one proportion"):
        metrics.average_over_proportions({})


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.zeros((2, 3)), np.ones((2, 2)), "same|both have the shape"),
        (np.zeros(3), np.ones(3), "both have the shape"),
        (np.zeros((0, 3)), np.ones((0, 3)), "at least one image"),
        (np.zeros((2, 2)), np.array([[1, 2], [1, -1]]), "row 0, column 1"),
        (np.zeros((2, 2)), np.array([[1, 0.5], [1, -1]]), "soft labels"),
        (np.zeros((2, 2)), np.array([[1, np.nan], [1, -1]]), "row 0, column 1"),
        (np.array([[0, 0], [np.nan, 0]]), np.ones((2, 2)), "finite, got nan in row 1, column 0"),
        (np.array([[0, 0], [0, np.inf]]), np.ones((2, 2)), "finite, got inf in row 1, column 1"),
        (np.zeros((2, 2)), np.zeros((2, 2)), "known positive"),
        (np.zeros((2, 2)), -np.ones((2, 2)), "known positive"),
    ],
)
def test_bad_input(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        multi_label_metrics(scores, labels)


def test_bad_choices():
    with pytest.raises(ValueError, match="`form` must be one of 'mean_precision'"):
        average_precision(SCORES, LABELS, form="voc")
    with pytest.raises(ValueError, match="`ties` must"):
        average_precision(SCORES, LABELS, ties="random")
    with pytest.raises(ValueError, match="`empty` must"):
        multi_label_metrics(SCORES, LABELS, empty="ignore")
    with pytest.raises(ValueError, match="`names` must hold 3 names"):
        multi_label_metrics(SCORES, LABELS, ["cat"])


@st.composite
def problems(draw):
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 5)))
    scores = draw(hnp.arrays(np.float32, shape, elements=st.integers(-3, 3).map(float)))  # many ties
    return scores, draw(hnp.arrays(np.int8, shape, elements=st.sampled_from([-1, 0, 1])))


def measurable(labels: np.ndarray) -> np.ndarray:
    """Booleans of the labels with a known positive and a known negative."""
    return (labels == 1).any(axis=0) & (labels == -1).any(axis=0)


@settings(deadline=None, max_examples=60)
@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_the_images_never_matters(problem, random):
    scores, labels = problem
    assume(measurable(labels).any())
    order = random.sample(range(len(scores)), len(scores))
    assert multi_label_metrics(scores, labels) == pytest.approx(multi_label_metrics(scores[order], labels[order]))


@settings(deadline=None, max_examples=60)
@given(problems())
def test_chosen_thresholds_are_those_of_a_search_through_all_scores(problem):
    scores, labels = problem
    for label, chosen in enumerate(metrics.choose_thresholds(scores, labels)):
        known, score = labels[:, label], scores[:, label]
        best = (-1.0, 0.5) if (known == 1).any() else (1.0, 0.5)  # F1 and threshold: the highest wins a tie
        for threshold in np.unique(score) if (known == 1).any() else []:
            correct = sum((known == 1) & (score >= threshold))
            wrong = sum((known == -1) & (score >= threshold))
            best = max(best, (2 * correct / (correct + wrong + sum(known == 1)), threshold))
        assert chosen == best[1]


def test_a_large_table_goes_in_blocks_with_the_same_result(monkeypatch):
    generator = np.random.default_rng(0)
    scores = generator.standard_normal((37, 7)).astype(np.float32).round(1)
    labels = generator.integers(-1, 2, scores.shape, dtype=np.int8)
    expected = multi_label_metrics(scores, labels), metrics.choose_thresholds(scores, labels).tolist()
    monkeypatch.setattr(BLOCKS, "_ENTRIES_PER_BLOCK", 30)
    monkeypatch.setattr(BLOCKS, "_LABELS_PER_BLOCK", 3)
    assert (multi_label_metrics(scores, labels), metrics.choose_thresholds(scores, labels).tolist()) == expected


def test_a_large_table_needs_little_more_memory_than_itself():
    scores = np.random.default_rng(0).standard_normal((2**15, 128), dtype=np.float32)  # 16 MiB
    labels = np.where(scores > 2, 1, -1).astype(np.int8)
    tracemalloc.start()
    multi_label_metrics(scores, labels)
    assert tracemalloc.get_traced_memory()[1] < 15 * 2**20
    tracemalloc.stop()


@settings(deadline=None, max_examples=60)
@given(problems())
def test_every_number_is_a_percentage(problem):
    scores, labels = problem
    assume(measurable(labels).any())
    result = multi_label_metrics(scores, labels)
    assert all(0 <= value <= 100 + 1e-9 for name, value in result.items() if not name.startswith("labels_without"))
    assert result["map_interpolated"] >= result["map"] - 1e-9
    assert result["labels_without_positives"] == (~(labels == 1).any(axis=0)).sum()


@settings(deadline=None, max_examples=60)
@given(problems(), st.integers(0, 4))
def test_unknown_entries_never_matter(problem, seed):
    scores, labels = problem
    assume(measurable(labels).any())
    extra_rows = np.zeros((2, labels.shape[1]), dtype=np.int8)
    extra_scores = np.random.default_rng(seed).normal(size=extra_rows.shape).astype(np.float32)
    longer = np.concatenate([scores, extra_scores]), np.concatenate([labels, extra_rows])
    assert multi_label_metrics(*longer) == pytest.approx(multi_label_metrics(scores, labels))


@settings(deadline=None, max_examples=40)
@given(problems())
def test_a_label_without_positives_leaves_the_others_alone(problem):
    scores, labels = problem
    assume(measurable(labels).any())
    more = np.concatenate([scores, np.zeros((len(scores), 1), np.float32)], axis=1)
    more_labels = np.concatenate([labels, -np.ones((len(labels), 1), np.int8)], axis=1)
    before, after = multi_label_metrics(scores, labels), multi_label_metrics(more, more_labels)
    for name in ("map", "map_interpolated", "cr", "or"):
        assert after[name] == pytest.approx(before[name])
    assert after["labels_without_positives"] == before["labels_without_positives"] + 1


def test_partial_average_precision_of_unusable_labels():
    result = metrics.partial_average_precision(np.zeros((2, 3)), np.array([[1, -1, 0], [1, -1, 0]]))
    assert np.isnan(result.map) and np.isnan(result.map_macro) and np.isnan(result.per_label).all()
    assert (result.no_negatives, result.no_positives, result.no_labels) == (1, 1, 1)


def test_evaluate_module_works_offline(tmp_path, monkeypatch):
    import evaluate
    from evaluate import config

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(config, "HF_MODULES_CACHE", str(tmp_path))
    expected = multi_label_metrics(SCORES.astype(np.float32), LABELS)
    for metric in (metrics.load_metric(), evaluate.load(str(metrics.METRIC_PATH), keep_in_memory=True)):
        assert metric.compute(predictions=SCORES, references=LABELS) == pytest.approx(expected)
        for row, labels in zip(SCORES, LABELS, strict=True):
            metric.add(prediction=row, reference=labels)
        assert metric.compute() == pytest.approx(expected)
