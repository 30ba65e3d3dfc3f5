import pytest
import torch

from hf_mlrpl.methods.scpnet.selection import pack, unpack, update_selection


@pytest.mark.parametrize("num_labels", [1, 7, 8, 9, 20, 80, 312])
def test_packed_labels_come_back(num_labels):
    selected = torch.rand(6, num_labels, generator=torch.Generator().manual_seed(0)) < 0.3
    packed = pack(selected)
    assert packed.dtype == torch.uint8 and packed.shape == (6, (num_labels + 7) // 8)
    assert torch.equal(unpack(packed, num_labels), selected)


def test_the_table_is_that_of_a_loop_over_images():
    """With repeated images, rows without labels, and rows that are no images."""
    generator = torch.Generator().manual_seed(0)
    num_images, num_labels = 12, 11
    expected = torch.zeros(num_images, num_labels, dtype=torch.bool)
    table, counts = pack(expected), torch.zeros(num_labels, dtype=torch.int64)
    for _ in range(40):
        index = torch.randint(-1, num_images, (9,), generator=generator)
        selected = torch.rand(9, num_labels, generator=generator) < 0.1
        for row, labels in zip(index.tolist(), selected, strict=True):
            if row >= 0 and labels.any():
                expected[row] = labels
        update_selection(table, counts, index, pack(selected))
        assert torch.equal(unpack(table, num_labels), expected)
        assert torch.equal(counts, expected.sum(dim=0))
    assert expected.any(dim=1).all()
