import pytest
import torch
from test_focal import LABELS, LOGITS, NOW, Pixels

from hf_mlrpl.methods.spa import SpaObjective, SpaObjectiveConfig, spa_losses, spa_probability


def run(logits, labels, **settings):
    logits = logits.clone().requires_grad_()
    objective = SpaObjective(SpaObjectiveConfig(**settings), None)
    output = objective(Pixels(), {"pixel_values": logits, "labels": labels}, NOW)
    output.loss.backward()
    return output, logits.grad


def best_logit(probability: float, config: SpaObjectiveConfig, argument) -> float:
    """By search: the logit with the lowest expected loss, where the label is present with `probability`."""
    logits = torch.linspace(-15, 15, 300_001, dtype=torch.float64)
    present, absent = (spa_losses(argument(logits), torch.tensor(side), config) for side in (True, False))
    return logits[(probability * present + (1 - probability) * absent).argmin()].item()


CONFIGS = [
    SpaObjectiveConfig(),
    SpaObjectiveConfig(positive_scale=2.0, positive_slope=0.5, positive_shift=-1.0, negative_slope=2.0),
    SpaObjectiveConfig(negative_scale=1.0, negative_slope=1.0, negative_shift=0.0),
]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("probability", [0.01, 0.1, 0.5, 0.9, 0.99])
def test_the_loss_is_proper(config, probability):
    """The best logit for a label that is present with some probability stands for exactly this probability."""
    best = best_logit(probability, config, lambda logits: logits)
    assert spa_probability(torch.tensor(best, dtype=torch.float64), config).item() == pytest.approx(
        probability, abs=1e-4
    )


def test_the_loss_of_a_probability_is_not_proper():
    """In mlcpl the probability takes the place of the logit."""
    config = SpaObjectiveConfig()
    best = best_logit(0.5, config, lambda logits: spa_probability(logits, config))
    assert abs(spa_probability(torch.tensor(best), config).item() - 0.5) > 0.4


def test_symmetric_settings_are_cross_entropy():
    config = CONFIGS[2]
    expected = torch.nn.functional.binary_cross_entropy_with_logits(LOGITS, LABELS.eq(1).double(), reduction="none")
    torch.testing.assert_close(spa_losses(LOGITS, LABELS.eq(1), config), expected)
    torch.testing.assert_close(spa_probability(LOGITS, config), LOGITS.sigmoid())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_values_and_gradients_are_those_of_mlcpl(dtype):
    """Version 0.1.7, in float64."""
    output, actual = run(LOGITS.to(dtype), LABELS, argument="probability")
    gradient = [[-0.039655, 3.1e-05, 0.0, 0.0, -0.005523], [0.0, 0.001866, 8.6e-05, -2.2e-05, 0.0]]
    assert output.loss.item() == pytest.approx(0.3326453, abs=1e-6)
    torch.testing.assert_close(actual, torch.tensor(gradient, dtype=dtype), rtol=0, atol=1e-6)


@pytest.mark.parametrize("argument", ["logit", "probability"])
def test_extreme_logits(argument):
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        logits = torch.tensor([[1e4, -1e4, 1e4, -1e4, 1e4]], dtype=dtype)
        output, gradient = run(logits, torch.tensor([[1, 1, -1, -1, 0]]), argument=argument)
        assert output.loss.isfinite() and gradient.isfinite().all() and gradient[0, 4] == 0, dtype
    probability = spa_probability(logits.float(), SpaObjectiveConfig())
    assert probability.isfinite().all() and probability.min() >= 0 and probability.max() <= 1


def test_nothing_known_is_zero_with_zero_gradient():
    output, gradient = run(LOGITS, torch.zeros_like(LABELS))
    assert output.loss == 0 and not gradient.any()
