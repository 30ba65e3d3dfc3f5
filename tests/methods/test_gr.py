import math
import re

import pytest
import torch
from golden_files import golden, sub_cases
from golden_models import check_case, leaf
from test_asl import DTYPES, LOGITS
from tiny import loss_of_logits

from hf_mlrpl.methods.gr import GrObjective, GrObjectiveConfig
from hf_mlrpl.methods.robust_risk import gr_losses
from hf_mlrpl.schedules import Progress

NAME = "losses_gr"


def config_of(slope_and_offset, centre_and_width, exponents=(0.01, 1.0), start_epoch=0) -> GrObjectiveConfig:
    """From the order of the published code: first and last slope, first and last offset; first centre and width, last
    centre and width."""
    return GrObjectiveConfig(
        slope=tuple(slope_and_offset[:2]),
        offset=tuple(slope_and_offset[2:]),
        centre=tuple(centre_and_width[0::2]),
        width=tuple(centre_and_width[1::2]),
        present_exponent=exponents[0],
        absent_exponent=exponents[1],
        start_epoch=start_epoch,
    )


def of_epoch(epoch: int, num_epochs: int) -> Progress:
    """The middle of an epoch, counted from 1."""
    return Progress(step=0, max_steps=0, epoch=epoch - 0.5, num_epochs=num_epochs)


@pytest.mark.golden
@pytest.mark.parametrize("case", [case for case in sub_cases(NAME) if case])
def test_loss_matches_published_code(case):
    tensors, settings = golden(NAME).tensors, golden(NAME).hparams["cases"][case]
    config = config_of(settings["beta"], settings["alpha"], settings["q"], settings["linear_init"])
    belief = config.belief(of_epoch(settings["epoch"], settings["num_epochs"]))
    assert (belief.slope, belief.offset, belief.centre, belief.width) == pytest.approx(
        [settings[name] for name in ("w", "b", "mu", "sigma")], abs=1e-12
    )
    for dtype in DTYPES:
        logits = leaf(tensors[settings["logits"]], dtype)
        labels = torch.zeros(logits.shape, dtype=torch.int64)
        if settings["observed"] != "all zeros":
            labels = tensors[settings["observed"]]
        loss = gr_losses(logits, labels, belief, config).mean()
        loss.backward()
        scores = logits.detach().sigmoid()
        outputs = {"loss": loss, "k": belief.soft_labels(scores), "v": belief.weights(scores)}
        check_case(golden(NAME), case, outputs | {"grad.in.logits": logits.grad})


@pytest.mark.golden
@pytest.mark.parametrize("name", [name for name in golden(NAME).tensors if name.startswith("schedule.")])
def test_schedules_match_the_published_ones(name):
    num_epochs, start_epoch, steep = re.fullmatch(r"schedule\.T(\d+)_n(\d+)(_steep)?", name).groups()
    of_kind = [
        entry for case, entry in golden(NAME).hparams["cases"].items() if case.startswith("steep") == bool(steep)
    ]
    config = config_of(of_kind[0]["beta"], of_kind[0]["alpha"], start_epoch=int(start_epoch))
    rows = [config.belief(of_epoch(epoch + 1, int(num_epochs))) for epoch in range(int(num_epochs))]
    actual = torch.tensor([[row.slope, row.offset, row.centre, row.width] for row in rows], dtype=torch.float64)
    golden(NAME).check(name, actual)


LABELS = torch.tensor([[1, 0, -1, 0, 0], [0, 0, 0, 1, -1]])


def test_a_label_known_to_be_absent_counts_as_such_with_the_weight_one():
    config = GrObjectiveConfig()
    losses = gr_losses(LOGITS, LABELS, config.belief(of_epoch(1, 8)), config)
    known = LABELS.ne(0)
    expected = -((LABELS * LOGITS).sigmoid() + 1e-7).log()
    torch.testing.assert_close(losses[known], expected[known])


def test_both_ramps_end_together_where_they_include_the_last_epoch():
    for ramp, slope in (("published", 1.75), ("inclusive", 2.0)):
        last = GrObjectiveConfig(ramp=ramp).belief(of_epoch(8, 8))
        assert (last.slope, last.offset, last.centre, last.width) == (slope, -2, 0.8, 0.5)


def test_a_ramp_that_begins_after_the_run_is_refused():
    assert GrObjectiveConfig(start_epoch=7).belief(of_epoch(8, 8)).centre == 0.8
    with pytest.raises(ValueError, match="`start_epoch` must be less than the epochs of the run, got 8 and 8"):
        GrObjectiveConfig(start_epoch=8).belief(of_epoch(1, 8))


def test_what_the_objective_reports():
    output = loss_of_logits(GrObjective(GrObjectiveConfig(), None), LOGITS, LABELS, epoch=4.2)
    assert output.logs == pytest.approx({"slope": 0.8, "offset": -2.0, "centre": 0.65, "width": 1.25})
    assert output.terms["known"] + output.terms["unknown"] == pytest.approx(output.loss.item())


def test_an_exponent_near_zero_is_cross_entropy_and_one_is_the_absolute_error():
    config = GrObjectiveConfig(present_exponent=1e-6, absent_exponent=1.0, width=(1e3, 1e3))
    unknown = torch.zeros_like(LABELS)
    present, absent = ((offset, offset) for offset in (1e3, -1e3))
    for offset, expected in ((present, -LOGITS.sigmoid().log()), (absent, LOGITS.sigmoid())):
        sure = GrObjectiveConfig(offset=offset, present_exponent=config.present_exponent, width=config.width)
        losses = gr_losses(LOGITS, unknown, sure.belief(of_epoch(1, 8)), sure)
        torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match=r"`slope` must be two numbers, the first and the last value, got \[1.0\]"):
        GrObjectiveConfig(slope=(1.0,))
    with pytest.raises(ValueError, match="`Progress` with `num_epochs`"):
        GrObjectiveConfig().belief(Progress(step=0, max_steps=1, epoch=0.0))
    assert math.isclose(GrObjectiveConfig().belief(of_epoch(1, 8)).centre, 0.5375)
