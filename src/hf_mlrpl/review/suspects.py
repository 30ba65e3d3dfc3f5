"""Known labels that a model contradicts, found and ranked by cleanlab, label by label over the known ones.

Scores must come from a model that has not learned from the labels, else it repeats their mistakes.
"""

from dataclasses import dataclass

import numpy as np

from ..extras import optional_packages
from ..labels import POSITIVE, UNKNOWN


@dataclass(frozen=True)
class Suspects:
    """Known labels that are probably wrong, the worst first.

    rows, columns: of the label matrix.
    quality: score of the given label in [0, 1], cleanlab's self-confidence: of an absent label 1 minus its score.
    not_judged: columns with known labels of one kind only, or with too few of one, where nothing can be compared.
    """

    rows: np.ndarray
    columns: np.ndarray
    quality: np.ndarray
    not_judged: list[int]

    def __len__(self) -> int:
        return len(self.rows)


MIN_OF_A_KIND = 5  # known labels of either kind, so that a mean score of each says something


def find_suspects(
    scores: np.ndarray, labels: np.ndarray, *, images: np.ndarray | None = None, count: int | None = None
) -> Suspects:
    """Find wrong labels by confident learning (Northcutt et al. 2021) over the known labels only, each label a problem
    of its own with two classes, as cleanlab does for multi-label data (Thyagarajan et al. 2023).

    Args:
        scores: `(num_images, num_labels)` in [0, 1].
        labels: `(num_images, num_labels)` in {-1, 0, +1}.
        images: `(num_images,)` bool, whose labels are judged; by default all.
        count: at most so many.
    """
    with optional_packages():
        from cleanlab.filter import find_label_issues

    rows, columns, qualities, not_judged = [], [], [], []
    for column in range(labels.shape[1]):
        known = labels[:, column] != UNKNOWN
        known = np.flatnonzero(known if images is None else known & images)
        given = (labels[known, column] == POSITIVE).astype(int)
        if min(given.sum(), len(given) - given.sum()) < MIN_OF_A_KIND:
            not_judged += [column] if len(given) else []
            continue
        present = scores[known, column].astype(np.float64)
        found = find_label_issues(
            given,
            np.column_stack([1 - present, present]),
            return_indices_ranked_by="self_confidence",
            n_jobs=1,
        )
        rows.append(known[found])
        columns.append(np.full(len(found), column))
        qualities.append(np.where(given[found] == 1, present[found], 1 - present[found]))
    joined = [np.concatenate(parts) if parts else np.zeros(0, int) for parts in (rows, columns, qualities)]
    order = np.argsort(joined[2], kind="stable")[:count]
    return Suspects(joined[0][order], joined[1][order], joined[2][order], not_judged)
