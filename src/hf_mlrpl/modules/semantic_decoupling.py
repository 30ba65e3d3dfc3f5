"""Semantic decoupling: word vectors attend over the feature map and give one vector per label (SSGRL, Eq. 2 to Eq. 5).

Chen et al., "Learning Semantic-Specific Graph Representation for Multi-Label Image Recognition", ICCV 2019.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**26}  # of a chunk (B, M, words, J): fits the cache of a core; fills a GPU


class _BilinearScores(torch.autograd.Function):
    """`tanh(image * word) . weight` for all positions and words, without keeping the `(B, M, C, J)` products.

    A chunk of words is computed at a time, and again in the backward pass.
    """

    @staticmethod
    def forward(ctx, image: Tensor, words: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(image, words, weight)
        scores = [torch.tanh(image.unsqueeze(2) * chunk) @ weight for chunk in _chunks(image, words)]
        return torch.cat(scores, dim=-1)  # (B, M, C)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image, words, weight = ctx.saved_tensors
        exact = torch.promote_types(image.dtype, torch.float32)  # sums over chunks are not rounded to bfloat16
        grad_image, grad_words = torch.zeros_like(image, dtype=exact), []
        grad_weight = torch.zeros_like(weight, dtype=exact)
        chunks = _chunks(image, words)
        for chunk, grad in zip(chunks, grad_scores.split([len(c) for c in chunks], dim=-1), strict=True):
            products = torch.tanh(image.unsqueeze(2) * chunk)  # (B, M, c, J)
            grad_weight += grad.reshape(-1) @ products.flatten(0, 2)
            slope = products.square_().neg_().add_(1).mul_(grad.unsqueeze(-1))
            grad_image += torch.einsum("bmcj,cj->bmj", slope, chunk)
            grad_words.append(torch.einsum("bmcj,bmj->cj", slope, image))
        grad_image = (grad_image * weight).to(image.dtype)
        return grad_image, torch.cat(grad_words) * weight, grad_weight.to(weight.dtype)


def _chunks(image: Tensor, words: Tensor) -> tuple[Tensor, ...]:
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
        weight = (self.fc_score.weight @ self.fc_joint.weight).squeeze(0)  # (J,)
        image, words = self.fc_image(positions), self.fc_word(word_embeddings)
        scores = _BilinearScores.apply(image, words.to(image.dtype), weight.to(image.dtype))
        attention = scores.to(torch.promote_types(scores.dtype, torch.float32)).softmax(dim=1)
        representations = attention.transpose(1, 2).to(positions.dtype) @ positions  # (B, C, D)
        return representations, attention.transpose(1, 2).unflatten(2, features.shape[-2:])
