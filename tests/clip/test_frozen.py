"""Frozen weights are cast once under autocast, and nothing else changes."""

import pytest
import torch
from test_methods import make_batch
from tiny import tiny_model
from torch.utils._python_dispatch import TorchDispatchMode

from hf_mlrpl.clip import frozen
from hf_mlrpl.clip.frozen import call_frozen


class Casts(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._to_copy.default
        return function(*args, **(kwargs or {}))


def step(model) -> tuple[int, list[torch.Tensor]]:
    """Number of casts, and logits and gradients."""
    model.zero_grad()
    with Casts() as casts, torch.autocast("cpu", torch.bfloat16):
        logits = model(make_batch()["pixel_values"]).logits
    logits.sum().backward()
    return casts.count, [logits, *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return tiny_model("dualcoop", 5).train()


def test_a_frozen_tower_is_cast_once_and_gives_the_same_bits(model, monkeypatch):
    for part in ("stem", "layer1", "layer2", "layer3", "layer4"):
        model.backbone.network.get_submodule(part).requires_grad_(False)
    with monkeypatch.context() as patch:
        patch.setattr(frozen, "_short_weights", lambda module: {})
        at_every_use, expected = step(model)
    first, _ = step(model)
    again, found = step(model)
    assert again < at_every_use / 2 and again < first
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True)) and len(found) > 2


@pytest.mark.parametrize("change", ["in place", "loaded", "replaced"])
def test_weights_that_change_are_cast_again(change):
    layer, x = torch.nn.Linear(3, 3).requires_grad_(False), torch.ones(1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        before = call_frozen(layer, x)
        if change == "in place":
            layer.weight.add_(1)
        elif change == "loaded":
            layer.load_state_dict({name: tensor + 1 for name, tensor in layer.state_dict().items()})
        else:
            layer.weight = torch.nn.Parameter(layer.weight + 1, requires_grad=False)
        assert torch.equal(call_frozen(layer, x), layer(x)) and not torch.equal(layer(x), before)


def test_what_is_trained_or_computed_without_autocast_keeps_its_weights():
    layer, x = torch.nn.Linear(3, 3), torch.ones(1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        call_frozen(layer, x).sum().backward()
    assert layer.weight.grad is not None
    assert call_frozen(layer.requires_grad_(False), x).dtype == torch.float32


def test_weights_that_were_cast_for_inference_can_be_trained_through():
    layer, x = torch.nn.Linear(3, 3).requires_grad_(False), torch.ones(1, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.inference_mode():
            call_frozen(layer, x)
        call_frozen(layer, x).sum().backward()
    assert x.grad is not None
