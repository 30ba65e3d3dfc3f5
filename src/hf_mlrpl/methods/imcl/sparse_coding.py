"""Sparse coding of images by other images: orthogonal matching pursuit on labels and features together."""

from typing import NamedTuple

import torch
from torch import Tensor


class SparseCode(NamedTuple):
    """What each image of a batch is a combination of; K images at most.

    neighbours: `(batch_size, K)` rows of the dictionary, 0 where there are fewer.
    is_used: `(batch_size, K)` booleans.
    label_coefficients, feature_coefficients: `(batch_size, K)`, 0 where there are fewer.
    """

    neighbours: Tensor
    is_used: Tensor
    label_coefficients: Tensor
    feature_coefficients: Tensor


class Pursuit(NamedTuple):
    """How neighbours are chosen.

    num_neighbours: of an image, K at most.
    label_weight, feature_weight: of the two similarities; one with the weight 0 does not count.
    threshold: smallest score of a neighbour.
    balance: whether each similarity is divided by its largest value.
    first_item_ends: whether the first item of the dictionary, found after another one, ends the search.
    """

    num_neighbours: int
    label_weight: float
    feature_weight: float
    threshold: float
    balance: bool = False
    first_item_ends: bool = False


@torch.no_grad()
def sparse_code(
    labels: Tensor, features: Tensor, their_labels: Tensor, their_features: Tensor, allowed: Tensor, pursuit: Pursuit
) -> SparseCode:
    """Find a few dictionary images whose labels and features combine to those of each image.

    Args:
        labels: completed labels of the images, `(batch_size, num_labels)`.
        features: `(batch_size, dim)`.
        their_labels, their_features: those of the dictionary, `(num_items, num_labels)` and `(num_items, dim)`.
        allowed: `(batch_size, num_items)` booleans, which items an image may take.
        pursuit: how they are chosen.
    """
    batch_size = len(labels)
    largest = max(pursuit.label_weight, pursuit.feature_weight) + 1e-4
    weights = pursuit.label_weight / largest, pursuit.feature_weight / largest
    residuals = [labels, features]
    neighbours = torch.zeros(batch_size, 0, dtype=torch.int64, device=labels.device)
    is_used = torch.zeros(batch_size, 0, dtype=torch.bool, device=labels.device)
    goes_on = torch.ones(batch_size, dtype=torch.bool, device=labels.device)
    coefficients = [labels.new_zeros(batch_size, 0)] * 2
    for found in range(pursuit.num_neighbours):
        similarity, signs = labels.new_zeros(()), labels.new_zeros(())
        for weight, residual, items in zip(weights, residuals, (their_labels, their_features), strict=True):
            products = residual @ items.t()  # (B, N)
            shares = products.square() / items.square().sum(dim=1).clamp(min=torch.finfo(items.dtype).tiny)
            if pursuit.balance:
                highest = shares.masked_fill(~allowed, 0).amax(dim=1, keepdim=True)
                shares = shares / highest.clamp(min=torch.finfo(items.dtype).tiny)
            similarity = similarity + weight * shares
            signs = signs + products.sign() * (weight > 0)
        scores, best = (similarity * signs).masked_fill(~allowed, -torch.inf).max(dim=1)
        is_new = ~((neighbours == best.unsqueeze(1)) & is_used).any(dim=1)
        if pursuit.first_item_ends and found:
            is_new = is_new & best.ne(0)
        goes_on = goes_on & is_new & (scores >= pursuit.threshold) & scores.isfinite()
        neighbours = torch.cat([neighbours, best.where(goes_on, 0).unsqueeze(1)], dim=1)
        is_used = torch.cat([is_used, goes_on.unsqueeze(1)], dim=1)
        targets = ((labels, their_labels), (features, their_features))
        coefficients = [least_squares(target, items[neighbours], is_used) for target, items in targets]
        residuals = [
            target - combine(items[neighbours], some)
            for (target, items), some in zip(targets, coefficients, strict=True)
        ]
    return SparseCode(neighbours, is_used, *coefficients)


def least_squares(targets: Tensor, atoms: Tensor, is_used: Tensor) -> Tensor:
    """Coefficients of the combination of `atoms` that comes nearest to each target, `(batch_size, K)`.

    In float64, and never a wait for the host; of atoms that depend on each other, any combination.

    Args:
        targets: `(batch_size, dim)`.
        atoms: `(batch_size, K, dim)`.
        is_used: `(batch_size, K)` booleans; the others have the coefficient 0.
    """
    atoms = (atoms * is_used.unsqueeze(2)).double()
    gram = atoms @ atoms.mT
    ridge = 1e-12 * gram.diagonal(dim1=1, dim2=2).amax(dim=1, keepdim=True) + (~is_used).double()
    products = (atoms @ targets.double().unsqueeze(2)).squeeze(2)
    solution, _ = torch.linalg.solve_ex(gram + ridge.clamp(min=1e-300).diag_embed(), products.unsqueeze(2))
    return solution.squeeze(2).where(is_used, 0).to(targets.dtype)


def combine(atoms: Tensor, coefficients: Tensor) -> Tensor:
    """Sums of `(batch_size, K, dim)` atoms with their coefficients, `(batch_size, dim)`."""
    return (coefficients.unsqueeze(1) @ atoms).squeeze(1)
