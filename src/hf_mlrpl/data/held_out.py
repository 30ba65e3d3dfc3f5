"""The training images that are held out for validation."""

from typing import TYPE_CHECKING

import numpy as np

from ..extras import optional_packages
from ..labels import POSITIVE
from .columns import label_matrix

if TYPE_CHECKING:
    from datasets import Dataset


def hold_out(
    images: "Dataset", num_held_out: int, *, seed: int | None = None, stratify: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the training and of the validation part, sorted.

    Args:
        images: a data set with the columns of `hf_mlrpl.data.columns`.
        num_held_out: images of the validation part, above 0 and below `len(images)`.
        seed: by default the same images in all our runs. A seed draws those of Cole et al. 2021, whose code has 1200.
        stratify: each label is known to be present in the same share of both parts, as far as that is possible: by
            iterative stratification (Sechidis et al. 2011), with the seed 0 by default.
    """
    if stratify:
        with optional_packages():
            from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

        present = label_matrix(images) == POSITIVE
        strata = np.column_stack([present, ~present.any(axis=1)]).astype(int)  # images that show nothing, too
        splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=num_held_out, random_state=seed or 0)
        kept, held_out = next(splitter.split(strata, strata))
    else:
        order = np.random.RandomState(seed or 0).permutation(len(images))
        if seed is None:
            order = order[::-1]
        kept, held_out = order[:-num_held_out], order[-num_held_out:]
    return np.sort(kept), np.sort(held_out)
