"""The labels that every training image was last selected with: a table of one bit an entry, and its column sums."""

import torch
import torch.nn.functional as F
from torch import Tensor


def pack(selected: Tensor) -> Tensor:
    """`(num_images, num_labels)` booleans as `(num_images, ceil(num_labels / 8))` bytes."""
    padded = F.pad(selected, (0, -selected.shape[1] % 8)).unflatten(1, (-1, 8))
    return (padded * _bits(selected.device)).sum(dim=2).to(torch.uint8)


def unpack(packed: Tensor, num_labels: int) -> Tensor:
    """The booleans of `pack`."""
    return packed.unsqueeze(2).bitwise_and(_bits(packed.device)).ne(0).flatten(1)[:, :num_labels]


def _bits(device: torch.device) -> Tensor:
    return 2 ** torch.arange(8, dtype=torch.uint8, device=device)


@torch.no_grad()
def update_selection(table: Tensor, counts: Tensor, index: Tensor, packed: Tensor) -> None:
    """Write the rows of a batch into `table`, and correct `counts` by what has changed; both in place.

    A row without any label is not written. Of several rows of the same image the last one counts.

    Args:
        table: `(num_images, ceil(num_labels / 8))` bytes.
        counts: `(num_labels,)` integers, how many images are selected with each label.
        index: `(batch_size,)` rows of the images in the table; negative ones are no images.
        packed: `(batch_size, ceil(num_labels / 8))` bytes, what the images are selected with now.
    """
    written = packed.ne(0).any(dim=1) & index.ge(0)
    same_image = index.unsqueeze(0) == index.unsqueeze(1)
    written &= ~(same_image & written).triu(diagonal=1).any(dim=1)
    rows = index.clamp(min=0)
    before = table[rows]
    after = torch.where(written.unsqueeze(1), packed, before)
    table.index_add_(0, rows, after - before)  # bytes are added modulo 256, and rows that are not written add 0
    counts += (unpack(after, len(counts)).to(counts.dtype) - unpack(before, len(counts)).to(counts.dtype)).sum(dim=0)
