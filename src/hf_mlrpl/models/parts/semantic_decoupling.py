"""Semantic decoupling: word vectors attend over the feature map and give one vector per label.

Chen et al., "Learning Semantic-Specific Graph Representation for Multi-Label Image Recognition", ICCV 2019.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ...losses import at_least_float32

_CHUNK_ELEMENTS = {"cpu": 2**21, "cuda": 2**24}  # of a chunk (c, N, J): stays in the caches of a CPU, fills a GPU
_EXPORTED_LABELS = 8  # of a chunk in an exported graph, 6 MB for each image of 448 px


class _BilinearScores(torch.autograd.Function):
    """`tanh(image * word) . weight` for all positions and words, without keeping the `(C, N, J)` products.

    A chunk of words is computed at a time, and again in the backward pass.
    """

    @staticmethod
    def forward(ctx, image: Tensor, words: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(image, words, weight)
        scores = [torch.tanh_(image * chunk.unsqueeze(1)) @ weight for chunk in _chunks(image, words)]
        return torch.cat(scores)  # (C, N)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image, words, weight = ctx.saved_tensors
        grad_image, grad_weight, grad_words = torch.zeros_like(image), torch.zeros_like(weight), []
        chunks = _chunks(image, words)
        for chunk, grad in zip(chunks, grad_scores.split([len(c) for c in chunks]), strict=True):
            products = torch.tanh_(image * chunk.unsqueeze(1))  # (c, N, J)
            grad_weight += grad.flatten() @ products.flatten(0, 1)
            slope = torch.ops.aten.tanh_backward(grad.unsqueeze(-1), products)
            grad_words.append((slope * image).sum(dim=1))
            grad_image += slope.mul_(chunk.unsqueeze(1)).sum(dim=0)
        return grad_image * weight, torch.cat(grad_words) * weight, grad_weight


def _chunks(image: Tensor, words: Tensor) -> tuple[Tensor, ...]:
    if torch.compiler.is_exporting():  # for any batch size
        return words.split(_EXPORTED_LABELS)
    elements = _CHUNK_ELEMENTS.get(image.device.type, 2**22)
    return words.split(max(1, elements // image.numel()))


class SemanticDecoupling(nn.Module):
    """One vector per label by attention over the positions of a feature map.

    The two last projections follow each other without a non-linearity, so they are merged into one vector before they
    meet the map; their biases cancel in the softmax. They stay two parameters, as in the published checkpoints.
    """

    def __init__(self, image_dim: int, word_dim: int, hidden_dim: int):
        super().__init__()
        self.fc_image = nn.Linear(image_dim, hidden_dim, bias=False)
        self.fc_word = nn.Linear(word_dim, hidden_dim, bias=False)
        self.fc_joint = nn.Linear(hidden_dim, hidden_dim)
        self.fc_score = nn.Linear(hidden_dim, 1)
        self.fc_joint.bias.requires_grad_(False)
        self.fc_score.bias.requires_grad_(False)

    def forward(self, features: Tensor, word_embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Decouple a map into labels.

        Args:
            features: `(batch_size, image_dim, height, width)`.
            word_embeddings: `(num_labels, word_dim)`.

        Returns:
            Representations `(batch_size, num_labels, image_dim)` and attention maps `(batch_size, num_labels, height,
            width)`, which sum to 1 over the positions.
        """
        positions = features.flatten(2).transpose(1, 2)  # (B, M, D)
        image, words = self.fc_image(positions), self.fc_word(word_embeddings)
        scores = self._scores(image.flatten(0, 1), words).unflatten(1, positions.shape[:2])  # (C, B, M)
        attention = scores.softmax(dim=-1).transpose(0, 1)  # (B, C, M)
        representations = attention.to(positions.dtype) @ positions  # (B, C, D)
        return representations, attention.unflatten(2, features.shape[-2:])

    def _scores(self, image: Tensor, words: Tensor) -> Tensor:
        """Attention scores of `image`, `(N, J)`, for `words`, `(C, J)`, in float32 also under autocast: `(C, N)`."""
        with torch.autocast(image.device.type, enabled=False):
            weight = (self.fc_score.weight @ self.fc_joint.weight).squeeze(0)  # (J,)
            return _BilinearScores.apply(*map(at_least_float32, (image, words, weight)))
