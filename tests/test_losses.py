import re

import pytest
import torch
from golden_files import cases, golden
from golden_models import check_case, leaf

from hf_mlrpl.losses import (
    asymmetric_loss,
    focal_loss,
    known_bce,
    normalized_partial_bce,
    partial_bce,
    unknown_weights,
)

LOGITS = torch.tensor([[0.5, -1.0, 2.0, 0.0, -0.3], [1.5, 0.2, -0.7, -2.0, 0.9]])
LABELS = torch.tensor([[1, -1, 0, 0, 1], [0, -1, -1, 1, 0]])


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("losses_durand")[1:])
def test_normalized_partial_bce_matches_published_code(case):
    inputs, hparams = golden("losses_durand").case(), golden("losses_durand").hparams
    labels = inputs.get(f"in.target_{case}", inputs["in.target"])
    for dtype in (torch.float64, torch.float32):
        logits = leaf(inputs["in.logits"], torch.float64)
        losses = normalized_partial_bce(
            _as_keras_sees_them(logits, labels, hparams["keras_epsilon"]).to(dtype),
            labels,
            alpha=hparams["alpha"] if case != "bce" else 0.0,
            beta=hparams["beta"] if case != "bce" else 1.0,
            gamma=hparams["gamma"],
            proportion=_proportion(case),
            denominator="known",
        )
        losses.mean().backward()
        outputs = {"per_image": _nan_where_nothing_is_known(losses, labels), "grad.in.logits": logits.grad.to(dtype)}
        check_case(golden("losses_durand"), case, outputs)


def _as_keras_sees_them(logits, labels, epsilon):
    """Logits whose exact cross-entropy is that of Keras, which clips probabilities and adds 1e-7 to them."""
    right = torch.where(labels.eq(1), logits, -logits).sigmoid().clamp(epsilon, 1 - epsilon) + epsilon
    return torch.where(labels.eq(1), 1, -1) * right.logit(eps=1e-12)


def _proportion(case):
    if match := re.fullmatch(r"prop([\d.]+)", case):
        return float(match[1])
    if case == "bce":
        return 1.0
    # Not in the name: from the weight of an image that has known labels.
    golden_file = golden("losses_durand")
    known = golden_file.tensors[f"in.target_{case}"].ne(0).any(dim=1)
    per_image = golden_file.tensors[f"{case}/out.per_image"].double()
    weight = (per_image / golden_file.tensors["bce/out64.per_image"])[known].median().item()
    return (weight - golden_file.hparams["beta"]) / golden_file.hparams["alpha"]


def _nan_where_nothing_is_known(losses, labels):
    """The published code gives NaN for an image without known labels; with us it is 0."""
    known = labels.ne(0).any(dim=1)
    assert losses[~known].eq(0).all()
    return losses.where(known, torch.nan)


@pytest.mark.parametrize(
    ("reduction", "expected"), [("micro", 0.8283245), ("image_mean", 0.8283245), ("image_sum", 1.656649)]
)
def test_partial_bce_values(reduction, expected):
    torch.testing.assert_close(partial_bce(LOGITS, LABELS, reduction), torch.tensor(expected), rtol=1e-5, atol=0)


def test_image_mean_weights_images_and_micro_weights_labels():
    labels = torch.tensor([[1, -1, 0, 0, 1], [0, 0, -1, 0, 0]])
    losses, _ = known_bce(LOGITS, labels)
    torch.testing.assert_close(partial_bce(LOGITS, labels), losses.sum() / 4)
    image_mean = (losses[0].sum() / 3 + losses[1].sum()) / 2
    torch.testing.assert_close(partial_bce(LOGITS, labels, "image_mean"), image_mean)


def test_soft_labels_are_soft_targets():
    labels = torch.tensor([[0.4, -1, 0, 0, 1], [0, -1, -1, 0.6, 0]])
    torch.testing.assert_close(partial_bce(LOGITS, labels), torch.tensor(0.7449911), rtol=1e-5, atol=0)


@pytest.mark.parametrize("reduction", ["micro", "image_mean", "image_sum"])
def test_nothing_known_is_zero_with_zero_gradient(reduction):
    logits = leaf(LOGITS, torch.float32)
    loss = partial_bce(logits, torch.zeros_like(LABELS), reduction)
    loss.backward()
    assert loss == 0 and not logits.grad.any()


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[1e4, -1e4, 1e4, -1e4]], requires_grad=True)
    loss = partial_bce(logits, torch.tensor([[-1, 1, 1, 0]], dtype=torch.int8))
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_unknown_reduction_lists_the_choices():
    with pytest.raises(ValueError, match="micro, image_mean, image_sum, got 'sum'"):
        partial_bce(LOGITS, LABELS, "sum")


def test_normalized_partial_bce_of_the_paper():
    losses = normalized_partial_bce(LOGITS, LABELS)
    torch.testing.assert_close(losses, torch.tensor([0.9127818, 1.8505085]), rtol=1e-5, atol=0)


