"""The fast code equals the plain transcription in training/plain.py, gradients included."""

import numpy as np
import plain
import plain_clip
import pytest
import torch
from golden_models import FeatureMap, newest_first
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_clip import TINY_RESNET, TINY_TEXT

from hf_mlrpl import losses
from hf_mlrpl.losses import partial_bce, similarity_loss
from hf_mlrpl.methods import blending
from hf_mlrpl.methods.dualcoop.modeling_dualcoop import DualCoOpForMultiLabelClassification
from hf_mlrpl.methods.dualcoop.objective_dualcoop import DualCoOpObjective, DualCoOpObjectiveConfig
from hf_mlrpl.methods.sarb import objective_sarb
from hf_mlrpl.methods.sarb.modeling_sarb import SarbForMultiLabelClassification
from hf_mlrpl.methods.sarb.objective_sarb import SarbObjective, SarbObjectiveConfig
from hf_mlrpl.methods.scpnet.modeling_scpnet import ScpnetForMultiLabelClassification
from hf_mlrpl.methods.sst.configuration_sst import SstConfig
from hf_mlrpl.methods.sst.modeling_sst import CooccurrenceHead, SstForMultiLabelClassification
from hf_mlrpl.methods.sst.objective_sst import (
    SstObjective,
    SstObjectiveConfig,
    cooccurrence_loss,
    cooccurrence_matrix,
    cross_image_pseudo_labels,
    intra_image_pseudo_labels,
)
from hf_mlrpl.metrics import average_precision
from hf_mlrpl.models.parts import semantic_decoupling
from hf_mlrpl.models.parts.gated_gnn import GatedGnn
from hf_mlrpl.models.parts.pair_scores import pair_scores
from hf_mlrpl.models.parts.semantic_decoupling import SemanticDecoupling
from hf_mlrpl.schedules import Progress

sizes = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 5),
        "labels": st.integers(1, 7),
        "dim": st.integers(1, 6),
        "hidden": st.integers(1, 5),
        "height": st.integers(1, 3),
        "width": st.integers(1, 4),
    }
)
seeds = st.integers(0, 2**31)
quick = settings(max_examples=30, deadline=None)


def _random(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def _random_labels(*shape, known=0.6):
    return (torch.rand(shape) < known) * (torch.randint(0, 2, shape) * 2 - 1)


def _assert_equal(actual, expected, inputs):
    """Values, and the gradients of a random projection with respect to `inputs`."""
    _assert_close(actual, expected)
    projection = torch.randn_like(actual)
    fast = torch.autograd.grad((actual * projection).sum(), inputs, allow_unused=True, retain_graph=True)
    slow = torch.autograd.grad((expected * projection).sum(), inputs, allow_unused=True, retain_graph=True)
    for fast_gradient, slow_gradient in zip(fast, slow, strict=True):
        if fast_gradient is None or slow_gradient is None:
            assert fast_gradient is None or not fast_gradient.any()
            assert slow_gradient is None or not slow_gradient.any()
        else:
            _assert_close(fast_gradient, slow_gradient)


def _assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-9)


def _trained(module):
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


@given(sizes, seeds)
@quick
def test_semantic_decoupling(size, seed):
    torch.manual_seed(seed)
    module = SemanticDecoupling(size["dim"], 3, size["hidden"]).double()
    features = _random(size["batch"], size["dim"], size["height"], size["width"])
    words = _random(size["labels"], 3)
    inputs = [features, words, *_trained(module)]
    for actual, expected in zip(module(features, words), plain.decouple(module, features, words), strict=True):
        _assert_equal(actual, expected, inputs)


@given(sizes, st.booleans(), st.integers(0, 4), seeds)
@quick
def test_gated_gnn(size, tied, time_steps, seed):
    torch.manual_seed(seed)
    module = GatedGnn(size["dim"], time_steps, tied).double()
    nodes, graph = _random(size["batch"], size["labels"], size["dim"]), _random(size["labels"], size["labels"])
    inputs = [nodes, graph, *_trained(module)]
    _assert_equal(module(nodes, graph), plain.update_nodes(module, nodes, graph), inputs)


@given(sizes, st.sampled_from(["per_pair", "shared"]), seeds)
@quick
def test_cooccurrence_head(size, pair_classifier, seed):
    torch.manual_seed(seed)
    config = SstConfig(
        num_labels=size["labels"],
        representation_dim=size["dim"],
        cooccurrence_dim=size["hidden"],
        cooccurrence_hidden_dim=size["hidden"] + 1,
        pair_classifier=pair_classifier,
    )
    head = CooccurrenceHead(config).double()
    representations = _random(size["batch"], size["labels"], size["dim"])
    inputs = [representations, *_trained(head)]
    _assert_equal(head(representations), plain.score_pairs(head, representations), inputs)


