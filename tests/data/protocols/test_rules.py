"""The protocols: equal to the published splits, bit for bit."""

import hashlib
import re

import numpy as np
import pytest
from golden_files import cases, golden
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mlrpl.data.protocols.rules import PositiveFraction, RandomKnown, SinglePositive


def full_labels(case: str) -> np.ndarray:
    """The labels before hiding: of the sub-case itself, or else those of the whole file."""
    tensors = golden("partial_labels").tensors
    return tensors.get(f"{case}/in.labels", tensors.get("in.labels")).numpy()


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("partial_labels", "uniform."))
def test_random_known_is_the_published_split(case):
    observed = RandomKnown(float(case.removeprefix("uniform.p")))(full_labels(case))
    expected = golden("partial_labels").case(case)
    assert np.array_equal(observed, expected["out.labels"].numpy())
    assert np.count_nonzero(observed) == expected["out.known"].item()


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("partial_labels", "single_positive."))
def test_single_positive_is_the_published_split(case):
    observed = protocol_named(case)(full_labels(case))
    assert np.array_equal(observed, golden("partial_labels").case(case)["out.observed"].numpy())


def protocol_named(case: str) -> SinglePositive:
    """`single_positive.seed7_pos2_neg-1` names its settings; a sub-case that names none has the defaults."""
    settings = re.search(r"seed(\d+)_pos(-?\d+)_neg(-?\d+)", case)
    if settings is None:
        return SinglePositive()
    seed, positives, negatives = map(int, settings.groups())
    return SinglePositive(positives, negatives, seed)


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("partial_labels", "uniform/"))
def test_random_known_draws_the_published_numbers(case):
    draws = golden("partial_labels").case(case)["out64.first_draws"].numpy().reshape(-1)
    labels = np.ones((1, len(draws)), dtype=np.int8)
    for i, draw in enumerate(draws):
        assert RandomKnown(np.nextafter(draw, 1))(labels)[0, i] == 1, "known where the draw is below the proportion"
        assert RandomKnown(draw)(labels)[0, i] == 0, "unknown where the draw equals the proportion"


@pytest.mark.parametrize(
    ("shape", "proportion", "known", "empty_rows", "digest"),
    [
        ((5_011, 20), 0.1, 10_108, 533, None),
        ((5_011, 20), 0.5, 50_163, None, "eaf149bf815e9948"),
        ((5_011, 20), 0.9, 90_174, None, None),
        ((82_783, 80), 0.1, 662_191, 27, "cd1ca8f2708f7fdd"),
        ((82_783, 80), 0.9, 5_960_741, None, None),
        ((82_904, 200), 0.1, 1_659_060, 0, None),
    ],
)
def test_random_known_at_the_size_of_voc_coco_and_vg200(shape, proportion, known, empty_rows, digest):
    mask = RandomKnown(proportion)(np.ones(shape, dtype=np.int8)) == 1
    assert np.count_nonzero(mask) == known
    if empty_rows is not None:
        assert np.count_nonzero(~mask.any(axis=1)) == empty_rows
    if digest is not None:
        assert hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()[:16] == digest


def random_labels(num_images: int = 50, num_labels: int = 7) -> np.ndarray:
    return np.random.default_rng(3).choice(np.array([-1, 1], dtype=np.int8), size=(num_images, num_labels))


def test_random_known_masks_are_nested_and_one_hides_nothing():
    labels = random_labels()
    less, more = RandomKnown(0.3)(labels), RandomKnown(0.6)(labels)
    assert np.array_equal(more[less != 0], less[less != 0])
    assert np.array_equal(RandomKnown(1.0)(labels), labels)
    assert not np.array_equal(RandomKnown(0.3, seed=1)(labels), less)


@pytest.mark.parametrize(
    "protocol",
    [
        RandomKnown(0.5),
        SinglePositive(),
        SinglePositive(2, 3),
        PositiveFraction(0.5),
        PositiveFraction(0.5, exact=True),
    ],
)
def test_a_protocol_leaves_its_input_and_the_global_generator_alone(protocol):
    labels = random_labels()
    before, state = labels.copy(), np.random.get_state()
    observed = protocol(labels)
    assert observed.dtype == np.int8
    assert np.array_equal(labels, before)
    assert np.array_equal(observed, protocol(labels)), "the same seed hides the same labels"
    assert all(np.array_equal(a, b) for a, b in zip(state, np.random.get_state(), strict=True))
    assert np.array_equal(observed[observed != 0], labels[observed != 0])


