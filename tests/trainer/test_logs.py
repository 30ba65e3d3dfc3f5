"""Means and counts of what an objective reports."""

import pytest
import torch

from hf_mlrpl.objective import ObjectiveOutput
from hf_mlrpl.trainer.logs import RunningMeans, completed_in_last_epoch

LABELS = torch.tensor([[1, 0, 0, -1]])
FULL_LABELS = torch.tensor([[1, 1, -1, -1]])
COMPLETED = torch.tensor([[1, 1, 1, -1]])


def logs_of(*outputs: ObjectiveOutput, full_labels: torch.Tensor | None = FULL_LABELS) -> dict[str, float]:
    means, logs = RunningMeans(), {"loss": 1.0}
    for output in outputs:
        means.add(output, LABELS, full_labels)
    means.move_to(logs)
    return logs


def test_terms_and_logs_are_means_over_their_steps_and_pseudo_labels_a_number():
    first = ObjectiveOutput(terms={"known": torch.tensor(1.0)}, logs={"threshold": 0.5})
    second = ObjectiveOutput(terms={"known": torch.tensor(3.0)}, pseudo_labels={"rule": COMPLETED})
    counts = {"pseudo_labels_rule": 4.0, "pseudo_precision_rule": 50.0}
    assert logs_of(first, second, second) == {"loss": 1.0, "loss_known": 7 / 3, "threshold": 0.5} | counts
    assert "pseudo_precision_rule" not in logs_of(second, full_labels=None)


@pytest.mark.parametrize("name", ["correct_rule", "correct_other", "pseudo_labels_other"])
def test_what_an_objective_logs_is_never_taken_for_a_count(name):
    output = ObjectiveOutput(logs={name: 0.5}, pseudo_labels={"rule": COMPLETED})
    logs = logs_of(output, output)
    assert logs[name] == 0.5 and logs["pseudo_labels_rule"] == 4 and logs["pseudo_precision_rule"] == 50


@pytest.mark.parametrize("name", ["loss", "pseudo_labels_rule"])
def test_a_name_that_is_taken_is_an_error(name):
    with pytest.raises(ValueError, match=f"logs `{name}`, which is the name of another number"):
        logs_of(ObjectiveOutput(logs={name: 0.5}, pseudo_labels={"rule": COMPLETED}))


def test_sums_begin_anew_after_each_log():
    means, logs = RunningMeans(), {}
    means.move_to(logs)
    assert logs == {}
    for value in (1.0, 5.0):
        means.add(ObjectiveOutput(logs={"threshold": value}), LABELS, None)
        logs = {}
        means.move_to(logs)
        assert logs == {"threshold": value}


def test_pseudo_labels_are_those_of_the_whole_last_epoch():
    def entry(epoch: float, **numbers: float) -> dict[str, float]:
        return {"epoch": epoch} | {f"pseudo_{name}_rule": number for name, number in numbers.items()}

    history = [entry(1.0, labels=7.0, precision=10.0), entry(1.5, labels=30.0, precision=50.0)]
    history += [entry(1.8, labels=0.0), entry(2.0, labels=10.0, precision=90.0), {"epoch": 2.0, "eval_map": 30.0}]
    assert completed_in_last_epoch(history) == {"pseudo_labels_rule": 40.0, "pseudo_precision_rule": 60.0}
    assert completed_in_last_epoch([entry(0.5, labels=0.0)]) == {"pseudo_labels_rule": 0.0}
    assert completed_in_last_epoch([]) == {}
