import re

import pytest
import torch
from golden_files import cases, golden
from golden_models import check_case, leaf

from hf_mlrpl.losses import asymmetric_loss, known_bce, normalized_partial_bce, partial_bce

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