def test_single_positive_counts():
    labels = random_labels()
    observed = SinglePositive(num_positives=2, num_negatives=-1)(labels)
    assert np.array_equal((observed == 1).sum(axis=1), np.minimum(2, (labels == 1).sum(axis=1)))
    assert np.array_equal(observed == -1, labels == -1)


@pytest.mark.parametrize("proportion", [2, 10, 100])
def test_random_known_explains_a_wrong_proportion(proportion):
    with pytest.raises(ValueError, match=r"`proportion` must lie in \(0, 1\].*Ten percent is 0.1"):
        RandomKnown(proportion)


def test_protocols_explain_other_wrong_arguments():
    with pytest.raises(ValueError, match=r"must be -1 \(absent\), 0 \(unknown\) or \+1"):
        RandomKnown(0.5)(np.full((2, 2), 3))


label_matrices = st.tuples(st.integers(1, 6), st.integers(1, 8)).flatmap(
    lambda shape: st.lists(st.sampled_from([-1, 1]), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]).map(
        lambda values: np.array(values, np.int8).reshape(shape)
    )
)


@settings(deadline=None)
@given(label_matrices, st.floats(0.01, 0.99), st.booleans(), st.integers(0, 5))
def test_positive_fraction_keeps_negatives_in_proportion_to_positives(labels, fraction, exact, seed):
    known = PositiveFraction(fraction, exact=exact, seed=seed)(labels)
    assert known.dtype == np.int8 and np.array_equal(known[known != 0], labels[known != 0])
    positives, negatives = (known == 1).sum(axis=1), (known == -1).sum(axis=1)
    available = (labels == -1).sum(axis=1)
    assert (negatives >= np.minimum(positives, available)).all()
    assert (negatives <= np.minimum(np.rint(1.5 * positives), available)).all()
    if exact:
        assert positives.sum() == round(fraction * (labels == 1).sum())


@settings(deadline=None)
@given(label_matrices, st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.booleans())
def test_positive_fraction_is_nested(labels, one, other, exact):
    less, more = (PositiveFraction(fraction, exact=exact)(labels) for fraction in sorted([one, other]))
    assert np.array_equal(more[less != 0], less[less != 0])


def test_positive_fraction_at_a_larger_size():
    draws = np.random.RandomState(7).random_sample((5_000, 40))  # not the seed of the protocol
    labels = np.where(draws < 0.3, 1, -1).astype(np.int8)
    known = PositiveFraction(0.5)(labels)
    assert abs((known == 1).sum() / (labels == 1).sum() - 0.5) < 0.01
    assert abs((known == -1).sum() / (known == 1).sum() - 1.25) < 0.01
    often = (known == -1).sum(axis=0)
    assert often.max() < 1.15 * often.min(), "each negative of an image is equally likely"
    fixed = PositiveFraction(0.5, negatives_per_positive=(2, 2))(labels)
    available = (labels == -1).sum(axis=1)
    assert np.array_equal((fixed == -1).sum(axis=1), np.minimum(2 * (fixed == 1).sum(axis=1), available))
    assert np.array_equal(PositiveFraction(1)(labels), labels)
    assert not np.array_equal(PositiveFraction(0.5, seed=1)(labels), known)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"fraction": 10}, "`fraction` must lie in (0, 1], got 10"),
        ({"fraction": 0.5, "negatives_per_positive": (2, 1)}, "must be the lowest and the highest ratio"),
        ({"fraction": 0.5, "negatives_per_positive": (1,)}, "must be the lowest and the highest ratio"),
        ({"fraction": 0.5, "negatives_per_positive": (-1, 1)}, "`negatives_per_positive` must lie in"),
    ],
)
def test_positive_fraction_explains_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        PositiveFraction(**settings)
