import re
from types import SimpleNamespace

import pytest
import torch
from golden_files import cases, golden
from golden_models import check_case, leaf
from test_asl import DTYPES, LABELS, LOGITS
from tiny import GivenLogits, loss_of_logits

from hf_mlrpl.methods.dualcoop.objective_dualcoop import (
    DualCoOpObjective,
    DualCoOpObjectiveConfig,
    dual_prompt_loss,
)


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("dualcoop_head", "loss."))
def test_loss_matches_published_code(case):
    match = re.fullmatch(r"loss\.gn([\d.]+)_gp([\d.]+)_clip([\d.]+)", case)
    gamma_negative, gamma_positive, clip = map(float, match.groups())
    config = DualCoOpObjectiveConfig(gamma_negative=gamma_negative, gamma_positive=gamma_positive, clip=clip)
    given = golden("dualcoop_head").case("loss")
    labels = torch.tensor([-1, 1, 0])[given["in.target"]]  # 0 is absent there, and -1 unknown
    for dtype in DTYPES:
        both = leaf(given["in.logits"], dtype)  # (B, 2, C), negative and positive
        loss = dual_prompt_loss(both[:, 1] - both[:, 0], labels, config).sum()
        loss.backward()
        check_case(golden("dualcoop_head"), case, {"sum": loss, "grad.in.logits": both.grad})


def objective(**settings) -> DualCoOpObjective:
    return DualCoOpObjective(DualCoOpObjectiveConfig(**settings), GivenLogits(5).config)


def test_the_objective_is_a_mean_over_images_with_a_weight():
    expected = dual_prompt_loss(LOGITS, LABELS, DualCoOpObjectiveConfig()).sum() / len(LABELS)
    torch.testing.assert_close(loss_of_logits(objective(), LOGITS, LABELS).loss, expected)
    torch.testing.assert_close(loss_of_logits(objective(loss_weight=0.5), LOGITS, LABELS).loss, expected / 2)


def test_unknown_labels_have_no_gradient_and_without_focus_and_clip_it_is_bce():
    logits, labels = LOGITS.clone().requires_grad_(), torch.tensor([[1, -1, 0, 0, 1], [0, -1, -1, 1, 0]])
    loss = loss_of_logits(objective(gamma_positive=0.0, gamma_negative=0.0, clip=0.0), logits, labels).loss
    loss.backward()
    assert torch.equal(logits.grad.ne(0), labels.ne(0))
    known = labels.ne(0)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    torch.testing.assert_close(loss, bce(LOGITS[known], labels[known].eq(1).float(), reduction="sum") / 2)


def test_a_short_batch_weighs_less_as_in_a_sum():
    for short_batches, share in (("published", 0.25), ("mean", 1.0)):
        ours = objective(short_batches=short_batches)
        ours.full_batch = 4 * len(LABELS)
        loss = loss_of_logits(ours, LOGITS, LABELS).loss
        torch.testing.assert_close(loss, share * loss_of_logits(objective(), LOGITS, LABELS).loss)


def test_the_weight_may_grow_where_fewer_labels_are_known():
    images = SimpleNamespace(labels=torch.tensor([[1, 0, 0, 0, 0], [-1, 0, 0, 0, 0]]))
    for balance, expected in (("none", 0.96), ("known", 2.4)):
        ours = objective(loss_weight=0.96, balance=balance)
        ours.prepare(images)
        assert ours.loss_weight == pytest.approx(expected)
