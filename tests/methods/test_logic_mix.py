import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_focal import NOW

from hf_mlrpl.methods import logic_mix
from hf_mlrpl.methods.logic_mix import LogicMixObjective, LogicMixObjectiveConfig, draw_shares, mix_labels

CPU = torch.device("cpu")


class FirstPixels(torch.nn.Module):
    """A model whose logits are the first pixels of an image."""

    def encode(self, pixel_values):
        return pixel_values

    def represent(self, features):
        return features.flatten(1)[:, :3], None

    def classify(self, representations):
        return representations


@given(st.integers(1, 6), st.integers(1, 4), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_labels_are_a_logical_or(num_images, num_labels, random):
    labels = torch.tensor([[random.choice((-1, 0, 1)) for _ in range(num_labels)] for _ in range(num_images)])
    shares = torch.tensor([[random.choice((0.0, 0.5)) for _ in range(num_images)] for _ in range(4)])
    shares[:, 0] = 0.5
    for mixture, mixed in zip(shares.tolist(), mix_labels(labels, shares).tolist(), strict=True):
        members = [labels[i].tolist() for i in range(num_images) if mixture[i]]
        for column, label in enumerate(mixed):
            seen = {member[column] for member in members}
            assert label == (1 if 1 in seen else -1 if seen == {-1} else 0)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float32])
def test_labels_are_those_of_mlcpl(dtype):
    """Version 0.1.7."""
    labels = torch.tensor([[1, 1, 1, -1, -1, 0], [1, -1, 0, -1, 0, 0], [0, 0, 0, -1, -1, -1]], dtype=dtype)
    shares = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0]])
    mixed = mix_labels(labels, shares)
    assert mixed.dtype == dtype and mixed.tolist() == [[1, 1, 1, -1, 0, 0], [1, 1, 1, -1, 0, 0]]


def test_shares_are_those_of_means_with_random_partners():
    torch.manual_seed(0)
    shares = draw_shares(2000, LogicMixObjectiveConfig(probability=0.5, min_images=2, max_images=3), CPU)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(2000))
    members = shares.gt(0).sum(dim=1)
    assert shares.diagonal().gt(0).all() and members.max() == 3
    assert [members.eq(n).double().mean().item() for n in (1, 2, 3)] == pytest.approx([0.5, 0.25, 0.25], abs=0.05)
    assert set((shares[members.eq(3)] * 3).round().unique().tolist()) <= {0, 1, 2}


def test_no_mixture_at_probability_0_and_in_a_batch_of_one():
    assert torch.equal(draw_shares(5, LogicMixObjectiveConfig(probability=0.0), CPU), torch.eye(5))
    assert torch.equal(draw_shares(1, LogicMixObjectiveConfig(probability=1.0), CPU), torch.ones(1, 1))


@pytest.mark.parametrize("autocast", [False, True])
def test_images_and_losses_of_mixtures(monkeypatch, autocast):
    """The first image stays alone, the second is half the third."""
    shares = torch.tensor([[1.0, 0, 0], [0, 0.5, 0.5], [0, 0, 1.0]])
    monkeypatch.setattr(logic_mix, "draw_shares", lambda *_: shares)
    config = LogicMixObjectiveConfig(gamma_negative=0.0, clip=0.0, mixed_gamma_positive=1.0)
    pixels = torch.tensor([[1.0, -2.0, 0.3], [3.0, 0.2, -1.0], [-1.0, 0.6, 0.5]])
    labels = torch.tensor([[1, -1, 0], [-1, 1, 0], [-1, 0, 1]])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        batch = {"pixel_values": pixels.view(3, 3, 1, 1), "labels": labels}
        output = LogicMixObjective(config, None)(FirstPixels(), batch, NOW)
    torch.testing.assert_close(output.logits, torch.tensor([[1.0, -2.0, 0.3], [1.0, 0.4, -0.25], [-1.0, 0.6, 0.5]]))

    def loss(logit, exponent=0):
        p = torch.tensor(logit).sigmoid()
        return -((1 - p) ** exponent) * p.log()

    first = loss(1.0) + loss(2.0)
    second = loss(-1.0) + loss(0.4, exponent=1) + loss(-0.25, exponent=1)
    third = loss(1.0) + loss(0.5)
    torch.testing.assert_close(output.loss, (first + second + third) / 3)


def test_nothing_known_is_zero_with_zero_gradient():
    pixel_values = torch.randn(2, 3, 1, 1, requires_grad=True)
    batch = {"pixel_values": pixel_values, "labels": torch.zeros(2, 3)}
    output = LogicMixObjective(LogicMixObjectiveConfig(), None)(FirstPixels(), batch, NOW)
    (gradient,) = torch.autograd.grad(output.loss, pixel_values)
    assert output.loss == 0 and not gradient.any()


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"min_images": 0}, "`min_images` must lie between 1 and `max_images`, got 0 and 3"),
        ({"min_images": 4}, "`min_images` must lie between 1 and `max_images`, got 4 and 3"),
    ],
)
def test_settings_that_cannot_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        LogicMixObjectiveConfig(**wrong)
