import re

import numpy as np
import pytest
import torch
from golden_files import golden, sub_cases
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, BertTokenizer

from hf_mlrpl.models.priors import (
    cosine_similarities,
    dynamic_relation_prior,
    label_embeddings,
    label_prompts,
    label_similarity,
    mean_features,
    read_similarity,
    relation_prior,
)

SETTINGS = {"top_k": 3, "reweight": 0.2, "temperature": 0.3}
SIMILARITY = torch.tensor([[1, 0.8, 0.2, 0.4], [0.8, 1, 0.3, 0.1], [0.2, 0.3, 1, 0.6], [0.4, 0.1, 0.6, 1]])
WITH_OUTPUTS = [case for case in sub_cases("scpnet_prior") if golden("scpnet_prior").outputs(case)]


def _settings(case: str) -> dict[str, float]:
    """`synthetic.k4_p0.2_T0.3` names its settings, `voc` has those of the published configuration."""
    if match := re.fullmatch(r"\w+\.k(\d+)_p([\d.]+)_T([\d.]+)", case):
        return {"top_k": int(match[1]), "reweight": float(match[2]), "temperature": float(match[3])}
    published = golden("scpnet_prior").hparams["published"][case]
    return {"top_k": published["topk"], "reweight": published["p"], "temperature": published["T"]}


@pytest.mark.golden
@pytest.mark.parametrize("case", WITH_OUTPUTS)
def test_relation_prior_matches_published_code(case):
    file, settings = golden("scpnet_prior"), _settings(case)
    expected = file.outputs(case)
    similarity = file.tensors[f"{case.partition('.')[0]}/in.relation"]
    if settings["top_k"] == 1:  # the published code divides zero by zero where a label is its own largest entry
        alone = similarity.argmax(dim=1) == torch.arange(len(similarity))
        not_own = ~torch.eye(len(similarity), dtype=torch.bool)
        assert {name.rpartition("/")[2] for name in expected} == {"out.gcn_relation_isnan", "out.calibrated_isnan"}
        assert torch.equal(file.tensors[f"{case}/out.gcn_relation_isnan"].bool(), alone[:, None] & not_own)
        assert torch.equal(file.tensors[f"{case}/out.calibrated_isnan"].bool(), alone[:, None].expand_as(similarity))
        with pytest.raises(ValueError, match="`top_k` must be at least 2"):
            relation_prior(similarity, **settings)
        return
    checked = set()
    for dtype in (torch.float64, torch.float32):
        graph, calibration = relation_prior(similarity.to(dtype), **settings)
        assert graph.dtype == calibration.dtype == dtype
        for name, actual in (("gcn_relation", graph), ("calibrated", calibration)):
            for key in expected & {f"{case}/out.{name}", f"{case}/out64.{name}"}:
                file.check(key, actual)
                checked.add(key)
    assert checked == expected


def test_the_graph_shares_among_the_nearest_labels():
    graph, calibration = relation_prior(SIMILARITY, **SETTINGS)
    torch.testing.assert_close(graph[0], torch.tensor([0.8, 0.2 * 0.8 / 1.2, 0, 0.2 * 0.4 / 1.2]))
    kept = graph[0, [0, 1, 3]]
    torch.testing.assert_close(calibration[0, [0, 1, 3]], (kept / 0.3).exp() / (kept / 0.3).exp().sum())
    for matrix in (graph, calibration):
        torch.testing.assert_close(matrix.sum(dim=1), torch.ones(4))
        assert matrix.eq(0).sum(dim=1).eq(1).all()


def test_a_top_k_above_the_number_of_labels_keeps_all():
    everything = relation_prior(SIMILARITY, **SETTINGS | {"top_k": 4})
    more = relation_prior(SIMILARITY, **SETTINGS | {"top_k": 62})
    assert all(map(torch.equal, everything, more))


def test_a_single_label_stands_alone():
    vector = torch.ones(1, 3, requires_grad=True)
    for graph, calibration in (
        relation_prior(torch.ones(1, 1), **SETTINGS),
        dynamic_relation_prior(vector, **SETTINGS),
    ):
        assert graph.item() == calibration.item() == 1


@pytest.mark.parametrize(
    ("similarity", "settings", "message"),
    [
        (SIMILARITY, {"top_k": 1}, "`top_k` must be at least 2.*got 1"),
        (SIMILARITY, {"reweight": 1.5}, "`reweight` must lie in .*got 1.5"),
        (SIMILARITY, {"temperature": 0.0}, "`temperature` must be positive, got 0.0"),
        (SIMILARITY[:3], {}, r"must have the shape .*got \(3, 4\)"),
        (SIMILARITY.log().sqrt(), {}, "must be finite"),
        (torch.eye(4), {}, r"label\(s\) 0, 1, 2, 3 .*none"),
        (2 * torch.eye(4) - 1, {"top_k": 4}, r"label\(s\) 0, 1, 2, 3 .*none"),
    ],
)
def test_bad_input_is_never_a_silent_nan(similarity, settings, message):
    with pytest.raises(ValueError, match=message):
        relation_prior(similarity, **SETTINGS | settings)


def test_the_dynamic_prior_has_a_gradient_through_the_graph_only():
    torch.manual_seed(0)
    vectors = torch.rand(5, 8, requires_grad=True)
    graph, calibration = dynamic_relation_prior(vectors, **SETTINGS)
    expected = relation_prior(cosine_similarities(vectors.detach()), **SETTINGS)
    torch.testing.assert_close((graph.detach(), calibration), expected)
    assert not calibration.requires_grad
    graph.square().sum().backward()
    assert vectors.grad.isfinite().all() and vectors.grad.abs().sum() > 0
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(dynamic_relation_prior(vectors, **SETTINGS)[0], graph)


