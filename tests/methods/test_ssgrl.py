import numpy as np
import pytest
import torch
from golden_files import cases, golden
from golden_models import build_model, check_case, cotangent_sum, leaf, weight_gradients
from matplotlib.figure import Figure
from PIL import Image
from test_methods import NUM_LABELS, make_batch, make_objective, step
from tiny import OBJECTIVES, make_trainer, tiny_model, tiny_recipe, weights
from transformers import AutoModelForImageClassification

import hf_mlrpl.auto  # noqa: F401  registers the models
from hf_mlrpl.methods.ssgrl.configuration_ssgrl import SsgrlConfig
from hf_mlrpl.methods.ssgrl.modeling_ssgrl import SsgrlForMultiLabelClassification
from hf_mlrpl.models.image_processing import processor_for
from hf_mlrpl.pipelines.image_tagging import ImageTaggingPipeline
from hf_mlrpl.registry import METHODS, load
from hf_mlrpl.visualization.attention import plot_tags


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("ssgrl_head"))
def test_matches_the_code_of_the_partial_label_papers(case):
    _check("ssgrl_head", case, tie_reset_gate=False)


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("ssgrl_original"))
def test_matches_the_first_release_with_a_tied_reset_gate(case):
    _check("ssgrl_original", case, tie_reset_gate=True)


def _check(name: str, case: str, tie_reset_gate: bool):
    for dtype in (torch.float64, torch.float32):
        tensors = golden(name).case(case)
        model = build_model(golden(name), SsgrlForMultiLabelClassification, dtype, tie_reset_gate=tie_reset_gate)
        model.word_embeddings.requires_grad_()
        features = leaf(tensors["in.feature_map"], dtype)

        representations, _ = model.represent(features)
        outputs = {
            "category_features": representations,
            "nodes": model.graph_network(representations, model.label_graph),
            "logits": model.classify(representations),
        }
        outputs["scalar"] = cotangent_sum(outputs, tensors)
        outputs["scalar"].backward()
        gradients = {"grad.in.feature_map": features.grad, "grad.in.word_vectors": model.word_embeddings.grad}
        gradients |= weight_gradients(model, golden(name).weights(case, dtype))
        check_case(golden(name), case, outputs | gradients)
        assert torch.equal(model(features).logits, outputs["logits"])


# ---- semantic attention in place of semantic decoupling ----


@pytest.fixture(
    params=[m for m, spec in METHODS.items() if issubclass(load(spec.model).config_class, SsgrlConfig)], scope="module"
)
def method(request) -> str:
    """Every method with the vectors of SSGRL."""
    return request.param


@pytest.fixture
def with_attention(method):
    return tiny_model(method, NUM_LABELS, label_features="attention")


def test_attention_takes_the_place_of_decoupling_and_of_what_belongs_to_it(method, with_attention):
    own, other = ({*model.state_dict()} for model in (with_attention, tiny_model(method, NUM_LABELS)))
    parts = ("project.", "decoupling.", "word_embeddings")
    assert own - other == {"attention.score.weight", "attention.transform.weight", "attention.transform.bias"}
    assert other - own == {name for name in other if name.startswith(parts)} and other - own


def test_every_parameter_learns_with_attention(method, with_attention):
    objective = make_objective(load(METHODS[method].objective), with_attention, OBJECTIVES.get(method))
    assert step(with_attention, objective, make_batch()).loss.isfinite()
    trained = {name: p.grad for name, p in with_attention.named_parameters() if p.requires_grad}
    assert [name for name, gradient in trained.items() if gradient is None or not gradient.isfinite().all()] == []


def test_a_checkpoint_with_attention_comes_back(with_attention, tmp_path):
    with_attention.save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert loaded.config.label_features == "attention"
    assert loaded.state_dict().keys() == with_attention.state_dict().keys()
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in with_attention.state_dict().items())


@pytest.mark.slow
def test_a_run_with_attention_resumes_exactly(method, tmp_path):
    training = {"save_strategy": "epoch", "per_device_train_batch_size": 24, "eval_strategy": "no"}
    recipe = tiny_recipe(method, model={"label_features": "attention"}, training=training)
    unbroken = make_trainer(recipe, tmp_path)
    unbroken.train()
    resumed = make_trainer(recipe, tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert weights(resumed) == weights(unbroken)


def test_attention_maps_lie_between_0_and_1_and_can_be_drawn():
    model = tiny_model("ssgrl", label_features="attention", image_size=[32, 64], output_stride=8).eval()
    tagger = ImageTaggingPipeline(model=model, image_processor=processor_for(model.config), device="cpu")
    assert tagger.has_attention_maps
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 80, 3), np.uint8))
    tags = tagger(photo, threshold=0.0, attention_maps=True)
    maps = np.stack([tag["attention_map"] for tag in tags])
    assert maps.shape == (5, 16, 32) and 0 <= maps.min() and maps.max() <= 1
    assert isinstance(plot_tags([photo], [tags]), Figure)


def test_the_mean_over_the_positions_is_the_sum_divided_by_their_number():
    of_sum, of_mean = (
        tiny_model("ssgrl", label_features="attention", attention_pooling=pooling).eval()
        for pooling in ("sum", "mean")
    )
    of_mean.load_state_dict(of_sum.state_dict())
    features = of_sum.encode(torch.randn(2, 3, 64, 96))
    positions = features.shape[2] * features.shape[3]
    assert positions > 1
    torch.testing.assert_close(of_mean.represent(features)[0] * positions, of_sum.represent(features)[0])


def test_attention_needs_no_word_vectors():
    model = tiny_model("ssgrl", label_features="attention", label_embeddings="missing.txt")
    assert not torch.equal(model.label_graph, torch.eye(5)), "the label graph is there"
    with pytest.raises(FileNotFoundError):
        tiny_model("ssgrl", label_embeddings="missing.txt")
