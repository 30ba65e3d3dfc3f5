import logging

import numpy as np
import pytest
import torch
from golden_files import golden
from golden_models import FeatureMap, check_case, cotangent_sum, leaf
from PIL import Image
from tiny import build_model, tiny_model, tiny_recipe
from torch import Tensor, nn

from hf_mlrpl import ImageTaggingPipeline, MlDecoderConfig, MlDecoderForMultiLabelClassification, processor_for
from hf_mlrpl.cli.evaluate import take_labels_of
from hf_mlrpl.data.columns import make_dataset

NAME = "ml_decoder"
PLACES = {  # golden names: ours
    "embed": "embed",
    "query": "query",
    "word": "project_words",
    "norm1": "query_residual",
    "norm2": "attend.residual",
    "norm3": "feed_forward.residual",
    "attn.out": "attend.attention.out_proj",
    "ffn.0": "feed_forward.layers.0",
    "ffn.1": "feed_forward.layers.3",
}


def our_name(golden_name: str) -> str:
    if golden_name.startswith("attn.in_"):
        return golden_name.replace("attn.in_", "attend.attention.in_proj_")
    layer, _, kind = golden_name.rpartition(".")
    return f"{PLACES[layer]}.{kind}"


def by_label(weight: Tensor, num_labels: int) -> Tensor:
    """Rows of classifiers, `(num_labels, dim)`, from those of groups, `(num_groups, dim, labels_per_group)`."""
    return weight.unsqueeze(0)[..., 0] if weight.ndim == 2 else weight.mT.flatten(0, 1)[:num_labels]


def golden_model(case: str, dtype: torch.dtype) -> tuple[MlDecoderForMultiLabelClassification, dict[str, Tensor]]:
    """A model of the sizes of the file, in evaluation mode, and the weights that it was given."""
    file, weights = golden(NAME), golden(NAME).weights(case, dtype)
    is_words = "word.weight" in weights
    hparams, info = file.hparams, file.hparams["info"][case]
    num_labels = hparams["classes"]
    config = MlDecoderConfig(
        backbone="test_resnet",
        num_labels=num_labels,
        queries="words" if is_words else "learned",
        num_groups=None if is_words else info["queries"],
        representation_dim=hparams["dim"],
        feedforward_dim=hparams["feedforward"],
        **({"word_embedding_dim": hparams["word_dim"]} if is_words else {}),
    )
    assert config.labels_per_group == info["factor"]
    model = MlDecoderForMultiLabelClassification(config)
    model.backbone, model.embed = FeatureMap(), nn.Linear(hparams["image_dim"], hparams["dim"])
    state = {our_name(name): weight for name, weight in weights.items() if not name.startswith("group_fc.")}
    state["classifier.weight"] = by_label(weights["group_fc.weight"], num_labels)
    state["classifier.bias"] = weights["group_fc.bias"]
    missing, unexpected = model.to(dtype).load_state_dict(state, strict=False)
    assert unexpected == [] and missing == ["word_embeddings"] * is_words
    return model.eval(), weights


