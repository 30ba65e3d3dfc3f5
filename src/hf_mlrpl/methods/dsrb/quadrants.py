"""Quadrants of the map: where a label is, and the mean representation of each label in each of them."""

import torch
from torch import Tensor

from ...data.images.training_images import TrainingImages
from ..prototypes import Prototypes, map_positives
from .modeling_dsrb import DsrbForMultiLabelClassification

NUM_QUADRANTS = 4


def quadrants_of_peaks(maps: Tensor) -> Tensor:
    """The quadrant in which each map is largest, `(batch_size, num_labels)` int64.

    Args:
        maps: `(batch_size, num_labels, height, width)`. An odd number of rows or columns is split below its half.

    Returns:
        0 is top left, 1 top right, 2 bottom left, 3 bottom right.
    """
    height, width = maps.shape[-2:]
    peak = maps.flatten(2).argmax(dim=2)
    is_below, is_right = peak // width >= height // 2, peak % width >= width // 2
    return 2 * is_below.long() + is_right.long()


class QuadrantMeans:
    """Means of the first representations of each label in each quadrant.

    Args:
        most: representations that count, for each label and quadrant; later ones are left out.
        count_zero: divide by one more than their number, as the authors' code does, which begins with a map of zeros.
    """

    def __init__(self, num_labels: int, dim: int, *, most: int, count_zero: bool = False):
        self.most, self.count_zero = most, count_zero
        self.sums = torch.zeros(num_labels * NUM_QUADRANTS, dim, dtype=torch.float64)
        self.counts = torch.zeros(num_labels * NUM_QUADRANTS, dtype=torch.int64)

    def add(self, representations: Tensor, labels: Tensor, quadrants: Tensor) -> None:
        """Count `(n, dim)` representations of `labels` in `quadrants`, `(n,)` each, in the order of the images."""
        bins = labels * NUM_QUADRANTS + quadrants
        order = bins.argsort(stable=True)
        grouped = bins[order]
        starts = torch.searchsorted(grouped, torch.arange(len(self.counts)))
        place = torch.arange(len(bins)) - starts[grouped]  # among those of the same bin
        kept = order[self.counts[grouped] + place < self.most]
        self.sums.index_add_(0, bins[kept], representations[kept].to(self.sums.dtype))
        self.counts += bins[kept].bincount(minlength=len(self.counts))

    def prototypes(self) -> Prototypes:
        """A mean for each label and quadrant; a quadrant without representations has the mean of the label."""
        sums, counts = self.sums.unflatten(0, (-1, NUM_QUADRANTS)), self.counts.view(-1, NUM_QUADRANTS)
        of_label = counts.sum(dim=1)
        mean_of_label = sums.sum(dim=1) / of_label.clamp(min=1).unsqueeze(1)
        means = sums / (counts + self.count_zero).clamp(min=1).unsqueeze(2)
        means = torch.where(counts.unsqueeze(2) > 0, means, mean_of_label.unsqueeze(1))
        return Prototypes(means, of_label)


@torch.no_grad()
def quadrant_prototypes(
    model: DsrbForMultiLabelClassification,
    images: TrainingImages,
    *,
    peak: str,
    most: int,
    count_zero: bool = False,
) -> Prototypes:
    """Mean representations of the known positives by label and quadrant, from one pass over the images.

    Args:
        model: in evaluation mode.
        peak: what says where a label is, see `DsrbObjectiveConfig`.
        most, count_zero: see `QuadrantMeans`.

    Returns:
        Centres `(num_labels, 4, dim)` in float64, zero for a label without known positives.
    """
    config = model.config
    means = QuadrantMeans(config.num_labels, config.representation_dim, most=most, count_zero=count_zero)

    def represent(batch: dict[str, Tensor]) -> Tensor:
        """Representations, and behind them the quadrant of each label, `(batch_size, num_labels, dim + 1)`."""
        representations, quadrants = locate(model, model.encode(batch["pixel_values"]), peak)
        return torch.cat([representations, quadrants.unsqueeze(2).to(representations.dtype)], dim=2)

    for _, labels, found in map_positives(represent, images):
        means.add(found[:, :-1], labels, found[:, -1].long())
    return means.prototypes()


def locate(model: DsrbForMultiLabelClassification, features: Tensor, peak: str) -> tuple[Tensor, Tensor]:
    """Representations, `(batch_size, num_labels, dim)`, and the quadrant of each label, `(batch_size, num_labels)`."""
    stage = model.represent if peak == "attention" else model.represent_with_contributions
    representations, maps = stage(features)
    return representations, quadrants_of_peaks(maps.detach())
