import math

import pytest
import torch
from golden_files import golden, sub_cases
from golden_models import check_case, cotangent_sum, leaf
from huggingface_hub.errors import StrictDataclassError
from test_dualcoop import DTYPES, TINY
from tiny import tiny_model
from torch import nn
from torch.nn import functional as F

from hf_mlrpl.methods.dualcoop.objective_dualcoop import DualCoOpObjectiveConfig, dual_prompt_loss
from hf_mlrpl.methods.dualcoop_pp import modeling_dualcoop_pp
from hf_mlrpl.methods.dualcoop_pp.configuration_dualcoop_pp import DualCoOpPpConfig
from hf_mlrpl.methods.dualcoop_pp.modeling_dualcoop_pp import DualCoOpPpForMultiLabelClassification

MODES = {  # of the published code
    "pos_norm": {},
    "pos_norm_det": {"learn_region_scale": False},
    "pos200": {"competition": "added"},
    "pos_test": {"competition": "plain"},
    "pos_neg": {"competition": "added", "competing_negatives": True},
    "pos_neg_test": {"competition": "plain", "competing_negatives": True},
}
PROMPTS = ("evidence", "negative", "positive")


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_head_matches_published_code(mode, dtype, monkeypatch):
    file = golden("dualcoop_pp_head")
    shared, weights = file.case(), file.weights(dtype=dtype)
    features = leaf(shared["in.feature_map"], dtype)
    text = {name: leaf(shared[f"in.text_features.{name}"], dtype) for name in PROMPTS}
    embed_dim, image_dim = weights["output.weight"].shape
    sizes = {"num_labels": len(text["positive"]), "embed_dim": embed_dim}
    model = DualCoOpPpForMultiLabelClassification(DualCoOpPpConfig(**TINY | sizes, **MODES[mode])).to(dtype)
    head = model.backbone.network.head
    head.v, head.proj = nn.Linear(image_dim, image_dim, dtype=dtype), nn.Linear(image_dim, embed_dim, dtype=dtype)
    head.load_state_dict({f"v.{n}": weights[f"value.{n}"] for n in ("weight", "bias")}, strict=False)
    head.load_state_dict({f"proj.{n}": weights[f"output.{n}"] for n in ("weight", "bias")}, strict=False)
    model.load_state_dict({"log_region_scale": weights["spatial_log_scale"]}, strict=False)
    monkeypatch.setattr(modeling_dualcoop_pp, "features_of_prompts", lambda *_: torch.cat(list(text.values())))
    representations, _ = model.train().represent(features)
    outputs = {"logits": model.two_logits(representations), "score": model.classify(representations)}
    outputs["scalar"] = cotangent_sum(outputs, file.case(mode))
    outputs["scalar"].backward()
    gradients = {"grad.in.feature_map": features.grad}
    gradients |= {f"grad.in.text_features.{name}": each.grad for name, each in text.items()}
    for theirs, ours in (("value", head.v), ("output", head.proj)):
        gradients |= {f"grad.w.{theirs}.{name}": parameter.grad for name, parameter in ours.named_parameters()}
    learned = getattr(model, "log_region_scale", None)
    gradients["grad.w.spatial_log_scale"] = torch.zeros((), dtype=dtype) if learned is None else learned.grad
    check_case(file, mode, outputs | gradients)


@pytest.mark.golden
def test_loss_matches_published_code():
    file = golden("dualcoop_pp_head")
    labels = file.tensors["loss/in.target"]
    for dtype in DTYPES:
        both = leaf(file.tensors["loss/in.logits"], dtype)
        loss = 0.02 * dual_prompt_loss(both[:, 1] - both[:, 0], labels, DualCoOpObjectiveConfig(eps=1e-8)).sum()
        loss.backward()
        check_case(file, "loss", {"value": loss, "grad.in.logits": both.grad})


@pytest.mark.golden
def test_every_sub_case_is_compared():
    assert {*MODES, "loss", ""} == set(sub_cases("dualcoop_pp_head"))


# --- what the file does not hold ---


def model(**settings) -> DualCoOpPpForMultiLabelClassification:
    return tiny_model("dualcoop_pp", **settings).eval()


PIXELS = torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))


