import pytest
import torch
from golden_files import golden, sub_cases
from golden_models import check_case, cotangent_sum, leaf
from golden_prompts import TOWERS, GoldenTokenizer, golden_model
from huggingface_hub.errors import StrictDataclassError
from tiny_clip import TINY_RESNET, TINY_VIT
from torch import Tensor
from torch.nn import functional as F

from hf_mlrpl.methods.dualcoop import modeling_dualcoop
from hf_mlrpl.methods.dualcoop.configuration_dualcoop import DualCoOpConfig
from hf_mlrpl.methods.dualcoop.modeling_dualcoop import DualCoOpForMultiLabelClassification

DTYPES = (torch.float64, torch.float32)
TINY = TINY_RESNET | {"num_context": 4}
SUBSETS = [case for case in sub_cases("dualcoop_full") if case.endswith("_subset")]
MODELS = [case for case in sub_cases("dualcoop_full") if case not in SUBSETS]


# --- the file `dualcoop_head`: regions and text features are given ---


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_head_matches_published_code(dtype, monkeypatch):
    tensors = golden("dualcoop_head").case()
    features, text = leaf(tensors["in.image_features"], dtype), leaf(tensors["in.text_features"], dtype)
    model = DualCoOpForMultiLabelClassification(DualCoOpConfig(num_labels=len(text) // 2, **TINY)).to(dtype).train()
    monkeypatch.setattr(modeling_dualcoop, "features_of_prompts", lambda *_: text)
    representations, weights = model.attend(features.transpose(1, 2))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones_like(weights[..., 0]))
    outputs = {
        "logits": model.two_logits(representations),
        "probabilities": model.classify(representations).sigmoid(),
    }
    outputs["scalar"] = cotangent_sum(outputs, tensors)
    outputs["scalar"].backward()
    gradients = {"grad.in.image_features": features.grad, "grad.in.text_features": text.grad}
    check_case(golden("dualcoop_head"), "", outputs | gradients)


# --- the file `dualcoop_full`: from pixels and words to logits ---


def full_model(case: str, dtype: torch.dtype) -> DualCoOpForMultiLabelClassification:
    """A model with the contexts and prompts of a sub-case, ready for gradients."""
    file = golden("dualcoop_full")
    tensors, names = file.case(case), file.hparams["classnames"]
    num_context = file.hparams["n_ctx"]
    settings = {"num_context": num_context, "context_per_label": tensors["in.context_negative"].ndim == 3}
    model = golden_model(DualCoOpForMultiLabelClassification, file, dtype, **settings)
    negatives, positives = tensors["in.token_ids"].chunk(2)
    assert torch.equal(negatives, positives)
    model.tokenizer = GoldenTokenizer(names, positives, num_context)
    model.set_priors()
    with torch.no_grad():
        model.negative_prompts.context.copy_(tensors["in.context_negative"])
        model.positive_prompts.context.copy_(tensors["in.context_positive"])
    return model


def image(dtype: torch.dtype) -> Tensor:
    return golden(TOWERS).tensors["in.image"].to(dtype)


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", MODELS)
def test_model_matches_published_code(case, dtype):
    tensors = golden("dualcoop_full").case(case)
    model = full_model(case, dtype)
    learners = model.prompt_learners
    regions = model.backbone.regions(model.encode(image(dtype)))
    outputs = {
        "image_tokens": regions.transpose(1, 2),
        "text_features": torch.cat([learner(model.text_encoder) for learner in learners]),
        "logits": model.two_logits(model.represent(model.encode(image(dtype)))[0]),
    }
    cotangent_sum(outputs, tensors).backward()
    trained = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert trained == ["negative_prompts.context", "positive_prompts.context"]
    negative, positive = (learner.context.grad for learner in learners)
    gradients = {"grad.in.context_negative": negative, "grad.in.context_positive": positive}
    check_case(golden("dualcoop_full"), case, outputs | gradients)


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", SUBSETS)
def test_some_of_the_labels_match_published_code(case, dtype):
    model = full_model(case.removesuffix("_subset"), dtype)
    names = golden("dualcoop_full").hparams["classnames"]
    model.set_labels([names[i] for i in golden("dualcoop_full").case(case)["in.class_ids"].tolist()])
    logits = model.two_logits(model.represent(model.encode(image(dtype)))[0])
    check_case(golden("dualcoop_full"), case, {"logits": logits})


@pytest.mark.golden
def test_every_sub_case_is_compared():
    assert {*MODELS, *SUBSETS} == set(sub_cases("dualcoop_full"))
    assert all(case.startswith("loss") for case in sub_cases("dualcoop_head") if case), "those of the objective"


# --- what the files do not hold ---


@pytest.fixture
def model() -> DualCoOpForMultiLabelClassification:
    torch.manual_seed(0)
    model = DualCoOpForMultiLabelClassification(DualCoOpConfig(num_labels=3, **TINY | {"image_size": [64, 96]}))
    model.set_priors()
    return model.eval()


def test_attention_maps_are_the_weights_of_the_places(model):
    pixel_values = torch.randn(2, 3, 64, 96)
    output = model(pixel_values, output_attention_maps=True, output_representations=True)
    features = model.encode(pixel_values)
    regions = model.backbone.regions(features)
    positive = F.normalize(model.positive_prompts(model.text_encoder), dim=-1)
    weights = torch.einsum("cd,brd->bcr", positive, 20 * F.normalize(regions, dim=-1)).softmax(dim=-1)
    assert output.attention_maps.shape == (2, 3, *features.shape[2:]) == (2, 3, 2, 3)
    torch.testing.assert_close(output.attention_maps.flatten(2), weights[..., 1:])
    assert output.representations.shape == (2, 3, 24)


def test_the_mean_region_can_be_left_out(model):
    pixel_values = torch.randn(2, 3, 64, 96)
    with_mean = model(pixel_values).logits
    model.config.include_mean_token = False
    representations, attention_maps = model.represent(model.encode(pixel_values))
    torch.testing.assert_close(attention_maps.sum(dim=(2, 3)), torch.ones(2, 3))
    assert not torch.allclose(model.classify(representations), with_mean)


def test_only_contexts_are_trained(model):
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == [
        "negative_prompts.context",
        "positive_prompts.context",
    ]
    norms = [module for module in model.train().backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)


def test_a_vit_has_no_regions():
    with pytest.raises(StrictDataclassError, match="`backbone` must be a CLIP ResNet.*'vit_clip'"):
        DualCoOpConfig(**TINY_VIT, num_context=4)
