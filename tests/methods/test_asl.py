import re

import pytest
import torch
from golden_files import cases, golden, sub_cases
from golden_models import check_case, leaf
from tiny import GivenLogits, loss_of_logits

from hf_mlrpl.losses import asymmetric_loss
from hf_mlrpl.methods.asl import AslObjective, AslObjectiveConfig

DTYPES = (torch.float64, torch.float32)


def inputs(case: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels of a sub-case of `losses_basic`; what is not present is unknown there."""
    which = "extreme_" if case.endswith(".extreme") else ""
    return golden("losses_basic").tensors[f"in.{which}logits"], golden("losses_basic").tensors[f"in.{which}target"]


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("losses_basic", "asl"))
def test_asymmetric_loss_matches_published_code(case):
    match = re.search(r"gn([\d.]+)_gp([\d.]+)_clip([\d.]+)_detach(\d)", case)
    gamma_negative, gamma_positive, clip = map(float, match.groups()[:3])
    for dtype in DTYPES:
        logits, labels = leaf(inputs(case)[0], dtype), inputs(case)[1]
        loss = asymmetric_loss(
            logits,
            labels.eq(1),
            gamma_positive=gamma_positive,
            gamma_negative=gamma_negative,
            clip=clip,
            eps=golden("losses_basic").hparams["asl_eps"],
            detach_focus=match[4] == "1",
        ).sum()
        loss.backward()
        check_case(golden("losses_basic"), case, {"loss": loss, "grad.in.logits": logits.grad})


@pytest.mark.golden
def test_every_sub_case_of_the_file_is_compared():
    assert all(case == "" or case.startswith(("asl", "splc.", "hill.")) for case in sub_cases("losses_basic"))


LOGITS = torch.tensor([[0.5, -1.0, 2.0, 0.0, -0.3], [1.5, 0.2, -0.7, -2.0, 0.9]])
LABELS = torch.tensor([[1, 0, 0, 0, 1], [0, 0, 0, 1, 0]])


def objective(**settings) -> AslObjective:
    return AslObjective(AslObjectiveConfig(**settings), GivenLogits(5).config)


@pytest.mark.parametrize(
    ("gammas_and_clip", "expected"),
    [((0, 0, 0), 10.732589), ((2, 2, 0), 5.895892), ((0, 4, 0.05), 5.085120), ((1, 4, 0.05), 4.172913)],
)
def test_objective_is_a_mean_over_images_of_the_published_sum(gammas_and_clip, expected):
    gamma_positive, gamma_negative, clip = map(float, gammas_and_clip)
    config = {"gamma_positive": gamma_positive, "gamma_negative": gamma_negative, "clip": clip}
    loss = loss_of_logits(objective(**config), LOGITS, LABELS).loss
    assert 2 * loss.item() == pytest.approx(expected, rel=1e-6)


def test_the_focusing_factor_has_no_gradient_unless_asked_for():
    gradients = []
    for detach in (True, False):
        logits = leaf(LOGITS, torch.float32)
        loss_of_logits(objective(gamma_positive=1.0, detach_focus=detach), logits, LABELS).loss.backward()
        gradients.append(logits.grad)
    p = LOGITS.sigmoid()
    expected = torch.where(LABELS.eq(1), -((1 - p) ** 2), (p - 0.05).clamp(min=0) ** 4 * p * (1 - p) / (1.05 - p)) / 2
    torch.testing.assert_close(gradients[0], expected)
    assert not torch.allclose(gradients[0], gradients[1])


def test_unknown_labels_may_be_ignored():
    logits = leaf(LOGITS, torch.float32)
    labels = torch.tensor([[1, -1, 0, 0, 1], [0, -1, -1, 1, 0]])
    loss_of_logits(objective(unknown="ignore"), logits, labels).loss.backward()
    assert torch.equal(logits.grad.ne(0), labels.ne(0))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_a_differentiated_factor_with_a_small_exponent_has_a_finite_gradient(gamma):
    logits = torch.tensor([[1e4, -1e4, 1e4, -1e4, -6.0]], requires_grad=True)
    config = {"gamma_positive": gamma, "gamma_negative": gamma, "detach_focus": False}
    loss_of_logits(objective(**config), logits, torch.tensor([[1, 1, -1, -1, -1]])).loss.backward()
    assert logits.grad.isfinite().all()
