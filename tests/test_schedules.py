import math

import pytest

from hf_mlrpl.schedules import Progress, Ramp, StepDown, share_of_epochs


def at(epoch: float) -> Progress:
    return Progress(step=0, max_steps=100, epoch=epoch)


@pytest.mark.parametrize(
    "epoch, expected",
    [(0, math.inf), (4.99, math.inf), (5, 0.95), (5.5, 0.95), (6, 0.925), (12, 0.775), (13, 0.75), (19.9, 0.75)],
)
def test_the_threshold_of_sst(epoch, expected):
    assert StepDown()(at(epoch)) == pytest.approx(expected)


def test_a_threshold_that_stays():
    schedule = StepDown(start_epoch=0, first=0.8, decrement=0.0, floor=0.0)
    assert [schedule(at(epoch)) for epoch in (0, 7, 100)] == [0.8, 0.8, 0.8]


def test_a_floor_above_the_first_value_is_an_error():
    with pytest.raises(ValueError, match="`floor` must not lie above `first`, got 0.75 and 0.5"):
        StepDown(first=0.5)


@pytest.mark.parametrize("epoch, expected", [(0, 0), (0.25, 0.125), (1, 0.5), (2, 1), (5, 1)])
def test_a_ramp_rises_to_one(epoch, expected):
    assert Ramp(epochs=2)(at(epoch)) == expected


def test_a_ramp_of_no_epochs_is_one_at_once():
    assert Ramp(epochs=0)(at(0)) == 1


def test_progress_is_read_from_the_state_of_a_trainer():
    class State:
        global_step, max_steps, epoch, num_train_epochs = 7, 20, None, 3

    assert Progress.from_state(State()) == Progress(step=7, max_steps=20, epoch=0.0, num_epochs=3)


@pytest.mark.parametrize(
    "epoch, expected", [(0, (0, 0)), (1.9, (0, 0)), (2, (0, 0.125)), (3.5, (0.125, 0.25)), (9, (0.875, 1))]
)
def test_the_share_of_the_epochs_that_are_over_changes_between_epochs(epoch, expected):
    progress = Progress(step=0, max_steps=100, epoch=epoch, num_epochs=10)
    assert tuple(share_of_epochs(progress, start_epoch=2, ahead=ahead) for ahead in (0, 1)) == expected


def test_a_start_behind_the_last_epoch_is_never_reached():
    progress = Progress(step=0, max_steps=100, epoch=9.9, num_epochs=10)
    assert share_of_epochs(progress, start_epoch=10, ahead=1) == 0


def test_an_unknown_number_of_epochs_is_an_error():
    with pytest.raises(ValueError, match="make a `Progress` with `num_epochs`"):
        share_of_epochs(at(1.0))