@given(sizes, st.floats(0.1, 1.0), st.floats(-0.5, 1.0), seeds)
@quick
def test_pseudo_labels_and_bank(size, known, threshold, seed):
    torch.manual_seed(seed)
    num_labels, bank_size = size["labels"], size["hidden"]
    labels = _random_labels(size["batch"], num_labels, known=known)
    representations = torch.randn(size["batch"], num_labels, size["dim"], dtype=torch.float64)
    pair_logits = torch.randn(size["batch"], num_labels * (num_labels - 1) // 2, dtype=torch.float64)
    objective = SstObjective(
        SstObjectiveConfig(bank_size=bank_size), SstConfig(num_labels=num_labels, representation_dim=size["dim"])
    ).double()
    objective.remember(torch.randn_like(representations), torch.ones_like(labels))
    bank = plain.update_bank(newest_first(objective), representations, labels)
    objective.remember(representations, labels)
    assert torch.equal(newest_first(objective), bank)

    cooccurrence = cooccurrence_matrix(pair_logits, num_labels)
    intra = intra_image_pseudo_labels(cooccurrence, labels, threshold)
    assert torch.equal(intra, plain.intra_pseudo_labels(pair_logits, labels, threshold))
    cross = cross_image_pseudo_labels(representations, objective.centers(), labels, threshold)
    assert torch.equal(cross, plain.cross_pseudo_labels(representations, bank, labels, threshold))


@given(sizes, st.floats(0.0, 1.0), seeds)
@quick
def test_losses(size, known, seed):
    torch.manual_seed(seed)
    num_labels = size["labels"]
    labels = _random_labels(size["batch"], num_labels, known=known)
    logits, pair_logits = (
        _random(size["batch"], num_labels),
        _random(size["batch"], num_labels * (num_labels - 1) // 2),
    )
    _assert_equal(partial_bce(logits, labels), plain.partial_bce(logits, labels), [logits])
    _assert_equal(cooccurrence_loss(pair_logits, labels), plain.cooccurrence_loss(pair_logits, labels), [pair_logits])


@given(sizes, st.floats(0.2, 1.0), seeds)
@quick
def test_similarity_loss(size, known, seed):
    torch.manual_seed(seed)
    labels = _random_labels(size["batch"], size["labels"], known=known)
    representations = _random(size["batch"], size["labels"], size["dim"] + 1)  # in one dimension cosines are equal
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "random_keys", _in_order)
        actual = similarity_loss(representations, labels)
    _assert_equal(actual, plain.similarity_loss(representations, labels, torch.arange), [representations])


def _in_order(like):
    return torch.arange(like.numel(), dtype=like.dtype).view_as(like)


def test_similarity_loss_takes_as_many_random_pairs_as_the_lists():
    """Which pairs are drawn differs; how many, and so the mean of many draws, does not."""
    torch.manual_seed(0)
    labels, representations = _random_labels(12, 4, known=0.9), torch.randn(12, 4, 5, dtype=torch.float64)
    fast = torch.stack([similarity_loss(representations, labels) for _ in range(400)])
    slow = torch.stack([plain.similarity_loss(representations, labels) for _ in range(400)])
    assert fast.std() > 0
    standard_error = (fast.var() / 400 + slow.var() / 400).sqrt()
    assert (fast.mean() - slow.mean()).abs() < 4 * standard_error


@given(st.integers(1, 30), st.integers(1, 4), seeds)
@quick
def test_average_precision(num_images, num_labels, seed):
    generator = np.random.default_rng(seed)
    scores = generator.permuted(np.arange(num_images * num_labels, dtype=float)).reshape(num_images, num_labels)
    labels = generator.integers(-1, 2, (num_images, num_labels))
    expected = np.where((labels == -1).any(axis=0), plain.average_precision(scores, labels), np.nan)  # else undefined
    np.testing.assert_allclose(average_precision(scores, labels), expected, rtol=1e-9)


def _model(model_class, size, **settings):
    """A model in float64 whose input is the feature map."""
    config = model_class.config_class(
        backbone="test_resnet",
        num_labels=size["labels"],
        representation_dim=size["dim"],
        attention_dim=size["hidden"],
        output_dim=size["hidden"],
        word_embedding_dim=size["labels"],
        label_embeddings="orthogonal",
        **settings,
    )
    model = model_class(config)
    model.set_priors(np.eye(size["labels"], dtype=np.int8))
    model.backbone, model.project = FeatureMap(), torch.nn.Identity()
    return model.double()


def _batch(size):
    pixel_values = torch.randn(size["batch"], size["dim"], size["height"], size["width"], dtype=torch.float64)
    return pixel_values, _random_labels(size["batch"], size["labels"])


@given(sizes, seeds)
@quick
def test_training_step_and_inference_of_sst(size, seed):
    torch.manual_seed(seed)
    settings = {"cooccurrence_dim": size["hidden"], "cooccurrence_hidden_dim": size["dim"]}
    model = _model(SstForMultiLabelClassification, size, **settings)
    pixel_values, labels = _batch(size)
    objective = SstObjective(SstObjectiveConfig(bank_size=3), model.config).double()
    slow = plain.PlainSst(model, newest_first(objective))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "random_keys", _in_order)
        output = model(pixel_values, labels, objective=objective, progress=Progress(0, 1, epoch=13.0))
    expected = slow.loss(pixel_values, labels, threshold=0.75, permutation=torch.arange)
    _assert_equal(output.loss, expected, _trained(model))
    _assert_close(model(pixel_values).logits, slow.logits(pixel_values))


