import math

import pytest
import torch
from golden_files import cases, golden, sub_cases
from golden_models import check_case, leaf
from test_asl import DTYPES, LOGITS
from tiny import GivenLogits, loss_of_logits, tiny_images

from hf_mlrpl.methods import large_loss as module
from hf_mlrpl.methods.large_loss import LargeLossObjective, LargeLossObjectiveConfig, large_loss
from hf_mlrpl.schedules import Progress

NAME = "losses_large_loss"
PUBLISHED_BUG = "LL-Cp_from_command_line"  # runs as LL-Ct


def _scheme_and_epoch(case: str) -> tuple[str, int]:
    """The scheme, and the epoch counted from 1."""
    name, _, epoch = case.partition("/epoch")
    return name, int(epoch)


def _schedule(case: str) -> dict:
    name, epoch = _scheme_and_epoch(case)
    return next(entry for entry in golden(NAME).hparams["schedule"][name] if entry["epoch"] == epoch)


@pytest.mark.golden
@pytest.mark.parametrize("case", cases(NAME, "LL"))
def test_loss_and_corrections_match_published_code(case):
    name, epoch = _scheme_and_epoch(case)
    scheme = "LL-Ct" if name == PUBLISHED_BUG else name
    for dtype in DTYPES:
        logits = leaf(golden(NAME).tensors[f"in.logits_epoch{epoch}"], dtype)
        labels = golden(NAME).case(case)["in.labels"]
        losses, large, larger = large_loss(logits, labels, scheme, _schedule(case)["k"])
        losses.mean().backward()
        outputs = {"loss": losses.mean(), "correction_mask": larger.long(), "grad.in.logits": logits.grad}
        check_case(golden(NAME), case, outputs)
        assert larger.sum() == _schedule(case)["corrected"] and not (larger & ~large).any()


@pytest.mark.golden
def test_every_sub_case_of_the_file_is_compared():
    assert all(case == "" or case.startswith("LL") for case in sub_cases(NAME))


@pytest.mark.golden
@pytest.mark.parametrize("case", cases(NAME, "LL"))
def test_the_number_of_large_losses_follows_the_published_schedule(case):
    name, epoch = _scheme_and_epoch(case)
    rate, schedule = golden(NAME).hparams["delta_rel"], _schedule(case)
    num_entries = golden(NAME).tensors["in.target"].numel()
    config = LargeLossObjectiveConfig(scheme="LL-Ct" if name == PUBLISHED_BUG else name, rate=rate)
    count = config.num_large(Progress(0, 0, epoch - 0.5), num_entries)
    exact = num_entries * (1 - schedule["clean_rate"])
    if abs(exact - round(exact)) > 1e-6:  # else the published subtraction may be one off
        assert count == schedule["k"]


@pytest.mark.golden
def test_ll_cp_remembers_what_the_published_code_remembers():
    target = golden(NAME).tensors["in.target"]
    objective = _make("LL-Cp", num_images=len(target), num_labels=target.shape[1])
    for case in sub_cases(NAME, "LL-Cp/"):
        remembered = golden(NAME).case(case)["in.labels"]
        assert torch.equal(target.masked_fill(objective.corrected.ne(0), 1), remembered)
        logits = golden(NAME).tensors[f"in.logits_epoch{_scheme_and_epoch(case)[1]}"]
        _, _, larger = large_loss(logits, remembered, "LL-Cp", _schedule(case)["k"])
        objective.remember(torch.arange(len(target)), larger)


def _make(scheme: str, rate: float = 0.2, num_images: int = 20, num_labels: int = 5) -> LargeLossObjective:
    config = LargeLossObjectiveConfig(scheme=scheme, rate=rate)
    objective = LargeLossObjective(config, GivenLogits(num_labels).config)
    objective.prepare(tiny_images(num_labels, num_images))
    return objective


LABELS = torch.tensor([[1, 0, -1, 0, 0], [0, 0, 0, 1, -1]])


