"""What all items of a training run have."""

import numpy as np
from torch.utils.data import Dataset


class LabelledItems(Dataset):
    """Items with `labels` and `index`, images or what stands for them.

    Attributes:
        things: what they are, for messages.
        labels: `(num_items, num_labels)` int8 in {-1, 0, +1}.
        label_names: in the order of `labels`.
    """

    things = "images"

    def __init__(self, labels: np.ndarray, label_names: list[str]):
        self.labels, self.label_names = labels, label_names

    def __len__(self) -> int:
        return len(self.labels)

    def digests(self) -> dict[str, str]:
        """Digests of what must not change between two parts of a run, by name."""
        return {}

    def count_bad_images(self) -> int:
        """Unreadable images met so far by any process, each counted once. All processes must call it."""
        return 0
