"""What SST does in a photo, as figures 4 and 5 of its paper show it."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...labels import POSITIVE, UNKNOWN
from ...visualization.canvas import GREEN, ORANGE
from ...visualization.figures import plot_matrix, plot_neighbours
from ...visualization.photo import LabelledPhoto
from ..semantic_transfer import cooccurrence_matrix
from .modeling_sst import SstForMultiLabelClassification
from .objective_sst import SstObjective, intra_image_pseudo_labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANY = 25  # labels that the matrix shows, unless it is told which
FEW = 6  # labels whose bank is shown


@torch.no_grad()
def cooccurrence(
    objective: SstObjective,
    model: SstForMultiLabelClassification,
    photo: LabelledPhoto,
    chosen: Sequence[int] | None = None,
    **others: Any,
) -> "Figure":
    """The co-occurrence matrix of a photo, known labels in green and those that it completes in orange.

    Args:
        chosen: labels to show, by default the likeliest.
    """
    if not objective.needs_cooccurrence_head:
        raise ValueError(
            "There is no co-occurrence to show: with these settings of the objective no head learns it. Train with "
            "`objective.cooccurrence_weight` above 0."
        )
    names, labels, config = model.config.label_names, photo.labels.unsqueeze(0), objective.config
    pair_logits = model.cooccurrence_head(_representations(model, photo)).float()
    matrix = cooccurrence_matrix(pair_logits, len(names))
    threshold = config.intra_threshold.floor
    added = intra_image_pseudo_labels(matrix, labels, threshold, config.vote)[0] != photo.labels
    known = photo.labels.eq(POSITIVE)
    if chosen is None:
        likely = matrix[0].clone().fill_diagonal_(0).amax(dim=1) + 2 * known + added
        chosen = likely.argsort(descending=True)[:MANY].sort().values.tolist()
    is_known, is_added = [
        [name for name, chosen in zip(names, mask, strict=True) if chosen] for mask in (known, added)
    ]
    title = f"{photo.name}: known {', '.join(is_known) or 'nothing'} (green); "
    title += f"completed {', '.join(is_added) or 'nothing'} (orange), threshold {threshold:g}"
    return plot_matrix(
        matrix[0].fill_diagonal_(torch.nan)[chosen][:, chosen].numpy(),
        [names[i] for i in chosen],
        "\n".join(textwrap.wrap(title, 70)),
        "probability that both are there",
        dict.fromkeys(is_known, GREEN) | dict.fromkeys(is_added, ORANGE),
        photo.image,
    )


@torch.no_grad()
def similarities(
    objective: SstObjective,
    model: SstForMultiLabelClassification,
    photo: LabelledPhoto,
    chosen: Sequence[int] | None = None,
    *,
    images: Sequence[Any],
    top: int = 6,
) -> "Figure":
    """For unknown labels the photos of their bank that resemble the photo most, and the mean similarity to the bank.

    Args:
        chosen: labels to show, by default the unknown ones of the largest mean.
        images: those of the training set.
        top: photos of each label.
    """
    vectors = F.normalize(_representations(model, photo)[0], dim=-1)
    cosines = torch.einsum("cd,cqd->cq", vectors, F.normalize(objective.bank[:, :-1], dim=-1))
    means = torch.einsum("cd,cd->c", vectors, objective.centers())
    if chosen is None:
        unknown = photo.labels.eq(UNKNOWN)
        order = means.masked_fill(~unknown, -torch.inf).argsort(descending=True)
        chosen = order[: min(FEW, int(unknown.sum()))].tolist()
    if not chosen:
        raise ValueError(f"All labels of {photo.name} are known. Choose some with `--labels`.")
    if not objective.bank_rows[chosen].ge(0).any():
        raise ValueError(
            "The bank does not know its images: the run is of an earlier version, or the bank is empty. "
            "Train it again."
        )
    rows = []
    for label in chosen:
        sources = objective.bank_rows[label, :-1]
        nearest: dict[int, float] = {}  # an image may be in the bank once for each epoch
        for slot in cosines[label].argsort(descending=True).tolist():
            if sources[slot] >= 0:
                nearest.setdefault(int(sources[slot]), float(cosines[label, slot]))
        neighbours = [(images[row], similarity) for row, similarity in list(nearest.items())[:top]]
        threshold = objective.config.cross_threshold.floor
        rows.append((model.config.label_names[label], float(means[label]), threshold, neighbours))
    return plot_neighbours(photo.image, rows, f"{photo.name}: similarity to the bank of each label")


def _representations(model: SstForMultiLabelClassification, photo: LabelledPhoto) -> Tensor:
    return model.represent(model.encode(photo.pixel_values))[0].float()
