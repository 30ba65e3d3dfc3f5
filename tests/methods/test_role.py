import re

import pytest
import torch
from golden_files import cases, golden
from golden_models import check_case, leaf
from test_asl import DTYPES, LOGITS
from tiny import GivenLogits, loss_of_logits, tiny_images

from hf_mlrpl.losses import expected_positives_penalty
from hf_mlrpl.methods import role
from hf_mlrpl.methods.role import RoleObjective, RoleObjectiveConfig, initial_estimates, role_loss

NAME = "losses_single_positive"


@pytest.mark.golden
@pytest.mark.parametrize("case", cases(NAME, "role."))
def test_loss_matches_published_code(case):
    tensors, expected = golden(NAME).tensors, golden(NAME).hparams["expected_num_pos"]
    for dtype in DTYPES:
        logits, estimates = leaf(tensors["in.logits"], dtype), leaf(tensors["in.estimator_logits"], dtype)
        sides = (logits, estimates), (estimates, logits)
        loss = sum(role_loss(side, other, tensors["in.observed"], expected) for side, other in sides)
        loss.backward()
        penalty = sum(expected_positives_penalty(side, expected) for side, _ in sides) / 2
        outputs = {"loss": loss, "regulariser": penalty}
        gradients = {"grad.in.logits": logits.grad, "grad.in.estimator_logits": estimates.grad}
        check_case(golden(NAME), case, outputs | gradients)


@pytest.mark.golden
@pytest.mark.parametrize("case", cases(NAME, "estimator"))
def test_estimates_begin_as_published(case):
    tensors = golden(NAME).case(case)
    for dtype in DTYPES:
        logits = initial_estimates(tensors["in.observed"], tensors["in.uniform"].to(dtype))
        outputs = {"logits": logits, "logits_reinit": logits.sigmoid().logit()}
        for name in tensors:
            if match := re.fullmatch(r"out64\.(estimates_([\d_]+))", name):
                outputs[match[1]] = logits[[int(row) for row in match[2].split("_")]].sigmoid()
        check_case(golden(NAME), case, outputs)


def make(**settings) -> RoleObjective:
    config = RoleObjectiveConfig(expected_positives=1.5, table_learning_rate=0.1, **settings)
    objective = RoleObjective(config, GivenLogits(5).config)
    objective.prepare(tiny_images())
    return objective


def test_value_of_a_small_problem():
    estimates = torch.tensor([[5, 0.1, -0.2, 0.3, 5], [0.2, -0.1, 0.1, 5, 0]])
    objective, labels = make(), torch.tensor([[1, 0, 0, 0, 1], [0, 0, 0, 1, 0]])
    objective.estimates[:2] = estimates
    assert loss_of_logits(objective, LOGITS, labels).loss.item() == pytest.approx(1.435541, rel=1e-6)


def test_table_is_trained_like_a_parameter_with_adam():
    objective, reference = make(), torch.nn.Parameter(make().estimates.clone())
    optimizer = torch.optim.Adam([reference], lr=0.1, fused=True)
    labels = tiny_images().labels
    for step in range(4):
        index = torch.arange(6 * step, 6 * step + 6) % 20
        logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        role_loss(reference[index], logits, labels[index], 1.5).backward()
        optimizer.step()
        objective.learn(index, logits, labels[index])
    assert torch.equal(objective.estimates, reference.detach())
    assert objective.step == 4


def test_the_model_gets_no_gradient_through_the_table_and_sees_it_before_its_step():
    objective, labels = make(), tiny_images().labels[:2]
    before = objective.estimates[:2].clone()
    logits = leaf(LOGITS, torch.float32)
    loss_of_logits(objective, logits, labels).loss.backward()
    expected = leaf(LOGITS, torch.float32)
    role_loss(expected, before, labels, 1.5).backward()
    torch.testing.assert_close(logits.grad, expected.grad)
    assert not torch.equal(objective.estimates[:2], before)


def test_table_learns_from_the_images_of_all_processes(monkeypatch):
    whole, half = make(), make()
    index, labels = torch.arange(8), tiny_images().labels[:8]
    logits = torch.randn(8, 5)
    whole.learn(index, logits, labels)
    rows = {tensor.data_ptr(): tensor for tensor in (index, logits, labels)}  # a slice of the first rows begins there
    monkeypatch.setattr(role, "gather_rows", lambda tensor: rows[tensor.data_ptr()])
    half.learn(index[:4], logits[:4], labels[:4])
    assert torch.equal(whole.estimates, half.estimates)


def test_an_image_that_is_twice_in_a_batch_counts_twice():
    objective, reference = make(), torch.nn.Parameter(make().estimates.clone())
    index, logits = torch.tensor([3, 3, 1]), torch.randn(3, 5)
    labels = tiny_images().labels[index]
    optimizer = torch.optim.Adam([reference], lr=0.1, fused=True)
    role_loss(reference[index], logits, labels, 1.5).backward()
    optimizer.step()
    objective.learn(index, logits, labels)
    assert torch.equal(objective.estimates, reference.detach())


def test_estimates_depend_on_the_seed_alone():
    torch.manual_seed(5)
    assert torch.equal(make().estimates, make().estimates)


def test_a_table_that_is_too_large_is_an_error_with_its_size():
    with pytest.raises(ValueError, match=r"ROLE would need 0\.0 GB .* 20 images and 5 labels; the limit is 1e-06"):
        make(table_limit_gb=1e-6)


def test_without_the_images_of_the_library_there_is_a_clear_error():
    objective = RoleObjective(RoleObjectiveConfig(expected_positives=1.5), GivenLogits(5).config)
    with pytest.raises(RuntimeError, match="RoleObjective was not prepared, so it has no `estimates`"):
        loss_of_logits(objective, LOGITS, torch.zeros(2, 5))


def test_estimates_follow_the_model_where_labels_are_unknown_and_the_labels_elsewhere():
    objective, labels = make(), tiny_images().labels
    sure = torch.where(torch.rand(20, 5, generator=torch.Generator().manual_seed(0)) < 0.3, 4.0, -4.0)
    for _ in range(60):
        objective.learn(torch.arange(20), sure, labels)
    positive = objective.estimates > 0
    assert positive[labels.eq(1)].all()
    assert torch.equal(positive[labels.eq(0)], sure[labels.eq(0)] > 0)
    completed = objective.completed_labels(labels)
    assert torch.equal(completed.labels[labels.eq(0)], sure[labels.eq(0)].sign().to(torch.int8))
    scores = objective.estimates.sigmoid()
    expected = scores.where(scores > 0.5, 1 - scores).where(labels.eq(0), 1.0)
    assert torch.equal(completed.confidence, expected)
