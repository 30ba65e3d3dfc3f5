from itertools import product

import pytest
import torch
from tiny import tiny_model

from hf_mlrpl.methods.focal import FocalObjective, FocalObjectiveConfig
from hf_mlrpl.schedules import Progress

NOW = Progress(step=0, max_steps=1, epoch=0.0)
LOGITS = torch.tensor([[0.5, -1.0, 2.0, 0.0, -0.3], [1.5, 0.2, -0.7, -2.0, 0.9]], dtype=torch.float64)
LABELS = torch.tensor([[1, -1, 0, 0, 1], [0, -1, -1, 1, 0]])


class Pixels(torch.nn.Module):
    """A model whose logits are its pixels."""

    def encode(self, pixel_values):
        return pixel_values

    def represent(self, features):
        return features, None

    def classify(self, representations):
        return representations


def run(logits, labels, **settings):
    """The output, and the gradient of the loss by the logits."""
    logits = logits.clone().requires_grad_()
    objective = FocalObjective(FocalObjectiveConfig(**settings), None)
    output = objective(Pixels(), {"pixel_values": logits, "labels": labels}, NOW)
    output.loss.backward()
    return output, logits.grad


# Loss and gradient of mlcpl 0.1.7 with `likelihood_topk=1`, in float64.
PEER = {
    ("negative", 1.0, True): (
        0.7693424,
        [[-0.014254, 0.007233, 0.07758, 0.025, -0.032998], [0.066843, 0.030232, 0.01101, -0.07758, 0.050545]],
    ),
    ("ignore", 1.0, True): (
        0.533338,
        [[-0.023756, 0.012055, 0.0, 0.0, -0.054997], [0.0, 0.050386, 0.01835, -0.129301, 0.0]],
    ),
    ("select", 1.0, True): (
        0.553625,
        [[-0.017817, 0.009041, 0.0, 0.03125, -0.041248], [0.0, 0.03779, 0.013762, -0.096975, 0.063181]],
    ),
    ("negative", 2.5, False): (
        0.524847,
        [[-0.009768, 0.003156, 0.11028, 0.024155, -0.0371], [0.096311, 0.032462, 0.006376, -0.11028, 0.068524]],
    ),
    ("ignore", 2.5, False): (
        0.3366745,
        [[-0.016279, 0.005261, 0.0, 0.0, -0.061833], [0.0, 0.054103, 0.010626, -0.183801, 0.0]],
    ),
    ("select", 2.5, False): (
        0.3339424,
        [[-0.01221, 0.003945, 0.0, 0.030194, -0.046375], [0.0, 0.040577, 0.00797, -0.13785, 0.085654]],
    ),
}


@pytest.mark.parametrize("unknown, gamma, detach_focus", PEER)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_values_and_gradients_are_those_of_mlcpl(unknown, gamma, detach_focus, dtype):
    loss, gradient = PEER[unknown, gamma, detach_focus]
    output, actual = run(
        LOGITS.to(dtype), LABELS, unknown=unknown, gamma=gamma, detach_focus=detach_focus, likely_per_image=1
    )
    assert output.loss.item() == pytest.approx(loss, abs=1e-6)
    torch.testing.assert_close(actual, torch.tensor(gradient, dtype=dtype), rtol=0, atol=1e-6)
    assert sum(output.terms.values()).item() == pytest.approx(loss, abs=1e-6)


def test_weights_of_present_and_absent_labels():
    one, _ = run(LOGITS, LABELS)
    two, _ = run(LOGITS, LABELS, positive_weight=3.0, negative_weight=2.0)
    present, _ = run(LOGITS, LABELS, positive_weight=1.0, negative_weight=0.0)
    assert two.loss.item() == pytest.approx(2 * one.loss.item() + present.loss.item())


@pytest.mark.parametrize("unknown", ["negative", "ignore", "select"])
@pytest.mark.parametrize("detach_focus", [True, False])
def test_extreme_logits(unknown, detach_focus):
    labels = torch.tensor([[1, 1, -1, -1, 0, 0]])
    for gamma, dtype in product((0.0, 0.5, 1.0, 2.0), (torch.float32, torch.bfloat16, torch.float16)):
        logits = torch.tensor([[1e4, -1e4, 1e4, -1e4, 1e4, -1e4]], dtype=dtype)
        output, gradient = run(logits, labels, unknown=unknown, gamma=gamma, detach_focus=detach_focus)
        assert output.loss.isfinite() and gradient.isfinite().all(), (gamma, dtype)
        assert gradient[0, 1] < 0 < gradient[0, 2], f"what is wrong is corrected {gamma, dtype}"


@pytest.mark.parametrize("labels", [torch.zeros(2, 5), torch.ones(2, 5), -torch.ones(2, 5)])
@pytest.mark.parametrize("unknown", ["negative", "ignore", "select"])
def test_all_unknown_and_all_known(labels, unknown):
    output, gradient = run(LOGITS, labels, unknown=unknown)
    assert output.loss.isfinite() and gradient.isfinite().all()
    assert gradient.any() == (labels.any() or unknown == "negative"), "ten likely ones of ten are selected away"


def test_the_selection_forgets_the_order_of_images_and_labels():
    rows, columns = torch.tensor([1, 0]), torch.tensor([3, 1, 4, 0, 2])
    output, gradient = run(LOGITS, LABELS, unknown="select", likely_per_image=1)
    other, permuted = run(LOGITS[rows][:, columns], LABELS[rows][:, columns], unknown="select", likely_per_image=1)
    torch.testing.assert_close(other.loss, output.loss)
    torch.testing.assert_close(permuted, gradient[rows][:, columns])


def test_it_trains_the_baseline():
    assert type(tiny_model("focal")).__name__ == "BaselineForMultiLabelClassification"
