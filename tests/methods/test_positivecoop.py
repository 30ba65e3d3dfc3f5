import onnx
import onnxruntime
import pytest
import torch
from golden_files import golden
from golden_models import check_case, cotangent_sum, leaf
from test_dualcoop import DTYPES, TINY
from tiny import tiny_model

from hf_mlrpl.clip.prompts import PromptLearner
from hf_mlrpl.demo.answers import Answerer
from hf_mlrpl.export.onnx_file import export_onnx
from hf_mlrpl.methods.positivecoop.configuration_positivecoop import NegativeCoOpConfig, PositiveCoOpConfig
from hf_mlrpl.methods.positivecoop.modeling_positivecoop import (
    NegativeCoOpForMultiLabelClassification,
    PositiveCoOpForMultiLabelClassification,
)
from hf_mlrpl.models.image_processing import processor_for
from hf_mlrpl.pipelines.image_tagging import ImageTaggingPipeline

SIDES = {
    "positive": (PositiveCoOpForMultiLabelClassification, PositiveCoOpConfig),
    "negative": (NegativeCoOpForMultiLabelClassification, NegativeCoOpConfig),
}


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("side", SIDES)
def test_heads_match_published_code(side, dtype, monkeypatch):
    file = golden("positivecoop_head")
    tensors, weights = file.case(side), file.weights(side)
    features = leaf(file.tensors["in.image_features"], dtype)
    text = leaf(tensors["in.text_features"], dtype)
    model_class, config_class = SIDES[side]
    sizes = {"num_labels": len(text), "embed_dim": text.shape[1]}
    model = model_class(config_class(**TINY | sizes, residual_std=1.0)).to(dtype).train()
    model.load_state_dict({"free_vectors": weights["embedding"], "residuals": weights["residual"]}, strict=False)
    monkeypatch.setattr(PromptLearner, "forward", lambda *_: text)
    representations, _ = model.attend(features.transpose(1, 2))
    outputs = {
        "logits": model.two_logits(representations),
        "probabilities": model.classify(representations).sigmoid(),
    }
    outputs["scalar"] = cotangent_sum(outputs, tensors)
    outputs["scalar"].backward()
    gradients = {
        "grad.in.image_features": features.grad,
        "grad.in.text_features": text.grad,
        "grad.w.embedding": model.free_vectors.grad,
        "grad.w.residual": model.residuals.grad,
    }
    check_case(file, side, outputs | gradients)


@pytest.fixture(params=["positivecoop", "negativecoop"])
def method(request) -> str:
    return request.param


def test_by_default_a_text_feature_is_all_that_a_prompt_gives(method):
    model = tiny_model(method, residual_std=None)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert [name for name in names if not name.startswith("backbone.")] == ["free_vectors", "prompts.context"]
    free, text = model.free_vectors, model.prompts(model.text_encoder)
    sides = [free, text] if method == "positivecoop" else [text, free]
    torch.testing.assert_close(model.label_vectors(), torch.nn.functional.normalize(torch.cat(sides), dim=-1))


def test_residuals_start_as_they_are_asked_to(method):
    assert tiny_model(method, num_labels=50, residual_std=0.5).residuals.std().item() == pytest.approx(0.5, rel=0.1)
    assert not tiny_model(method, residual_std=0).residuals.any()
    assert tiny_model(method, num_labels=50).free_vectors.std().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("context_per_label", [True, False])
def test_some_of_the_labels_keep_all_that_they_learned(method, context_per_label, tmp_path):
    model = tiny_model(method, residual_std=0.1, context_per_label=context_per_label).eval().double()
    pixels = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    expected = model(pixels).logits
    model.set_labels(["3", "0"])
    torch.testing.assert_close(model(pixels).logits, expected[:, [3, 0]])
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path, dtype=torch.float64)
    torch.testing.assert_close(loaded(pixels).logits, model(pixels).logits, rtol=1e-12, atol=1e-12)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == [
        name for name, p in loaded.named_parameters() if p.requires_grad
    ]


def test_other_labels_have_no_vector(method, tmp_path):
    """Also where all labels share their context."""
    model = tiny_model(method, residual_std=0.1, context_per_label=False).eval()
    before = model.state_dict()
    with pytest.raises(ValueError, match="Each label of this model learned a vector of its own, and lion has none"):
        model.set_labels(["3", "lion"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not Answerer(ImageTaggingPipeline(model=model), tmp_path).takes_labels


def test_inference_needs_no_text_tower(method):
    model = tiny_model(method).eval()
    pixels = torch.randn(2, 3, 32, 32)
    expected = model(pixels).logits
    model.text_encoder = model.prompts = None
    assert torch.equal(model(pixels).logits, expected)


def test_an_onnx_file_has_the_label_vectors_alone(method, tmp_path):
    model = tiny_model(method, residual_std=0.1).eval()
    export_onnx(model, tmp_path / "tagger.onnx", processor_for(model.config))
    names = [each.name for each in onnx.load(tmp_path / "tagger.onnx").graph.initializer]
    assert not [name for name in names if "text" in name or "prompts" in name or "free" in name or "residual" in name]
    pixels = torch.randn(3, 3, 32, 32)
    session = onnxruntime.InferenceSession(str(tmp_path / "tagger.onnx"))
    (logits,) = session.run(["logits"], {"pixel_values": pixels.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), model(pixels).logits, rtol=1e-4, atol=1e-4)
