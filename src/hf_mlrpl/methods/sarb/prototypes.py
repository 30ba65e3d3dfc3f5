"""Prototypes of each label: k-means over the representations of the images that are known to show it."""

from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from ...data.training_images import TrainingImages
from ...distributed import gather_rows


class Prototypes(NamedTuple):
    """
    centers: `(num_labels, num_prototypes, dim)` in float32; 0 for labels without known positives.
    counts: known positives of each label, `(num_labels,)` int64.
    """

    centers: Tensor
    counts: Tensor


@torch.no_grad()
def label_prototypes(model: Any, images: TrainingImages, num_prototypes: int, *, seed: int) -> Prototypes:
    """Look at all training images, and cluster the representations of each label's known positives."""
    representations, labels = [], []
    for batch in images.batches("Prototypes"):
        own, _ = model.represent(batch["pixel_values"])
        inside = gather_rows(batch["index"]).ge(0)
        representations.append(gather_rows(own.float())[inside].cpu())
        labels.append(gather_rows(batch["labels"])[inside].cpu())
    stored, positive = torch.cat(representations).numpy(), torch.cat(labels).eq(1)
    counts = positive.sum(dim=0)
    centers = torch.zeros(positive.shape[1], num_prototypes, stored.shape[2])
    for label in counts.nonzero().flatten().tolist():
        vectors = stored[positive[:, label].numpy(), label]
        found = KMeans(min(num_prototypes, len(vectors)), n_init=10, random_state=seed).fit(vectors).cluster_centers_
        centers[label] = torch.from_numpy(np.resize(found, (num_prototypes, found.shape[1])))
    return Prototypes(centers, counts)
