import pytest
import torch
from golden_files import assert_close, golden
from golden_models import FeatureMap, leaf, load_weights, weight_gradients
from tiny import tiny_model

from hf_mlrpl import GcnMlConfig, GcnMlForMultiLabelClassification
from hf_mlrpl.models.priors.cooccurrence import neighbour_graph

NAME = "gcn_ml"
DTYPES = [torch.float64, torch.float32]


def settings() -> dict[str, float]:
    return {"threshold": golden(NAME).hparams["threshold"], "weight": golden(NAME).hparams["p"]}


def golden_graph(dtype: torch.dtype, **changes) -> torch.Tensor:
    tensors = golden(NAME).tensors
    probabilities = tensors["in.adj_counts"].to(dtype) / tensors["in.class_counts"].to(dtype)[:, None]
    return neighbour_graph(probabilities, **settings() | changes)


@pytest.mark.golden
def test_the_graph_matches_published_code_at_every_threshold():
    names = [name for name in golden(NAME).tensors if name.startswith("out64.adj_t")]
    assert len(names) > 1
    for name in names:
        graph = golden_graph(torch.float64, threshold=float(name.removeprefix("out64.adj_t")))
        assert_close(graph, golden(NAME).tensors[name], torch.float64, name)


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_logits_and_gradients_match_published_code(dtype):
    tensors, weights = golden(NAME).case(), golden(NAME).weights(dtype=dtype)
    words = leaf(tensors["in.word_vectors"], dtype)
    config = GcnMlConfig(
        backbone="test_resnet",
        num_labels=len(words),
        word_embedding_dim=words.shape[1],
        graph_hidden_dim=weights["gcn.0.weight"].shape[1],
    )
    model = GcnMlForMultiLabelClassification(config)
    image_dim = tensors["in.feature_map"].shape[1]
    model.graph_network.layers[1].weight = torch.nn.Parameter(torch.empty(config.graph_hidden_dim, image_dim))
    model.backbone = FeatureMap()
    load_weights(model.to(dtype), weights)
    model.word_embeddings = words
    model.label_graph.copy_(golden_graph(dtype))
    representations, _ = model.represent(tensors["in.feature_map"].to(dtype))
    pooled = representations.detach()[:, 0].requires_grad_()
    outputs = {"pooled_features": pooled, "logits": model.classify(pooled.unsqueeze(1))}
    outputs["scalar"] = (outputs["logits"] * tensors["cot.logits"].to(dtype)).sum()
    outputs["scalar"].backward()
    gradients = {"grad.pooled_features": pooled.grad, "grad.in.word_vectors": words.grad}
    actual = outputs | gradients | weight_gradients(model, weights)
    for name in golden(NAME).outputs():
        key = name if name.startswith("grad.") else name.partition(".")[2]
        if not key.startswith(("A_", "adj_")):  # the graph, compared above
            golden(NAME).check(name, actual[key])


def test_the_paper_normalises_over_the_neighbours_of_a_label_and_follows_the_edges():
    probabilities = torch.tensor([[0, 0.5, 0.9], [0.1, 0, 0.2], [0.3, 0.4, 0]], dtype=torch.float64)
    graph = neighbour_graph(probabilities, threshold=0.4, weight=0.25, normalization="paper")
    raw = torch.tensor([[1, 0.125, 0.125], [0, 1, 0], [0, 0.25, 1]], dtype=torch.float64)
    scale = raw.sum(dim=1).rsqrt()
    torch.testing.assert_close(graph, scale[:, None] * raw * scale, rtol=1e-5, atol=0)


def test_a_label_that_is_never_present_has_no_neighbours_and_spoils_nothing():
    model = tiny_model("gcn_ml", num_labels=4)
    labels = torch.tensor([[1, 1, -1, -1], [1, 1, 0, -1], [-1, 1, 1, 0]], dtype=torch.int8)
    model.set_priors(labels.numpy())
    assert model.label_graph.isfinite().all()
    assert model.label_graph[3].count_nonzero() == 1 and model.label_graph[0, 1] > 0


def test_all_labels_share_the_maximum_of_the_feature_map():
    model = tiny_model("gcn_ml").eval()
    features = model.encode(torch.randn(2, 3, 64, 64))
    representations, attention_maps = model.represent(features)
    assert attention_maps is None and representations.shape == (2, 1, features.shape[1])
    assert torch.equal(representations[:, 0], features.flatten(2).max(dim=2).values)
    own = representations.repeat(1, 5, 1)
    torch.testing.assert_close(model.classify(own), model.classify(representations))
