import re

import pytest
import torch
from golden_files import golden, sub_cases
from golden_models import check_case, leaf
from test_asl import DTYPES, LABELS, LOGITS, inputs
from tiny import GivenLogits, loss_of_logits

from hf_mlrpl.losses import corrected_labels, focal_margin_loss
from hf_mlrpl.methods.splc import SplcObjective, SplcObjectiveConfig


def inputs_of_scpnet(_: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels of `scpnet_misc`."""
    return golden("scpnet_misc").tensors["splc/in.logits"], golden("scpnet_misc").tensors["splc/in.target"]


FILES = {"losses_basic": inputs, "scpnet_misc": inputs_of_scpnet}


@pytest.mark.golden
@pytest.mark.parametrize(("file", "case"), [(file, case) for file in FILES for case in sub_cases(file, "splc.")])
def test_loss_matches_published_code(file, case):
    """That of the authors, and the copy of it in the code of SCPNet."""
    named = {name: float(value) for name, value in re.findall(r"(tau|change|margin|gamma|epoch)([\d.]+)", case)}
    hparams = golden("losses_basic").hparams["splc"]
    settings = {"change": hparams["change_epoch"], **hparams, **named}
    for dtype in DTYPES:
        logits, labels = FILES[file](case)
        logits = leaf(logits, dtype)
        corrects = settings["epoch"] >= settings["change"]
        corrected = corrected_labels(logits, labels, settings["tau"]) if corrects else labels
        losses = focal_margin_loss(logits, labels, corrected, settings["margin"], settings["gamma"])
        loss = losses.mean() if "_mean" in case else losses.sum()
        loss.backward()
        outputs = {"none": losses, "loss": loss, "target": corrected, "grad.in.logits": logits.grad}
        check_case(golden(file), case, outputs)


def objective(**settings) -> SplcObjective:
    return SplcObjective(SplcObjectiveConfig(**settings), GivenLogits(5).config)


@pytest.mark.parametrize(("epoch", "expected"), [(0.0, 7.991638), (0.9, 7.991638), (1.0, 4.613958), (7.5, 4.613958)])
def test_labels_are_corrected_from_the_second_epoch_on(epoch, expected):
    output = loss_of_logits(objective(), LOGITS, LABELS, epoch)
    assert 2 * output.loss.item() == pytest.approx(expected, rel=1e-6)
    if epoch < 1:
        assert not output.pseudo_labels
    else:
        added = torch.tensor([[0, 0, 1, 0, 0], [1, 0, 0, 0, 1]])
        assert torch.equal(output.pseudo_labels["corrected"], LABELS + added)


def test_known_labels_are_never_corrected():
    labels = torch.tensor([[1, -1, -1, 0, 1], [-1, -1, 0, -1, 0]])
    corrected = loss_of_logits(objective(), torch.full((2, 5), 9.0), labels, epoch=3.0).pseudo_labels["corrected"]
    assert torch.equal(corrected, labels.masked_fill(labels.eq(0), 1))


def test_without_focus_and_margin_it_is_bce():
    loss = loss_of_logits(objective(gamma=0.0, margin=0.0), LOGITS, LABELS).loss
    expected = torch.nn.functional.binary_cross_entropy_with_logits(LOGITS, LABELS.float(), reduction="sum") / 2
    torch.testing.assert_close(loss, expected)