def gradients_of(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients under their golden names and in their golden shapes; zeros where no label uses a weight."""
    of = {name: parameter.grad for name, parameter in model.named_parameters()}
    found = {f"grad.w.{name}": of[our_name(name)] for name in weights if not name.startswith("group_fc.")}
    weight = torch.zeros_like(weights["group_fc.weight"])
    by_group = weight.unsqueeze(0) if weight.ndim == 2 else weight
    slots = torch.zeros_like(by_group.mT.flatten(0, 1))
    slots[: len(of["classifier.weight"])] = of["classifier.weight"]
    found["grad.w.group_fc.weight"] = slots.view_as(by_group.mT).mT.reshape(weight.shape)
    return found | {"grad.w.group_fc.bias": of["classifier.bias"]}


@pytest.mark.golden
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", sorted(golden(NAME).hparams["info"]))
def test_matches_published_code(case, dtype):
    file = golden(NAME)
    tensors = file.case() | file.case(case)
    model, weights = golden_model(case, dtype)
    features = leaf(tensors["in.feature_map"], dtype)
    gradients = {"grad.in.feature_map": features}
    if model.reads_names:
        model.word_embeddings = leaf(tensors["in.word_vectors"], dtype)
        gradients["grad.in.word_vectors"] = model.word_embeddings
    logits = model(features).logits
    scalar = cotangent_sum({"logits": logits}, tensors)
    scalar.backward()
    gradients = {name: tensor.grad for name, tensor in gradients.items()} | gradients_of(model, weights)
    check_case(file, case, {"logits": logits, "scalar": scalar} | gradients)


@pytest.mark.golden
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_other_words_are_other_labels(dtype):
    """Words that were not there in training, with the weights of those that were."""
    tensors = golden(NAME).case() | golden(NAME).case("zsl_unseen")
    model, _ = golden_model("zsl", dtype)
    model.word_embeddings = tensors["in.word_vectors"].to(dtype)
    check_case(golden(NAME), "zsl_unseen", {"logits": model(tensors["in.feature_map"].to(dtype)).logits})


# ---- groups ----


def test_labels_of_a_group_share_what_its_query_finds():
    model = tiny_model(NAME, 5, num_groups=2).eval()  # three labels, and two
    representations, maps = model.represent(model.encode(torch.randn(2, 3, 64, 64)))
    assert representations.shape == (2, 5, 24) and maps.shape == (2, 5, 2, 2)
    torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(2, 5))
    for of_labels in (representations, maps):
        of_queries = of_labels[:, [0, 0, 0, 3, 3]]
        assert torch.equal(of_labels, of_queries) and not torch.equal(of_labels[:, 0], of_labels[:, 3])


def test_up_to_a_hundred_labels_have_a_query_each_and_more_labels_are_grouped_with_a_word(caplog):
    logging.getLogger("hf_mlrpl").propagate = True
    full, grouped = (MlDecoderConfig(num_labels=number) for number in (100, 101))
    assert (full.num_queries, full.labels_per_group) == (100, 1)
    assert (grouped.num_queries, grouped.labels_per_group) == (100, 2)
    assert MlDecoderConfig(num_labels=101, num_groups=101).labels_per_group == 1
    assert MlDecoderConfig(num_labels=9605, num_groups=200).labels_per_group == 49
    assert tiny_model(NAME, 101).query.weight.shape == (100, 24)
    assert "100 queries for 101 labels, and 2 labels share one; `num_groups: 101` has one for each" in caplog.text
    caplog.clear()
    assert tiny_model(NAME, 101, num_groups=100).config.labels_per_group == 2 and not caplog.records


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_groups": 6}, "`num_groups` must be at most the number of labels, 5, got 6"),
        ({"num_groups": 2, "queries": "words"}, "`num_groups` must be null with `queries: words`"),
        ({"word_embedding_dim": 16}, "`word_embedding_dim` is that of words, .* got 16 and `queries: fixed`"),
        ({"label_embeddings": "glove.txt", "queries": "learned"}, "`label_embeddings` is that of words, .* learned"),
        ({"representation_dim": 20}, "`representation_dim` must be a multiple of `num_heads`, got 20 and 8"),
    ],
)
def test_sizes_that_do_not_fit_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(NAME, 5, **settings)


# ---- queries ----


@pytest.mark.parametrize(("queries", "is_trained"), [("fixed", False), ("learned", True)])
def test_queries_are_trained_where_the_setting_says_so(queries, is_trained, tmp_path):
    model = tiny_model(NAME, queries=queries)
    model.save_pretrained(tmp_path)
    loaded = MlDecoderForMultiLabelClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded.query.weight, model.query.weight)
    for one in (model, loaded):
        assert one.query.weight.requires_grad == is_trained
        one.train()(torch.randn(2, 3, 32, 32), torch.ones(2, 5)).loss.backward()
        assert (one.query.weight.grad is not None) == is_trained


def test_the_first_weights_are_spread_as_in_published_code():
    """Xavier's rule for one tensor with the classifiers of all groups, `(num_groups, dim, labels_per_group)`."""
    for num_labels, num_groups in ((400, 400), (400, 100)):
        model = tiny_model(NAME, num_labels, num_groups=num_groups, representation_dim=64)
        published = torch.nn.init.xavier_normal_(torch.empty(num_groups, 64, num_labels // num_groups))
        assert model.classifier.weight.std().item() == pytest.approx(published.std().item(), rel=0.05)
        assert not model.classifier.bias.any() and not model.attend.attention.out_proj.bias.any()
        assert model.query.weight.std().item() == pytest.approx(1, rel=0.05)


# ---- words ----

NAMES = ["cat", "traffic light", "dog"]


@pytest.fixture
def glove(tmp_path):
    """A file with vectors of some words."""
    generator = torch.Generator().manual_seed(0)
    words = ["cat", "traffic", "light", "dog", "zebra"]
    lines = [f"{word} {' '.join(f'{x:.4f}' for x in torch.randn(16, generator=generator).tolist())}" for word in words]
    path = tmp_path / "glove.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def word_model(source, names=NAMES) -> MlDecoderForMultiLabelClassification:
    """A trained model that reads names."""
    settings = {"queries": "words", "label_embeddings": str(source), "word_embedding_dim": 16}
    recipe = tiny_recipe(NAME, model=settings)
    return build_model(recipe, names, np.ones((1, len(names)), np.int8)).eval()


def test_labels_can_change_where_they_are_words(glove, tmp_path):
    model, photos = word_model(glove), torch.randn(2, 3, 64, 64)
    model.config.thresholds = [0.1, 0.2, 0.3]
    before = model(photos).logits
    model.set_labels(["zebra", "Dog", "traffic_light"])
    assert model.config.label_names == ["zebra", "Dog", "traffic_light"]
    assert model.config.thresholds == [0.5, 0.3, 0.2]
    after = model(photos).logits
    torch.testing.assert_close(after[:, 1:], before[:, [2, 1]])
    fresh = word_model(glove, ["zebra"])
    torch.testing.assert_close(model.word_embeddings[:1], fresh.word_embeddings)
    model.save_pretrained(tmp_path / "saved")
    loaded = MlDecoderForMultiLabelClassification.from_pretrained(tmp_path / "saved")
    assert loaded.config.label_names[0] == "zebra" and torch.equal(loaded.word_embeddings, model.word_embeddings)
    torch.testing.assert_close(loaded(photos).logits, after)


def test_known_labels_need_no_file_and_what_cannot_be_read_leaves_the_model_as_it_was(glove):
    model, photos = word_model(glove), torch.randn(2, 3, 64, 64)
    before = model(photos).logits
    with pytest.raises(ValueError, match="has no vector for any word of 1 label name"):
        model.set_labels(["cat", "xylophone"])
    with pytest.raises(ValueError, match="every label must be named once"):
        model.set_labels(["cat", "cat"])
    glove.unlink()
    with pytest.raises(FileNotFoundError, match="is no file"):
        model.set_labels(["zebra", "cat"])
    assert model.config.label_names == NAMES and torch.equal(model(photos).logits, before)
    model.set_labels(["dog", "cat"])
    torch.testing.assert_close(model(photos).logits, before[:, [2, 0]])


def test_vectors_without_words_know_no_other_labels():
    model = word_model("orthogonal")
    with pytest.raises(ValueError, match="cannot be asked about zebra, .* know nothing of words"):
        model.set_labels(["cat", "zebra"])
    model.set_labels(["dog"])
    with pytest.raises(ValueError, match="labels of a MlDecoderForMultiLabelClassification cannot change"):
        tiny_model(NAME).set_labels(["cat"])


def test_the_pipeline_and_the_evaluation_ask_about_other_labels(glove):
    model = word_model(glove)
    tagger = ImageTaggingPipeline(model=model, image_processor=processor_for(model.config), labels=["zebra", "cat"])
    tags = tagger(Image.new("RGB", (40, 40)), threshold=0.0, attention_maps=True)
    assert {tag["label"] for tag in tags} == {"zebra", "cat"} and all("attention_map" in tag for tag in tags)
    data = make_dataset([b""], ["a"], np.ones((1, 2), np.int8), ["dog", "cat"])
    assert take_labels_of(data, model, "runs/words") == {"seen": [1], "unseen": [0]}
    assert model.config.label_names == ["dog", "cat"]


def test_all_labels_share_the_classifier_and_the_words_are_a_prior(glove):
    model = word_model(glove)
    assert model.classifier.weight.shape == (1, 24) and model.classifier.bias.shape == (1,)
    assert model.prior_buffers == ("word_embeddings",) and tiny_model(NAME).prior_buffers == ()
    same = word_model(glove, NAMES[::-1]).word_embeddings
    assert torch.equal(same.flip(0), model.word_embeddings)
    assert isinstance(
        tiny_model(NAME, queries="words", label_embeddings="orthogonal", word_embedding_dim=24).project_words,
        nn.Identity,
    )
