"""The pointing game, counted by hand."""

import numpy as np
import pytest

from hf_mlrpl.metrics.pointing import TOLERANCE, PointingGame

NAMES = ["dog", "cat", "bird"]
POINTS = np.array([[10.0, 5.0], [60.0, 80.0], [0.0, 0.0]])  # x, y


def play(boxes, labels, present=(True, True, True), points=POINTS, size=(100, 200)):
    game = PointingGame(NAMES)
    game.add(points, np.array(present), np.array(boxes, dtype=float), np.array(labels), size)
    return game


def test_a_point_inside_any_box_of_its_label_is_a_hit():
    game = play([[100, 50, 20, 20], [0, 0, 20, 20], [0, 0, 20, 20]], [0, 0, 1])  # dog far, dog near, cat far
    assert game.hits.tolist() == [1, 0, 0]
    assert game.trials.tolist() == [1, 1, 0]
    assert game.compute() == {"pointing": 50.0, "pointing_all": 50.0, "pointing_trials": 2}


@pytest.mark.parametrize(("axis", "side"), [(0, 200), (1, 100)])
@pytest.mark.parametrize(("part", "hits"), [(0.99, 1), (1.01, 0)])
def test_the_tolerance_is_a_part_of_each_side(axis, side, part, hits):
    box = np.array([50.0, 20, 30, 30])  # x, y, width, height
    for edge, sign in ((box[axis], -1), (box[axis] + box[2 + axis], 1)):
        point = np.array([65.0, 35.0])
        point[axis] = edge + sign * part * TOLERANCE * side
        assert play([box], [0], points=np.stack([point] * 3)).hits[0] == hits


def test_labels_that_are_absent_or_unknown_do_not_count():
    game = play([[0, 0, 20, 20]], [0], present=[False, True, True])
    with pytest.raises(ValueError, match="No photo has a box"):
        game.compute()


def test_labels_count_alike_and_photos_add_up():
    game = PointingGame(NAMES)
    for x in (10, 10, 100):
        points = np.array([[x, 5.0], [60.0, 80.0], [0.0, 0.0]])
        game.add(
            points, np.array([True, x == 100, False]), np.array([[0, 0, 20, 20.0], [55, 75, 9, 9]]), [0, 1], (100, 200)
        )
    assert game.compute() == pytest.approx(
        {"pointing": 100 * (2 / 3 + 1) / 2, "pointing_all": 75.0, "pointing_trials": 4}
    )
    game.add(np.zeros((3, 2)), np.ones(3, bool), np.zeros((0, 4)), [], (100, 200))  # a photo without boxes
    assert game.trials.sum() == 4