def test_cosines_are_at_least_float32():
    vectors = torch.tensor([[3.0, 4.0], [4.0, 3.0], [-3.0, -4.0]])
    expected = torch.tensor([[1, 0.96, -1], [0.96, 1, -0.96], [-1, -0.96, 1]])
    torch.testing.assert_close(cosine_similarities(vectors), expected)
    torch.testing.assert_close(cosine_similarities(vectors.bfloat16()), expected)
    assert cosine_similarities(vectors.double()).dtype == torch.float64


# --- sources of the similarity ---


def test_word_vectors_as_a_source(tmp_path):
    names = ["car", "truck", "broccoli"]
    similarity = label_similarity(names, "glove")
    torch.testing.assert_close(similarity, cosine_similarities(label_embeddings(names)))
    file = tmp_path / "glove.txt"
    file.write_text("dog 1 0\ncat 3 4\n")
    torch.testing.assert_close(label_similarity(["cat", "dog"], file, dim=2), torch.tensor([[1, 0.6], [0.6, 1]]))


def test_a_text_encoder_gives_the_mean_of_its_words(tmp_path):
    prompts = label_prompts(["traffic_light", "cat"])
    assert prompts == ["a photo of a traffic light", "a photo of a cat"]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"a photo of traffic light cat".split()]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertModel(BertConfig(vocab_size=len(words), **sizes)).eval()
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.mul_(50)  # the initial ones are all but equal
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)

    with torch.no_grad():  # one text at a time: no padding; [CLS] and [SEP] are left out
        means = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 1:-1].mean(0) for text in prompts]
    similarity = label_similarity(["traffic light", "cat"], tmp_path)
    torch.testing.assert_close(similarity, cosine_similarities(torch.stack(means)))
    assert similarity[0, 1] < 0.95 and not similarity.requires_grad


def test_an_unknown_source_says_what_can_be_one(tmp_path):
    with pytest.raises(OSError, match="nowhere' is neither a file, nor a folder, nor a name on the Hub"):
        label_similarity(["cat", "dog"], tmp_path / "nowhere")


def test_similarity_files(tmp_path):
    np.save(tmp_path / "similarity.npy", SIMILARITY.double().numpy())
    save_file({"relation": SIMILARITY.half()}, tmp_path / "similarity.safetensors")
    for name, atol in (("similarity.npy", 0), ("similarity.safetensors", 1e-3)):
        similarity = label_similarity(list("abcd"), tmp_path / name)
        torch.testing.assert_close(similarity, SIMILARITY, atol=atol, rtol=0)


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (SIMILARITY[:3, :3], r"must hold a \(4, 4\) matrix.*got the shape \(3, 3\).*same labels"),
        (SIMILARITY[0], r"got the shape \(4,\)"),
        (SIMILARITY.masked_fill(torch.eye(4).bool(), torch.nan), "must be finite, got nan in row 0, column 0"),
        (SIMILARITY.triu(), "must be symmetric, got 0.8 in row 0, column 1, and 0 the other way round"),
        (
            SIMILARITY - torch.eye(4),
            "must have the largest number of a row on the diagonal, got 0.8 in row 0, column 1, ",
        ),
        (SIMILARITY.int(), "must hold floating point numbers, got .*int32"),
        (None, "is no readable"),
    ],
)
def test_a_bad_similarity_file_is_named(tmp_path, kind, wrong, message):
    path = tmp_path / f"bad.{kind}"
    if wrong is None:
        path.write_bytes(b"these are no numbers")
    elif kind == "npy":
        np.save(path, wrong.numpy())
    else:
        save_file({"relation": wrong.contiguous()}, path)
    with pytest.raises(ValueError, match=rf"bad.{kind}.*{message}"):
        read_similarity(path, 4)


def test_files_that_hold_something_else(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="objects.npy.*allow_pickle=False"):
        read_similarity(tmp_path / "objects.npy", 1)
    save_file({"a": SIMILARITY, "b": SIMILARITY.clone()}, tmp_path / "two.safetensors")
    with pytest.raises(ValueError, match="two.safetensors must hold a single tensor, got 2: a, b"):
        read_similarity(tmp_path / "two.safetensors", 4)
    (tmp_path / "similarity.csv").touch()
    with pytest.raises(ValueError, match="read from .npy or .safetensors files, got .*similarity.csv"):
        read_similarity(tmp_path / "similarity.csv", 4)
    with pytest.raises(FileNotFoundError, match="no file .*nowhere.npy"):
        label_similarity(["cat"], tmp_path / "nowhere.npy")


def test_mean_features_of_the_images_where_a_label_is_known():
    features = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]])
    labels = torch.tensor([[1, -1], [1, 0], [-1, 1]], dtype=torch.int8)
    expected = torch.tensor([[2.0, 1.0], [5.0, 5.0]])
    batches = [(features[:1], labels[:1]), (features[1:], labels[1:])]
    torch.testing.assert_close(mean_features(batches, ["cat", "dog"]), expected)
    with pytest.raises(ValueError, match="1 label.*never known to be present.*: dog"):
        mean_features(batches[:1], ["cat", "dog"])
    with pytest.raises(ValueError, match="2 label"):
        mean_features([], ["cat", "dog"])
