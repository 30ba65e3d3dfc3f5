import numpy as np
import pytest

from hf_mlrpl.review.choice import Sizes, choose_questions
from hf_mlrpl.review.questions import ask_next, uniform_sample, usefulness
from hf_mlrpl.review.suspects import find_suspects


def problem(num_images: int = 300, num_labels: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores that tell present from absent, labels of which a third are unknown, and which of them are flipped."""
    random = np.random.RandomState(0)
    truth = random.choice([-1, 1], size=(num_images, num_labels))
    scores = 1 / (1 + np.exp(-3 * truth + random.randn(num_images, num_labels)))
    flipped = random.rand(num_images, num_labels) < 0.05
    labels = np.where(flipped, -truth, truth)
    unknown = random.rand(num_images, num_labels) < 0.33
    labels[unknown], flipped[unknown] = 0, False
    return scores.astype(np.float32), labels.astype(np.int8), flipped


def test_flipped_labels_are_suspects_and_unknown_ones_never():
    scores, labels, flipped = problem()
    found = find_suspects(scores, labels)
    assert flipped[found.rows, found.columns].mean() > 0.9 and len(found) > 0.8 * flipped.sum()
    assert (labels[found.rows, found.columns] != 0).all() and found.not_judged == []
    given = labels[found.rows, found.columns] == 1
    score = scores[found.rows, found.columns]
    assert found.quality == pytest.approx(np.where(given, score, 1 - score))
    assert (np.diff(found.quality) >= 0).all(), "the worst first"


def test_what_is_unknown_changes_no_suspect():
    scores, labels, _ = problem()
    other = np.where(labels == 0, 1 - scores, scores)
    assert (find_suspects(other, labels).rows == find_suspects(scores, labels).rows).all()


def test_suspects_are_only_of_the_images_that_are_judged():
    scores, labels, _ = problem()
    judged = np.arange(len(labels)) % 2 == 0
    found, alone = find_suspects(scores, labels, images=judged), find_suspects(scores[::2], labels[::2])
    assert (found.rows == 2 * alone.rows).all() and len(found)
    assert len(find_suspects(scores, labels, images=judged, count=3)) == 3
    assert len(find_suspects(scores, labels, images=np.zeros(len(labels), bool))) == 0


def test_labels_of_one_kind_cannot_be_judged():
    scores, labels, _ = problem()
    labels[:, 1] = np.maximum(labels[:, 1], 0)
    labels[:, 2] = 0
    found = find_suspects(scores, labels)
    assert found.not_judged == [1] and set(found.columns) == {0, 3}


def test_what_is_uncertain_and_rare_is_asked_first():
    scores = np.array([[0.5, 0.9], [0.1, 0.5], [0.5, 0.5]])
    labels = np.array([[0, 0], [0, 0], [1, 0]])
    rows, columns, values = ask_next(scores, labels, 10)
    assert list(zip(rows, columns, strict=True)) == [(1, 1), (2, 1), (0, 0), (0, 1), (1, 0)]
    assert values[0] == 1 and values[2] == pytest.approx(1 / np.sqrt(2))


@pytest.mark.parametrize("count, per_image", [(50, 1), (50, 2), (10_000, 4), (0, 3), (50, 9)])
def test_ask_next_against_a_slow_search(count, per_image):
    scores, labels, _ = problem()
    values = usefulness(scores, labels)
    found, of_image = [], np.zeros(len(labels), int)
    for place in sorted(np.ndindex(labels.shape), key=lambda place: -values[place]):
        if labels[place] == 0 and of_image[place[0]] < per_image and len(found) < count:
            found.append(values[place])
            of_image[place[0]] += 1
    rows, columns, best = ask_next(scores, labels, count, per_image=per_image)
    assert best == pytest.approx(found) and (labels[rows, columns] == 0).all()
    assert len(set(zip(rows, columns, strict=True))) == len(rows)
    assert np.bincount(rows, minlength=1).max() <= per_image


def test_a_sample_is_uniform_over_unknown_labels():
    labels = np.array([[0, 1, 0], [-1, 0, 0]])
    drawn = np.zeros(labels.shape)
    for seed in range(400):
        drawn[uniform_sample(labels, 2, seed=seed)] += 1
    assert (drawn[labels != 0] == 0).all() and drawn[labels == 0] == pytest.approx(200, abs=40)
    assert len(uniform_sample(labels, 9)[0]) == 4


def test_reasons_are_joined_where_a_label_is_chosen_twice():
    scores, labels, _ = problem(40, 2)
    choice = choose_questions(scores, labels, np.ones(40, bool), Sizes(suspects=2, ask=1000, sample=1000, per_photo=2))
    unknown = int((labels == 0).sum())
    assert choice.count("ask") == choice.count("sample") == unknown and choice.count("suspect") == 2
    assert list(choice.reasons.values()) == ["suspect"] * 2 + ["ask, sample"] * unknown


@pytest.mark.parametrize("wrong", [{"ask": -1}, {"per_photo": 0}, {"suspects": -2}])
def test_sizes_have_ranges(wrong):
    with pytest.raises(ValueError, match="must be at least"):
        Sizes(**wrong)
