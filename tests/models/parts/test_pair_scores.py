import pytest
import torch

from hf_mlrpl.models.parts import pair_scores as module
from hf_mlrpl.models.parts.pair_scores import pair_scores


def scores_and_gradients(left, right, weight):
    inputs = [tensor.clone().requires_grad_() for tensor in (left, right, weight)]
    scores = pair_scores(*inputs)
    return [scores, *torch.autograd.grad((scores * torch.arange(scores.numel()).view_as(scores)).sum(), inputs)]


def direct(left, right, weight):
    """The definition, pair by pair."""
    inputs = [tensor.clone().requires_grad_() for tensor in (left, right, weight)]
    first, second = torch.triu_indices(left.shape[1], left.shape[1], offset=1)
    scores = (torch.relu(inputs[0][:, first] + inputs[1][:, second]) * inputs[2]).sum(dim=-1)
    return [scores, *torch.autograd.grad((scores * torch.arange(scores.numel()).view_as(scores)).sum(), inputs)]


@pytest.mark.parametrize("tiles", ["_short_tiles", "_wide_tiles"])
@pytest.mark.parametrize("size", [1, 40, 10**9])
@pytest.mark.parametrize(("num_labels", "shared"), [(2, False), (2, True), (7, False), (7, True)])
def test_tiles_of_a_cpu_and_of_a_gpu_give_the_same(tiles, size, num_labels, shared, monkeypatch):
    monkeypatch.setattr(module, "_short_tiles", getattr(module, tiles))
    monkeypatch.setattr(module, "_CPU_TILE", size)
    monkeypatch.setattr(module, "_GPU_TILE", size)
    torch.manual_seed(0)
    left, right = torch.randn(2, 3, num_labels, 4, dtype=torch.float64)
    weight = torch.randn(1 if shared else num_labels * (num_labels - 1) // 2, 4, dtype=torch.float64)
    expected = direct(left, right, weight)
    for actual, wanted in zip(scores_and_gradients(left, right, weight), expected, strict=True):
        torch.testing.assert_close(actual, wanted)


def test_a_gpu_launches_few_kernels():
    """Counted on a CPU: a tile of a GPU holds the pairs of several first labels."""
    assert len([*module._wide_tiles(80, 16 * 1024)]) <= 2
    assert len([*module._wide_tiles(1203, 16 * 1024)]) <= 401


def test_a_single_label_has_no_pairs():
    assert pair_scores(torch.randn(3, 1, 4), torch.randn(3, 1, 4), torch.randn(0, 4)).shape == (3, 0)