def test_normalized_partial_bce_with_gamma_minus_one_is_the_mean_over_known_labels():
    labels = torch.cat([LABELS[:1], torch.zeros_like(LABELS[:1])])  # the second image has none
    losses = normalized_partial_bce(LOGITS, labels, alpha=1.0, beta=0.0, gamma=-1.0)
    torch.testing.assert_close(losses, torch.tensor([0.547231, 0.0]), rtol=1e-5, atol=0)


def test_asymmetric_loss_of_pairs():
    logits = torch.linspace(-2, 2, 20).view(2, 10)
    first, second = torch.triu_indices(5, 5, offset=1)
    positive = LABELS[:, first].eq(1) & LABELS[:, second].eq(1)
    loss = asymmetric_loss(logits, positive, gamma_positive=1, gamma_negative=2).mean()
    torch.testing.assert_close(loss, torch.tensor(0.3831094), rtol=1e-5, atol=0)


@pytest.mark.parametrize("detach_focus", [True, False])
@pytest.mark.parametrize("exponents", [(0, 0, 0.0), (1, 4, 0.0), (0, 4, 0.05), (0.5, 0.5, 0.2)])
def test_focal_loss_is_the_asymmetric_loss(exponents, detach_focus):
    gamma_positive, gamma_negative, clip = exponents
    logits, other = leaf(3 * LOGITS, torch.float64), leaf(3 * LOGITS, torch.float64)
    positive = LABELS.eq(1)
    settings = {"gamma_positive": gamma_positive, "gamma_negative": gamma_negative, "clip": clip}
    losses = focal_loss(logits, positive.double(), detach_focus=detach_focus, **settings)
    p = other.sigmoid()
    p_right = torch.where(positive, p, (1 - p + clip).clamp(max=1))
    factor = (1 - p_right) ** torch.where(positive, gamma_positive, gamma_negative)
    expected = -(factor.detach() if detach_focus else factor) * p_right.log()
    torch.testing.assert_close(losses, expected, rtol=0, atol=1e-9)
    if not detach_focus:
        published = asymmetric_loss(other, positive, **settings)
        torch.testing.assert_close(losses, published, rtol=0, atol=1e-9)
    losses.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(logits.grad, other.grad.nan_to_num(), rtol=0, atol=1e-5)


def test_a_soft_target_counts_on_both_sides():
    targets = torch.tensor([[0.25, 0.0, 1.0, 0.5, 0.9]])
    losses = focal_loss(LOGITS[:1], targets, gamma_positive=0, gamma_negative=0)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(LOGITS[:1], targets, reduction="none")
    torch.testing.assert_close(losses, expected)


def test_weights_of_unknown_labels():
    ones, known = torch.ones_like(LOGITS), LABELS.ne(0).float()
    assert torch.equal(unknown_weights(LOGITS, LABELS, "negative"), ones)
    assert torch.equal(unknown_weights(LOGITS, LABELS, "ignore"), known)
    # Unknown are the logits 2.0 and 0.0 of the first image, 1.5 and 0.9 of the second.
    select = unknown_weights(LOGITS, LABELS, "select", likely_per_image=1)
    assert select.tolist() == [[1, 1, 0, 1, 1], [0, 1, 1, 1, 1]]
    assert torch.equal(unknown_weights(LOGITS, LABELS, "select", likely_per_image=0), ones)
    assert torch.equal(unknown_weights(LOGITS, LABELS, "select", likely_per_image=5), known)
    priors = torch.tensor([0.5, 0.01, 0.02, 0.2, 0.03])
    select = unknown_weights(LOGITS, LABELS, "select", likely_per_image=0, priors=priors, prior_threshold=0.05)
    assert select.tolist() == [[1, 1, 1, 0, 1], [0, 1, 1, 1, 1]]


# Of mlcpl 0.1.7 in float64, exponents 0 and 4, clip 0.05; for the selection 1 per image and these priors.
PEER = {
    "negative": (
        0.508512,
        [[-0.037754, 5.8e-05, 0.029562, 0.001864, -0.057444], [0.022275, 0.003089, 0.000195, -0.08808, 0.011567]],
    ),
    "ignore": (0.5835432, [[-0.062923, 9.6e-05, 0, 0, -0.09574], [0, 0.005148, 0.000325, -0.1468, 0]]),
    "select": (0.5296678, [[-0.053934, 8.3e-05, 0, 0, -0.082063], [0, 0.004413, 0.000278, -0.125828, 0.016524]]),
}


@pytest.mark.parametrize("unknown", PEER)
def test_asymmetric_loss_with_unknown_labels_is_that_of_mlcpl(unknown):
    loss, gradient = PEER[unknown]
    logits = leaf(LOGITS, torch.float64)
    weights = unknown_weights(
        logits, LABELS, unknown, likely_per_image=1, priors=torch.tensor([0.5, 0.01, 0.02, 0.2, 0.03])
    )
    losses = weights * focal_loss(logits, LABELS.eq(1).double(), gamma_positive=0, gamma_negative=4, clip=0.05)
    mean = losses.sum() / weights.sum()
    mean.backward()
    assert mean.item() == pytest.approx(loss, abs=1e-6)
    torch.testing.assert_close(logits.grad, torch.tensor(gradient, dtype=torch.float64), rtol=0, atol=1e-6)
