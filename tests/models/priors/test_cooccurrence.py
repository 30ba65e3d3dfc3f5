import numpy as np
import pytest
import torch
from golden_files import cases, golden, sub_cases
from tiny import tiny_model

from hf_mlrpl.models.priors import cooccurrence_graph, object_pair_graph


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("cooccurrence"))
def test_golden(case):
    file = golden("cooccurrence")
    tensors = file.case(case)
    never_present = ~tensors["in.labels"].eq(1).any(dim=0)
    # Where the reference has a row of NaN, ours has 1 on the diagonal and 0 elsewhere.
    expected = torch.where(never_present[:, None], torch.eye(len(never_present)).double(), tensors["out64.graph"])
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-5)):
        graph = cooccurrence_graph(tensors["in.labels"], dtype=dtype)
        assert graph.dtype == dtype
        assert (graph - expected).abs().max() <= tolerance * expected.abs().max()
    isnan = tensors["out64.graph"].isnan()
    assert torch.equal(isnan, never_present[:, None].expand_as(isnan))
    if "out.isnan" in tensors:
        assert torch.equal(isnan, tensors["out.isnan"].bool())


@pytest.mark.golden
def test_golden_reads_every_output():
    names = {
        name.rpartition("/")[2] for case in sub_cases("cooccurrence") for name in golden("cooccurrence").case(case)
    }
    assert names <= {"in.labels", "out64.graph", "out.isnan"}
    assert all("out64.graph" in golden("cooccurrence").case(case) for case in sub_cases("cooccurrence"))


def test_rows_are_conditional_probabilities():
    labels = np.array([[1, 1, -1], [1, -1, -1], [1, 0, 1], [-1, 1, 0]])
    expected = torch.tensor([[1, 1 / 3, 1 / 3], [1 / 2, 1, 0], [1, 0, 1]])
    assert torch.allclose(cooccurrence_graph(labels), expected)
    unbiased = torch.tensor([[1, 1 / 2, 1 / 3], [1 / 2, 1, 0], [1, 0, 1]])  # label 2 never known where label 1 is
    assert torch.allclose(cooccurrence_graph(torch.tensor(labels), estimator="unbiased"), unbiased)


def test_the_unbiased_estimator_is_unbiased_under_partial_labels():
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(20000, 1, generator=generator) < 0.5
    second = torch.where(first, torch.rand(20000, 1, generator=generator) < 0.6, torch.zeros(1, dtype=torch.bool))
    full = torch.cat([first, second], dim=1).int() * 2 - 1
    hidden = torch.where(torch.rand(full.shape, generator=generator) < 0.3, full, 0)
    truth = cooccurrence_graph(full)[0, 1].item()
    assert cooccurrence_graph(hidden, estimator="unbiased")[0, 1].item() == pytest.approx(truth, abs=0.03)
    assert cooccurrence_graph(hidden)[0, 1].item() == pytest.approx(0.3 * truth, abs=0.03)


@pytest.mark.parametrize("estimator", ["published", "unbiased"])
def test_a_label_never_present_gets_an_empty_row_and_a_warning(estimator, caplog):
    graph = cooccurrence_graph(np.array([[1, -1], [1, 0]]), estimator=estimator, names=["cat", "unicorn"])
    assert torch.equal(graph, torch.eye(2))
    assert "1 label(s) are never known to be present" in caplog.text and "unicorn" in caplog.text


def test_all_unknown_gives_the_identity():
    assert torch.equal(cooccurrence_graph(np.zeros((4, 3), dtype=np.int8)), torch.eye(3))


def test_bad_input():
    with pytest.raises(ValueError, match="`estimator` must be one of published, unbiased, got 'counts'"):
        cooccurrence_graph(np.ones((2, 2)), estimator="counts")
    with pytest.raises(ValueError, match="got 2"):
        cooccurrence_graph(np.array([[1, 2]]))
    with pytest.raises(ValueError, match="shape"):
        cooccurrence_graph(np.ones(3))


def test_pairs_of_objects():
    """An image with 3 persons and 2 dogs adds 6 pairs."""
    graph = object_pair_graph(np.array([[3, 2, 0], [1, 0, 0], [0, 1, 0]]))
    np.testing.assert_allclose(graph, [[0, 6 / 4, 0], [6 / 3, 0, 0], [0, 0, 0]])


def test_a_model_may_take_a_graph_from_a_file(tmp_path):
    graph = np.arange(25, dtype=np.float32).reshape(5, 5)
    np.save(tmp_path / "graph.npy", graph)
    model = tiny_model("ssgrl", 5)
    model.config.label_graph = str(tmp_path / "graph.npy")
    model.set_priors()
    assert np.array_equal(model.label_graph.numpy(), graph) and model.config.label_graph == "labels"
    np.save(tmp_path / "graph.npy", graph[:3])
    model.config.label_graph = str(tmp_path / "graph.npy")
    with pytest.raises(ValueError, match=r"must hold a \(5, 5\) matrix"):
        model.set_priors()