def test_a_label_looks_where_its_evidence_is():
    ours = model(image_size=[32, 64])
    output = ours(PIXELS, output_attention_maps=True, output_representations=True)
    head, features = ours.backbone.network.head, ours.encode(PIXELS)
    regions = F.normalize(head.proj(head.v(features.flatten(2).mT)), dim=-1)  # without positions and mean
    evidence = F.normalize(ours.evidence_prompts(ours.text_encoder), dim=-1)
    weights = torch.einsum("cd,brd->bcr", evidence, 4 * regions).softmax(dim=-1)
    torch.testing.assert_close(output.attention_maps.flatten(2), weights)
    assert output.attention_maps.shape == (2, 5, 1, 2)
    torch.testing.assert_close(output.representations[..., :24], weights @ regions, msg="the negative side keeps all")
    assert not torch.allclose(output.representations[..., 24:], weights @ regions)


def test_the_best_label_of_a_region_keeps_it_and_another_one_loses_it():
    ours = model(competition_scale=1e3)
    cosines = torch.tensor([[[0.3, 0.1], [0.1, 0.3]]])  # (B, C, R)
    for competition, winner, loser in (("normalized", 1.0, 0.0), ("plain", 1.0, 0.0), ("added", 2.0, 1.0)):
        ours.config.competition = competition
        negative, positive = ours.compete(cosines)
        torch.testing.assert_close(positive, torch.tensor([[[winner, loser], [loser, winner]]]))
        assert negative == 1
    ours.config.competing_negatives = True
    negative, _ = ours.compete(-cosines)  # now the lowest cosine is the largest of those below 0
    torch.testing.assert_close(negative, torch.tensor([[[2.0, 1.0], [1.0, 2.0]]]))


def test_negatives_do_not_compete_where_nothing_does():
    with pytest.raises(StrictDataclassError, match="`competing_negatives` needs labels that compete"):
        DualCoOpPpConfig(competition="none", competing_negatives=True)


def test_competition_may_end_with_the_training():
    ours, plain = model(competition_in_evaluation=False), model(competition="none")
    assert torch.equal(ours(PIXELS).logits, plain(PIXELS).logits)
    assert not torch.allclose(model()(PIXELS).logits, plain(PIXELS).logits)
    for each in (ours, plain):  # whose weights are the same
        each.train().backbone.eval()
    assert not torch.allclose(ours(PIXELS).logits, plain(PIXELS).logits)


def test_the_scale_of_the_regions_starts_as_it_is_asked_to():
    assert DualCoOpPpConfig().region_scale == DualCoOpPpConfig().scale == math.exp(3)
    ours = model(region_scale=7.0)
    assert ours.region_scale.item() == pytest.approx(7) and ours.log_region_scale.requires_grad
    fixed = model(region_scale=7.0, learn_region_scale=False)
    assert "log_region_scale" not in fixed.state_dict() and fixed.region_scale == 7
    torch.testing.assert_close(fixed(PIXELS).logits, ours(PIXELS).logits)


def test_only_contexts_and_the_scale_are_trained():
    ours = model(trainable_backbone=[])
    trained = [name for name, parameter in ours.named_parameters() if parameter.requires_grad]
    assert trained == ["log_region_scale", *(f"{name}_prompts.context" for name in PROMPTS)]


def test_labels_change_and_compete_with_those_that_are_asked_for():
    ours = model(context_per_label=False).double()
    expected = ours(PIXELS.double()).logits
    ours.set_labels(["4", "2", "0", "1", "3"])
    torch.testing.assert_close(ours(PIXELS.double()).logits, expected[:, [4, 2, 0, 1, 3]])
    ours.set_labels(["2", "zebra"])
    assert not torch.allclose(ours(PIXELS.double()).logits[:, 0], expected[:, 2])
    ours.set_labels(["zebra"])
    ours.config.competition = "none"
    alone = ours(PIXELS.double()).logits
    ours.config.competition = "normalized"
    assert torch.equal(ours(PIXELS.double()).logits, alone), "a single label has no rival"


def test_pictures_show_the_vectors_of_presence():
    """Which are the last ones, as in DualCoOp."""
    ours = model()
    positive = F.normalize(ours.positive_prompts(ours.text_encoder), dim=-1)
    torch.testing.assert_close(ours.label_vectors()[-5:], positive)


def test_inference_needs_no_text_tower():
    ours = model()
    expected = ours(PIXELS).logits
    ours.text_encoder = ours.negative_prompts = ours.positive_prompts = ours.evidence_prompts = None
    assert torch.equal(ours(PIXELS).logits, expected)
