import numpy as np
import pytest

from hf_mlrpl.data import label_kinds
from hf_mlrpl.data.label_kinds import kind_of_labels
from hf_mlrpl.data.protocols.rules import RandomKnown, SinglePositive


@pytest.mark.parametrize(
    "labels, kind",
    [
        ([[1, -1], [-1, 1]], label_kinds.FULL),
        ([[1, -1], [0, 1]], label_kinds.PARTLY_KNOWN),
        ([[1, -1], [0, 0]], label_kinds.PARTLY_KNOWN),
        ([[1, 1], [0, 1]], label_kinds.POSITIVES_ONLY),
        ([[1, 1], [1, 1]], label_kinds.POSITIVES_ONLY),
        ([[1, 0], [0, 1], [0, 0]], label_kinds.ONE_POSITIVE),
        ([[-1, 0], [0, -1]], label_kinds.NEGATIVES_ONLY),
        ([[0, 0]], label_kinds.NOTHING_KNOWN),
    ],
)
def test_kinds(labels, kind):
    assert kind_of_labels(np.array(labels, dtype=np.int8)) == kind


def test_what_protocols_leave():
    full = np.where(np.random.RandomState(7).rand(11_000, 5) < 0.4, 1, -1).astype(np.int8)
    full[:, 0] = 1
    assert kind_of_labels(full) == label_kinds.FULL
    assert kind_of_labels(RandomKnown(0.1)(full)) == label_kinds.PARTLY_KNOWN
    assert kind_of_labels(SinglePositive()(full)) == label_kinds.ONE_POSITIVE
    full[:-1] = 0  # what decides is in the last block
    full[-1] = [1, 1, 0, 0, 0]
    assert kind_of_labels(full) == label_kinds.POSITIVES_ONLY
