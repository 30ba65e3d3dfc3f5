"""From full labels to partial ones."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..labels import UNKNOWN
from .columns import FULL_LABELS, LABELS, image_files, label_matrix, label_names, set_labels
from .tables.from_dataset import in_our_columns

if TYPE_CHECKING:
    from datasets import Dataset


def hide_labels(dataset: "Dataset", protocol: Callable[..., np.ndarray]) -> "Dataset":
    """`dataset` with `labels` masked by `protocol`; the full labels move to `full_labels`.

    Args:
        dataset: full labels; one without the columns of this library is read as `load_from_dataset` does.
        protocol: full labels in, labels with unknown entries out; see `hf_mlrpl.data.protocols.rules`. One with
            `needs_names` gets the label names, too, one with `needs_files` what `image_files` returns.
    """
    dataset = in_our_columns(dataset)
    labels, names = label_matrix(dataset), label_names(dataset)
    if FULL_LABELS in dataset.column_names or (labels == UNKNOWN).any():
        raise ValueError(
            "`hide_labels` needs full labels, but some labels of the data set are hidden or unknown already. "
            "Was it run twice? Data that come with unknown labels need no protocol. Where lists of labels leave out "
            'what is absent, `load_from_dataset(dataset, unlisted="absent")` says so.'
        )
    arguments: list[Any] = [labels]
    if getattr(protocol, "needs_names", False):
        arguments.append(names)
    if getattr(protocol, "needs_files", False):
        arguments.append(image_files(dataset))
    hidden = protocol(*arguments)
    if hidden.shape != labels.shape or ((hidden != labels) & (hidden != UNKNOWN)).any():
        raise ValueError(f"A protocol may only replace labels by 0 (unknown), but {protocol!r} changed others.")
    return set_labels(dataset.rename_column(LABELS, FULL_LABELS), hidden, names)