@given(sizes, st.floats(0, 1), st.floats(0, 1), seeds)
@quick
def test_training_step_of_sarb(size, alpha, beta, seed):
    torch.manual_seed(seed)
    model = _model(SarbForMultiLabelClassification, size, initial_alpha=alpha, initial_beta=beta)
    pixel_values, labels = _batch(size)
    objective = SarbObjective(SarbObjectiveConfig(num_prototypes=3), model.config).double()
    objective.is_prepared = True
    torch.nn.init.normal_(objective.prototypes)
    objective.counts.fill_(1)
    index, scores = torch.randint(3, (1,)), torch.rand(labels.shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "random_keys", _in_order)
        patch.setattr(objective_sarb, "random_prototypes", lambda *_: index)
        patch.setattr(blending, "random_scores", lambda _: scores)
        output = model(pixel_values, labels, objective=objective, progress=Progress(0, 1, epoch=5.0))
    slow = plain.PlainSarb(model, objective.prototypes)
    expected = slow.loss(pixel_values, labels, index.squeeze(), scores, permutation=torch.arange)
    _assert_equal(output.loss, expected, _trained(model))


def _prompt_model(model_class, names):
    """A model in float64 with tiny towers of random weights, where text features of labels differ."""
    settings = TINY_RESNET | {"text_sizes": TINY_TEXT | {"context_length": 24}, "trainable_backbone": []}
    config = model_class.config_class(
        id2label=dict(enumerate(names)), num_context=3, context_words=None, context_per_label=True, **settings
    )
    model = model_class(config)
    for parameter in model.text_encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.set_priors()
    return model.double().train()


@pytest.mark.parametrize("names", [["cat"], ["cat", "traffic light", "a dog"]])
def test_inference_and_label_vectors_of_scpnet(names):
    torch.manual_seed(0)
    model = _prompt_model(ScpnetForMultiLabelClassification, names)
    slow, pixel_values = plain_clip.PlainScpnet(model), torch.randn(2, 3, 64, 64, dtype=torch.float64)
    _assert_equal(model.compute_label_vectors(), slow.label_vectors(), _trained(model))
    _assert_close(model.eval()(pixel_values).logits, slow.logits(pixel_values))


@pytest.mark.parametrize("names", [["cat"], ["cat", "traffic light", "a dog"]])
def test_training_step_of_dualcoop(names):
    torch.manual_seed(0)
    model = _prompt_model(DualCoOpForMultiLabelClassification, names)
    pixel_values, labels = torch.randn(4, 3, 64, 64, dtype=torch.float64), _random_labels(4, len(names))
    objective = DualCoOpObjective(DualCoOpObjectiveConfig(), model.config)
    output = model(pixel_values, labels, objective=objective, progress=Progress(0, 1, epoch=0.0))
    _assert_equal(output.loss, plain_clip.PlainDualCoOp(model).loss(pixel_values, labels), _trained(model))
    assert output.loss > 0


@pytest.mark.parametrize("chunk_elements", [1, 50, 10**9])
def test_chunked_scores_pass_gradcheck(monkeypatch, chunk_elements):
    torch.manual_seed(0)
    monkeypatch.setattr(semantic_decoupling, "_CHUNK_ELEMENTS", {"cpu": chunk_elements})
    image, words, weight = _random(6, 4), _random(5, 4), _random(4)
    assert torch.autograd.gradcheck(semantic_decoupling._BilinearScores.apply, (image, words, weight))


@pytest.mark.parametrize(("num_labels", "num_rows"), [(5, 10), (5, 1), (2, 1), (1, 0)])
def test_pair_scores_pass_gradcheck(num_labels, num_rows):
    torch.manual_seed(0)
    left, right, weight = _random(2, num_labels, 4), _random(2, num_labels, 4), _random(num_rows, 4)
    assert torch.autograd.gradcheck(pair_scores, (left, right, weight))