@pytest.mark.parametrize(
    ("scheme", "epoch", "expected"),
    [("LL-R", 0.0, 1.043259), ("LL-R", 1.0, 0.793304), ("LL-Ct", 1.5, 0.873259), ("LL-Cp", 1.0, 0.873259)],
)
def test_values_of_a_small_problem(scheme, epoch, expected):
    loss = loss_of_logits(_make(scheme), LOGITS, LABELS, epoch).loss
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_rates_grow_with_the_epoch_but_for_ll_cp():
    for scheme, counts in (("LL-R", [0, 2, 4]), ("LL-Ct", [0, 2, 4]), ("LL-Cp", [0, 2, 2])):
        config = LargeLossObjectiveConfig(scheme=scheme, rate=0.002)
        assert [config.num_large(Progress(0, 0, epoch + 0.3), 1000) for epoch in range(3)] == counts
    assert LargeLossObjectiveConfig(rate=0.3).num_large(Progress(0, 0, 90.0), 10) == 10
    assert LargeLossObjectiveConfig(rate=0.002).num_large(Progress(0, 0, 3.0), 1000) == 6, "3 * 0.002 is above 0.006"


@pytest.mark.parametrize("scheme", ["LL-R", "LL-Ct", "LL-Cp"])
def test_known_labels_are_never_modified_even_if_there_are_too_few_unknown_ones(scheme):
    labels = torch.tensor([[1, -1, -1, 0, 1], [-1, -1, -1, 1, -1]])
    losses, large, larger = large_loss(LOGITS, labels, scheme, 7)
    assert torch.equal(large, labels.eq(0)) and not (larger & labels.ne(0)).any()
    assert losses[0, 3] == pytest.approx(0 if scheme == "LL-R" else math.log(2))
    plain, _, _ = large_loss(LOGITS, labels, scheme, 0)
    assert torch.equal(losses[labels.ne(0)], plain[labels.ne(0)])


def test_corrections_of_ll_cp_stay_and_those_of_ll_ct_do_not():
    sure = torch.tensor([[0.5, 4.0, 2.0, 0.0, -0.3], [3.0, 0.2, -0.7, -2.0, 0.9]])
    unsure = -sure
    for scheme in ("LL-Cp", "LL-Ct"):
        objective = _make(scheme, rate=0.4)
        loss_of_logits(objective, sure, LABELS, epoch=1.0)
        completed = loss_of_logits(objective, unsure, LABELS, epoch=1.5).pseudo_labels["corrected"]
        stays = completed[0, 1] == completed[1, 0] == 1
        assert stays == (scheme == "LL-Cp")


def test_corrections_of_all_processes_are_remembered(monkeypatch):
    objective = _make("LL-Cp")
    index, corrected = torch.tensor([2, 2, 5]), torch.eye(5, dtype=torch.uint8)[[0, 1, 4]]  # row 2 is padding
    rows = {torch.int64: index, torch.uint8: corrected}
    monkeypatch.setattr(module, "gather_rows", lambda tensor: rows[tensor.dtype])
    objective.remember(index[:1], corrected[:1].bool())
    assert objective.corrected.nonzero().tolist() == [[2, 0], [2, 1], [5, 4]]


def test_without_the_images_of_the_library_there_is_a_clear_error():
    objective = LargeLossObjective(LargeLossObjectiveConfig(scheme="LL-Cp"), GivenLogits(5).config)
    with pytest.raises(RuntimeError, match="was not prepared, so it has no `corrected`"):
        loss_of_logits(objective, LOGITS, LABELS)


def test_completed_labels_are_the_corrections_that_stay():
    objective, labels = _make("LL-Cp", rate=0.4), tiny_images(5, 20).labels
    objective.remember(torch.tensor([2, 5]), labels[[2, 5]].eq(0) & torch.tensor([False, False, True, True, False]))
    expected = labels.clone()
    expected[[2, 5], 2:4] = expected[[2, 5], 2:4].where(expected[[2, 5], 2:4] != 0, 1)
    assert torch.equal(objective.completed_labels(labels).labels, expected) and not torch.equal(expected, labels)
    assert _make("LL-Ct").completed_labels(labels) is None, "they are forgotten after the step"
