import re

import pytest
import torch
from golden_files import cases, golden
from golden_models import check_case, leaf
from test_asl import DTYPES, LABELS, LOGITS, inputs
from tiny import GivenLogits, loss_of_logits

from hf_mlrpl.methods.hill import HillObjective, HillObjectiveConfig, hill_loss


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("losses_basic", "hill."))
def test_loss_matches_published_code(case):
    named = {name: float(value) for name, value in re.findall(r"(lamb|margin|gamma)([\d.]+)", case)}
    settings = golden("losses_basic").hparams["hill"] | named
    for dtype in DTYPES:
        logits, labels = leaf(inputs(case)[0], dtype), inputs(case)[1]
        losses = hill_loss(logits, labels.eq(1), settings["lamb"], settings["margin"], settings["gamma"])
        loss = losses.mean() if "_mean" in case else losses.sum()
        loss.backward()
        check_case(golden("losses_basic"), case, {"none": losses, "loss": loss, "grad.in.logits": logits.grad})


def objective(**settings) -> HillObjective:
    return HillObjective(HillObjectiveConfig(**settings), GivenLogits(5).config)


def test_objective_is_a_mean_over_images_of_the_published_sum():
    loss = loss_of_logits(objective(), LOGITS, LABELS).loss
    assert 2 * loss.item() == pytest.approx(6.185589, rel=1e-6)


def test_sure_positives_among_unknown_labels_are_left_alone():
    logits = torch.tensor([[-9.0, -1.0, 0.0, 1.0, 9.0]], requires_grad=True)
    loss_of_logits(objective(), logits, torch.zeros(1, 5)).loss.backward()
    slope = logits.grad[0]
    assert slope.argmax() == 2 and slope[4] < 1e-6 and slope[0] < 1e-6


def test_known_negatives_may_have_bce():
    labels = torch.tensor([[1, -1, 0, 0, 1], [0, -1, -1, 1, 0]])
    hill, bce = ({}, {"known_negatives": "bce"})
    difference = (
        loss_of_logits(objective(**bce), LOGITS, labels).loss - loss_of_logits(objective(**hill), LOGITS, labels).loss
    )
    p = LOGITS.sigmoid()
    known = labels.eq(-1)
    torch.testing.assert_close(difference, (-(1 - p).log() - (1.5 - p) * p**2)[known].sum() / 2)
