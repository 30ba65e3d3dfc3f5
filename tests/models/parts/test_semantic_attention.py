"""Against a transcription of its definition; parity with the published code is in tests/methods/test_add_gcn.py."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mlrpl.models.parts.semantic_attention import SemanticAttention

small = st.integers(1, 5)


def slow(module: SemanticAttention, features, divisor):
    """Vector by vector: the transformed positions, each as heavy as its sigmoid says."""
    (num_labels, image_dim), dim = module.score.weight.shape[:2], len(module.transform.weight)
    score, transform = module.score.weight.view(num_labels, image_dim), module.transform.weight.view(dim, image_dim)
    batch_size, _, height, width = features.shape
    images, maps = [], []
    for b in range(batch_size):
        for c in range(num_labels):
            vector = torch.zeros(dim, dtype=features.dtype)
            for y in range(height):
                for x in range(width):
                    place = features[b, :, y, x]
                    attention = torch.sigmoid(score[c] @ place)
                    maps.append(attention)
                    vector = vector + attention * (transform @ place + module.transform.bias)
            images.append(vector / divisor)
    shape = batch_size, num_labels
    return torch.stack(images).view(*shape, dim), torch.stack(maps).view(*shape, height, width)


@pytest.mark.parametrize("pooling", ["sum", "mean"])
@given(batch_size=small, image_dim=small, num_labels=small, dim=small, height=small, width=small, seed=st.integers(0))
@settings(max_examples=20, deadline=None)
def test_equals_its_definition(pooling, batch_size, image_dim, num_labels, dim, height, width, seed):
    torch.manual_seed(seed % 2**31)
    module = SemanticAttention(image_dim, num_labels, dim, pooling).double()
    features = torch.randn(batch_size, image_dim, height, width, dtype=torch.float64, requires_grad=True)
    actual = module(features)
    expected = slow(module, features, height * width if pooling == "mean" else 1)
    inputs = [features, *module.parameters()]
    projections = [torch.randn_like(output) for output in actual]
    gradients = [
        torch.autograd.grad(sum((o * p).sum() for o, p in zip(outputs, projections, strict=True)), inputs)
        for outputs in (actual, expected)
    ]
    for fast, plain in zip((*actual, *gradients[0]), (*expected, *gradients[1]), strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-12)


def test_layers_start_as_those_of_torch():
    torch.manual_seed(0)
    module = SemanticAttention(8, 5, 6)
    torch.manual_seed(0)
    score, transform = torch.nn.Conv2d(8, 5, 1, bias=False), torch.nn.Conv2d(8, 6, 1)
    assert torch.equal(module.score.weight, score.weight)
    assert torch.equal(module.transform.weight, transform.weight)
    assert torch.equal(module.transform.bias, transform.bias)


def test_nothing_of_the_size_of_all_labels_and_positions_and_dimensions_is_made():
    batch_size, num_labels, dim, side = 2, 30, 40, 6
    module, features = SemanticAttention(dim, num_labels, dim), torch.randn(batch_size, dim, side, side)
    saved: list[int] = []

    def remember(tensor):
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        module(features)
    assert max(saved) <= batch_size * dim * side * side


def test_autocast_gives_maps_in_float32():
    module, features = SemanticAttention(8, 5, 6), torch.randn(2, 8, 3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        representations, attention_maps = module(features)
    assert attention_maps.dtype == torch.float32 and representations.shape == (2, 5, 6)
    torch.testing.assert_close(representations.float(), module(features)[0], rtol=0.05, atol=0.05)
