"""TaI-DPT: the numbers of its code, for captions and for images."""

import pytest
import torch
from golden_files import golden, sub_cases
from golden_models import check_case, cotangent_sum, leaf
from huggingface_hub.errors import StrictDataclassError
from tiny import tiny_model
from tiny_clip import TINY_RESNET, TINY_VIT
from torch import Tensor
from torch.nn import functional as F

from hf_mlrpl import TaiDptConfig, TaiDptForMultiLabelClassification, TaiDptObjective, TaiDptObjectiveConfig
from hf_mlrpl.clip.modeling_clip import ClipPromptModel
from hf_mlrpl.methods.tai_dpt import modeling_tai_dpt
from hf_mlrpl.methods.tai_dpt.objective_tai_dpt import ranking_loss
from hf_mlrpl.schedules import Progress

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
TAI_DPT = golden("tai_dpt_head")
PROMPTS = ("in.text_features.global", "in.text_features.local")
LAYERS = {"v": "value", "proj": "output"}  # of the attention pool, and their golden names


# ---- the golden file: towers are given ----


def leaves(names: tuple[str, ...], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: leaf(TAI_DPT.tensors[name], dtype) for name in names}


def gradients(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"grad.{name}": tensor.grad for name, tensor in inputs.items()}


def fill_head(model: ClipPromptModel, dtype: torch.dtype) -> None:
    """Give the attention pool the projections of the file."""
    weights = TAI_DPT.weights(dtype=dtype)
    for ours, theirs in LAYERS.items():
        layer = torch.nn.Linear(*weights[f"{theirs}.weight"].t().shape, dtype=dtype)
        layer.load_state_dict({kind: weights[f"{theirs}.{kind}"] for kind in ("weight", "bias")})
        setattr(model.backbone.network.head, ours, layer)


def head_gradients(model: ClipPromptModel) -> dict[str, Tensor]:
    head = model.backbone.network.head
    return {
        f"grad.w.{theirs}.{kind}": getattr(getattr(head, ours), kind).grad
        for ours, theirs in LAYERS.items()
        for kind in ("weight", "bias")
    }


