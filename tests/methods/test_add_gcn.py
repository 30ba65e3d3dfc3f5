import pytest
import torch
from golden_files import cases, golden
from golden_models import FeatureMap, check_case, cotangent_sum, leaf, load_weights, weight_gradients
from tiny import tiny_model
from torch import Tensor

from hf_mlrpl import AddGcnConfig, AddGcnForMultiLabelClassification
from hf_mlrpl.methods.add_gcn.modeling_add_gcn import DynamicGraphNetwork

NAME = "add_gcn"
STATISTICS = {"dgcn.global_bn.running_mean": "running_mean", "dgcn.global_bn.running_var": "running_var"}


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request):
    return request.param


def golden_model(case: str, dtype: torch.dtype) -> tuple[AddGcnForMultiLabelClassification, dict[str, Tensor]]:
    """A model of the sizes of the file, in evaluation mode, and the weights that it was given."""
    weights = golden(NAME).weights(case, dtype)
    statistics = {ours: weights.pop(name) for name, ours in STATISTICS.items()}
    # Layers that are convolutions over one position in the authors' code
    weights = {name: weight.squeeze(-1) if weight.ndim == 3 else weight for name, weight in weights.items()}
    num_labels, image_dim = weights["sam.score.weight"].shape[:2]
    config = AddGcnConfig(
        backbone="test_resnet", num_labels=num_labels, representation_dim=len(weights["sam.transform.weight"])
    )
    model = AddGcnForMultiLabelClassification(config)
    model.backbone, attention = FeatureMap(), model.attention
    attention.score = torch.nn.Conv2d(image_dim, num_labels, kernel_size=1, bias=False)
    attention.transform = torch.nn.Conv2d(image_dim, config.representation_dim, kernel_size=1)
    load_weights(model.to(dtype), weights)
    model.graph_network.image_norm.load_state_dict(statistics, strict=False)
    return model.eval(), weights


def outputs_of(model: AddGcnForMultiLabelClassification, features: Tensor) -> dict[str, Tensor]:
    representations, _ = model.represent(features)
    vectors, scores = representations[..., :-1], representations[..., -1]
    nodes = model.graph_network(vectors)
    return {
        "sam_nodes": vectors.transpose(1, 2),
        "dgcn_nodes": nodes.transpose(1, 2),
        "scores_max": scores,
        "logits_sm": scores,
        "logits_sr": model.classifier(vectors + nodes),
        "logits": model.classify(representations),
    }


def gradients_of(scalar: Tensor, model, features: Tensor, weights: dict[str, Tensor], like: dict[str, Tensor]):
    """Gradients under their golden names and in their golden shapes."""
    scalar.backward()
    gradients = {"grad.in.feature_map": features.grad} | weight_gradients(model, weights)
    return {name: gradient.view_as(like[name]) for name, gradient in gradients.items() if name in like}


@pytest.mark.golden
@pytest.mark.parametrize("case", [case for case in cases(NAME) if not case.values[0].endswith("sam")])
def test_matches_published_code(case, dtype):
    tensors = golden(NAME).case(case)
    model, weights = golden_model(case, dtype)
    features = leaf(tensors["in.feature_map"], dtype)
    outputs = outputs_of(model, features)
    of_logits = {name: cotangent for name, cotangent in tensors.items() if name.startswith("cot.logits")}
    gradients = gradients_of(cotangent_sum(outputs, of_logits), model, features, weights, tensors)
    assert torch.equal(model(features).logits, outputs["logits"])

    vectors = model.train().represent(features)[0][..., :-1]
    outputs["train_logits_sr"] = model.classifier(vectors + model.graph_network(vectors))
    for ours in STATISTICS.values():
        outputs[f"train_{ours}"] = getattr(model.graph_network.image_norm, ours)
    check_case(golden(NAME), case, outputs | gradients)


@pytest.mark.golden
@pytest.mark.parametrize("case", [case for case in cases(NAME) if case.values[0].endswith("sam")])
def test_gradients_of_semantic_attention_match_published_code(case, dtype):
    outer = case.removesuffix("sam").removesuffix("/")  # holds inputs, weights and cotangents
    tensors = golden(NAME).case(outer)
    model, weights = golden_model(outer, dtype)
    features = leaf(tensors["in.feature_map"], dtype)
    scalar = cotangent_sum(outputs_of(model, features), {"cot.sam_nodes": tensors["cot.sam_nodes"]})
    gradients = gradients_of(scalar, model, features, weights, golden(NAME).case(case))
    check_case(golden(NAME), case, gradients)


def test_labels_receive_what_the_graph_of_their_image_says():
    """Row i of the graph holds what label i receives."""
    network = DynamicGraphNetwork(num_labels=4, dim=3).eval()
    nodes = torch.randn(2, 4, 3)
    graph = network.dynamic_graph(nodes)
    assert graph.shape == (2, 4, 4) and 0 < graph.min() and graph.max() < 1
    for b in range(2):
        image = torch.nn.functional.leaky_relu(network.image_norm(network.image_weight(nodes[b : b + 1].mean(1))), 0.2)
        for i in range(4):
            expected = network.dynamic_adjacency(torch.cat([image[0], nodes[b, i]])).sigmoid()
            torch.testing.assert_close(graph[b, i], expected)


def test_one_image_is_normalised_by_the_stored_statistics():
    """A last batch of one image is no error in training, and teaches the statistics nothing."""
    network = tiny_model("add_gcn").graph_network
    nodes = torch.randn(1, 5, 24)
    before = network.image_norm.running_var.clone()
    assert torch.equal(network.train()(nodes), network.eval()(nodes))
    assert torch.equal(network.image_norm.running_var, before)


def test_the_logit_is_the_mean_of_the_largest_score_and_the_classifier():
    model = tiny_model("add_gcn").eval()
    pixel_values = torch.randn(2, 3, 32, 32)
    representations, attention_maps = model.represent(model.encode(pixel_values))
    assert representations.shape == (2, 5, 25)
    torch.testing.assert_close(attention_maps.amax(dim=(2, 3)), representations[..., -1].sigmoid())
    changed = representations.clone()
    changed[..., -1] += 2
    torch.testing.assert_close(model.classify(changed), model.classify(representations) + 1)
