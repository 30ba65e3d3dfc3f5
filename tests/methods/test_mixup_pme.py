import pytest
import torch
import torch.nn.functional as F
from test_focal import NOW
from test_logic_mix import FirstPixels

from hf_mlrpl.methods.mixup_pme import MixupPmeObjective, MixupPmeObjectiveConfig, mix_targets


def test_targets_are_those_of_mlcpl():
    """Version 0.1.7: the first two images of the test of LogicMix, with the share 0.8872."""
    labels = torch.tensor([[1, 1, 1, -1, -1, 0], [1, -1, 0, -1, 0, 0]], dtype=torch.int8)
    targets, known = mix_targets(labels[:1], labels[1:], torch.tensor([[0.8872033759818312]]))
    expected = torch.tensor([[1.0, 0.8872, 0.9436, 0.0, 0.0564, torch.nan]])
    torch.testing.assert_close(targets.where(known, torch.nan), expected, rtol=0, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("settings", [{}, {"gamma_negative": 2.0, "clip": 0.05}])
def test_images_and_targets_are_mixed_alike(settings):
    """Without labels on the way: pixels that are the labels stay the labels of the mixture."""
    torch.manual_seed(0)
    labels = torch.tensor([[1, -1, 1], [-1, -1, 1], [1, 1, -1], [-1, 1, -1]])
    objective = MixupPmeObjective(MixupPmeObjectiveConfig(min_share=0.6, **settings), None)
    batch = {"pixel_values": labels.float().view(4, 3, 1, 1), "labels": labels}
    output = objective(FirstPixels(), batch, NOW)
    shares = (1 + (output.logits * labels)) / 2  # a mixture's pixel is 1 or 2 shares - 1 away from its own sign
    assert shares.min() >= 0.6 and shares.max() <= 1 and ((shares < 1).any(dim=0)).any()
    if not settings:
        expected = F.binary_cross_entropy_with_logits(output.logits, (1 + output.logits) / 2)
        torch.testing.assert_close(output.loss, expected)


def test_a_share_of_one_is_partial_bce():
    labels, pixels = torch.tensor([[1, 0, -1], [0, 0, 1]]), torch.randn(2, 3)
    batch = {"pixel_values": pixels.view(2, 3, 1, 1), "labels": labels}
    output = MixupPmeObjective(MixupPmeObjectiveConfig(min_share=1.0), None)(FirstPixels(), batch, NOW)
    losses = F.binary_cross_entropy_with_logits(pixels, labels.eq(1).float(), reduction="none")
    torch.testing.assert_close(output.loss, losses[labels.ne(0)].mean())


def test_nothing_known_is_zero_with_zero_gradient():
    pixel_values = torch.randn(2, 3, 1, 1, requires_grad=True)
    batch = {"pixel_values": pixel_values, "labels": torch.zeros(2, 3)}
    output = MixupPmeObjective(MixupPmeObjectiveConfig(), None)(FirstPixels(), batch, NOW)
    (gradient,) = torch.autograd.grad(output.loss, pixel_values)
    assert output.loss == 0 and not gradient.any()