def model_with(inputs: dict[str, Tensor], monkeypatch, **settings) -> TaiDptForMultiLabelClassification:
    """A model whose prompts have the features of `inputs`."""
    text = torch.cat([inputs[name] for name in PROMPTS])
    sizes = TINY_RESNET | {"num_labels": len(text) // 2, "embed_dim": text.shape[1], "num_context": 4}
    monkeypatch.setattr(modeling_tai_dpt, "features_of_prompts", lambda *_: text)
    return TaiDptForMultiLabelClassification(TaiDptConfig(**sizes, **settings)).to(text.dtype).train()


def caption_logits(inputs: dict[str, Tensor], monkeypatch) -> Tensor:
    """Logits of the given captions by the whole and by the parts, `(B, 2, C)`."""
    model = model_with(inputs, monkeypatch)
    ends = TAI_DPT.tensors["in.caption_tokens"].argmax(dim=1)
    return model.logits_of_both(model.represent_tokens(inputs["in.caption_features"], ends))


@pytest.mark.golden
@DTYPES
def test_captions_match_published_code(dtype, monkeypatch):
    inputs = leaves((*PROMPTS, "in.caption_features"), dtype)
    both = caption_logits(inputs, monkeypatch)
    outputs = {"logits_global": both[:, 0], "logits_local": both[:, 1]}
    cotangent_sum(outputs, TAI_DPT.case("text")).backward()
    check_case(TAI_DPT, "text", outputs | gradients(inputs))


@pytest.mark.golden
@DTYPES
def test_the_loss_of_captions_matches_published_code(dtype, monkeypatch):
    inputs = leaves((*PROMPTS, "in.caption_features"), dtype)
    present = TAI_DPT.tensors["text/in.target"].bool()
    both = caption_logits(inputs, monkeypatch)
    total = sum(ranking_loss(logits, present, ~present, margin=1.0).mean() for logits in both.unbind(dim=1))
    total.backward()
    check_case(TAI_DPT, "text_loss", {"total": total} | gradients(inputs))


@pytest.mark.golden
@DTYPES
def test_images_match_published_code(dtype, monkeypatch):
    inputs = leaves((*PROMPTS, "in.feature_map", "in.global_feature"), dtype)
    model = model_with(inputs, monkeypatch, image_sharpness=TAI_DPT.hparams["spatial_image"])
    fill_head(model, dtype)
    model.backbone.network.head.forward = lambda *_, **__: inputs["in.global_feature"]
    representations, attention_maps = model.represent(inputs["in.feature_map"])
    torch.testing.assert_close(attention_maps.sum(dim=(2, 3)), torch.ones_like(attention_maps[..., 0, 0]))
    both = model.logits_of_both(representations)
    outputs = {"logits_global": both[:, 0], "logits_local": both[:, 1], "score": model.classify(representations)}
    cotangent_sum(outputs, TAI_DPT.case("image")).backward()
    check_case(TAI_DPT, "image", outputs | gradients(inputs) | head_gradients(model))


@pytest.mark.golden
@DTYPES
def test_the_ranking_loss_matches_published_code(dtype):
    logits, present = leaf(TAI_DPT.tensors["loss/in.logits"], dtype), TAI_DPT.tensors["loss/in.target"].bool()
    loss = ranking_loss(logits, present, ~present, margin=1.0).mean()
    loss.backward()
    check_case(TAI_DPT, "loss/ranking", {"value": loss, "grad.in.logits": logits.grad})


# ---- what the file does not hold ----


@pytest.fixture
def model() -> TaiDptForMultiLabelClassification:
    return tiny_model("tai_dpt", trainable_backbone=[], image_size=[32, 64]).eval()


def test_a_logit_is_the_mean_of_whole_and_parts(model):
    """All from the towers, with nothing that the model computes."""
    pixel_values = torch.randn(2, 3, 32, 64)
    features = model.backbone.feature_map(pixel_values)
    head = model.backbone.network.head
    head.pos_embed.data.zero_()
    image = F.normalize(head(features), dim=-1)
    places = F.normalize(head.proj(head.v(features.flatten(2).mT)), dim=-1)
    for_wholes, for_parts = (
        F.normalize(prompts(model.text_encoder), dim=-1) for prompts in (model.global_prompts, model.local_prompts)
    )
    cosines = places @ for_parts.t()  # (B, P, C)
    weights = (model.config.image_sharpness * cosines).softmax(dim=1)
    expected = (image @ for_wholes.t() + (weights * cosines).sum(dim=1)) / 2
    output = model(pixel_values, output_attention_maps=True)
    torch.testing.assert_close(output.logits, model.config.scale * expected)
    torch.testing.assert_close(output.attention_maps.flatten(2), weights.mT)


def test_places_know_where_they_are_on_request():
    pixel_values, without, known = torch.randn(2, 3, 32, 32), [], []
    for positions, logits in ((False, without), (True, known)):
        model = tiny_model("tai_dpt", positional_embedding=positions).eval()
        for scale in (1.0, 2.0):
            model.backbone.network.head.pos_embed.data.mul_(scale)
            logits.append(model(pixel_values).logits)
    assert torch.equal(*without) and not torch.allclose(*known)


def test_captions_are_read_up_to_their_end(model):
    captions = ["a photo of 1 and 2.", "3!! And a longer one, of 4"]
    tokens = [torch.tensor(ids) for ids in model.tokenizer(captions)["input_ids"]]
    alone = [model.classify(model.represent_captions(ids[None])) for ids in tokens]
    padded = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=7)
    together = model.classify(model.represent_captions(padded))
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize(("unknown", "slopes"), [("ignore", [-1, 1, 0, 0]), ("negative", [-2, 1, 0, 1])])
def test_an_unknown_label_is_in_no_pair_or_counts_as_absent(unknown, slopes, monkeypatch):
    model = tiny_model("tai_dpt", num_labels=4).eval()
    logits = torch.tensor([[0.5, 0.0, -3.0, 2.0]], requires_grad=True)
    monkeypatch.setattr(model, "logits_of_both", lambda _: torch.stack([logits, logits.detach()], dim=1))
    objective = TaiDptObjective(TaiDptObjectiveConfig(margin=2.0, unknown=unknown), model.config)
    batch = {"pixel_values": torch.zeros(1, 3, 32, 32), "labels": torch.tensor([[1, -1, 0, 0]])}
    output = objective(model, batch, Progress(step=0, max_steps=1, epoch=0.0))
    output.loss.backward()
    assert logits.grad.tolist() == [slopes]
    assert output.terms["global"] == (1.5 if unknown == "ignore" else 5.0)


def test_a_vit_has_no_regions():
    with pytest.raises(StrictDataclassError, match="`backbone` must be a CLIP ResNet.*'vit_clip'"):
        TaiDptConfig(**TINY_VIT, num_context=4)


def test_every_sub_case_is_compared():
    of_dualcoop = {"dual", "loss/dual_asl"}
    assert {*sub_cases("tai_dpt_head")} == {"", "text", "text_loss", "image", "loss", "loss/ranking"} | of_dualcoop
