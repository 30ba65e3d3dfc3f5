"""`hf-mlrpl convert scpnet` and `convert dualcoop`: checkpoints as the authors' code writes them."""

import math

import pytest
import torch
from golden_files import Golden, golden
from golden_prompts import TOWERS, GoldenTokenizer
from safetensors.torch import save_file
from tiny_clip import as_openai, tiny_towers
from torch import Tensor

from hf_mlrpl.cli.main import main
from hf_mlrpl.clip import modeling_clip
from hf_mlrpl.methods.dualcoop.modeling_dualcoop import DualCoOpForMultiLabelClassification
from hf_mlrpl.methods.scpnet.modeling_scpnet import ScpnetForMultiLabelClassification

NAMES = ["cat", "bus", "dog"]  # the tiny text tower reads 16 bytes
VISUAL = "visual."
MODELS = {"scpnet": ScpnetForMultiLabelClassification, "dualcoop": DualCoOpForMultiLabelClassification}


class SavedTokenizer(GoldenTokenizer):
    """A golden file has no tokenizer that can be saved."""

    def save_pretrained(self, folder, **_) -> None:
        (folder / "tokenizer.json").write_text("{}")


def towers_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """CLIP's weights as the authors' models hold them: without token embeddings."""
    others = ("token_embedding.", "logit_scale", "input_resolution", "context_length", "vocab_size")
    return {
        f"image_encoder.{name.removeprefix(VISUAL)}" if name.startswith(VISUAL) else f"text_encoder.{name}": tensor
        for name, tensor in state.items()
        if not name.startswith(others)
    }


def words(state: dict[str, Tensor], token_ids: Tensor, num_context: int, kind: str = "") -> dict[str, Tensor]:
    embedded = state["token_embedding.weight"][token_ids]
    parts = {"prefix": embedded[:, :1], "suffix": embedded[:, 1 + num_context :]}
    return {f"prompt_learner.token_{part}{kind}": tensor.clone() for part, tensor in parts.items()}


def scpnet_state(state: dict[str, Tensor], token_ids: Tensor, context: Tensor, graph: list[Tensor]) -> dict:
    learned = {"prompt_learner.ctx": context, "logit_scale": state["logit_scale"]}
    learned |= {f"gc{i}.weight": weight for i, weight in enumerate(graph, start=1)}
    middle = state["token_embedding.weight"][token_ids][:, 1 : 1 + len(context)].clone()
    learned["prompt_learner.token_middle"] = middle
    return towers_of(state) | learned | words(state, token_ids, context.shape[-2])


def dualcoop_state(state: dict[str, Tensor], token_ids: Tensor, negative: Tensor, positive: Tensor) -> dict:
    negatives, positives = token_ids.chunk(2)
    learned = {"prompt_learner.ctx_neg": negative, "prompt_learner.ctx_pos": positive}
    learned["prompt_learner.tokenized_prompts"] = token_ids
    num_context = negative.shape[-2]
    return (
        towers_of(state)
        | learned
        | words(state, negatives, num_context, "_neg")
        | words(state, positives, num_context, "_pos")
    )


# ---- the golden models ----


@pytest.fixture
def golden_clip(tmp_path, monkeypatch, capsys):
    """Converts the golden CLIP model; gives its state dict, and a function that makes a file's tokenizer the one of
    its folder."""
    state = golden(TOWERS).weights(dtype=torch.float32)
    torch.save(state, tmp_path / "clip.pt")
    assert main(["convert", "clip", str(tmp_path / "clip.pt"), str(tmp_path / "clip")]) == 0
    (tmp_path / "clip" / "tokenizer.json").write_text("{}")

    def use(file: Golden, token_ids: Tensor, num_context: int) -> None:
        names = file.hparams["classnames"]
        tokenizer = SavedTokenizer(names, token_ids, num_context)
        monkeypatch.setattr(modeling_clip, "parse_tokenizer", lambda *_: tokenizer)
        (tmp_path / "labels.txt").write_text("\n".join(names))

    return state, use


def convert(folder, kind: str, checkpoint, *arguments: str) -> int:
    common = ["--clip", str(folder / "clip"), "--labels", str(folder / "labels.txt")]
    return main(["convert", kind, str(checkpoint), str(folder / "out"), *common, *arguments])


def converted(folder, kind: str):
    return MODELS[kind].from_pretrained(folder / "out").eval()


@pytest.mark.golden
def test_a_checkpoint_of_scpnet_gives_the_published_logits(golden_clip, tmp_path, capsys):
    file, (state, use) = golden("scpnet_full"), golden_clip
    tensors, hparams = file.tensors, file.hparams
    context = tensors["in.context"]
    use(file, tensors["in.token_ids"], len(context))
    graph = [tensors[f"w.gcn.{i}.weight"] for i in range(3)]
    torch.save(scpnet_state(state, tensors["in.token_ids"], context, graph), tmp_path / "model-highest.ckpt")
    save_file({"relation": tensors["in.relation"]}, tmp_path / "relation.safetensors")
    settings = [f"prior_top_k={hparams['sparse_topk']}", f"prior_reweight={hparams['reweight_p']}"]
    settings += [f"prior_temperature={hparams['T']}", f"scale={hparams['scale']}"]
    arguments = ["--relation", str(tmp_path / "relation.safetensors"), *settings]
    assert convert(tmp_path, "scpnet", tmp_path / "model-highest.ckpt", *arguments) == 0
    file.check("out.logits", converted(tmp_path, "scpnet")(golden(TOWERS).tensors["in.image"]).logits)
    unused = "logit_scale, prompt_learner.token_middle, prompt_learner.token_prefix, prompt_learner.token_suffix"
    assert f"not used: {unused}\n" in capsys.readouterr().out


@pytest.mark.golden
@pytest.mark.parametrize("case", ["shared", "csc"])
def test_a_checkpoint_of_dualcoop_gives_the_published_logits(case, golden_clip, tmp_path, capsys):
    file, (state, use) = golden("dualcoop_full"), golden_clip
    tensors = file.case(case)
    negative, positive = tensors["in.context_negative"], tensors["in.context_positive"]
    use(file, tensors["in.token_ids"].chunk(2)[1], file.hparams["n_ctx"])
    weights = dualcoop_state(state, tensors["in.token_ids"], negative, positive)
    torch.save({"epoch": 50, "state_dict": weights}, tmp_path / "model_best.pth.tar")
    size = golden(TOWERS).hparams["image_size"]
    assert convert(tmp_path, "dualcoop", tmp_path / "model_best.pth.tar", f"image_size={size}") == 0
    published = tensors["out.logits"]
    actual = converted(tmp_path, "dualcoop")(golden(TOWERS).tensors["in.image"]).logits
    assert (actual - (published[:, 1] - published[:, 0])).abs().max() <= 1e-5 * published.abs().max()
    contexts = "a context for each label" if case == "csc" else "one context"
    assert f"{contexts} of {file.hparams['n_ctx']} tokens" in capsys.readouterr().out


# ---- tiny models ----


@pytest.fixture
def clip_state(tmp_path) -> tuple[dict[str, Tensor], Tensor]:
    """A CLIP folder with a tokenizer, and labels: the weights, and the tokens of "X X X X <name>."."""
    towers = tiny_towers()
    towers.save_pretrained(tmp_path / "clip")
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    texts = towers.tokenizer([f"{name}." for name in NAMES]).input_ids
    token_ids = torch.zeros(len(NAMES), 16 + 8, dtype=torch.int64)
    for row, (start, *rest) in zip(token_ids, texts, strict=True):
        prompt = torch.tensor([start, *[320] * 4, *rest])
        row[: len(prompt)] = prompt
    return as_openai(towers), token_ids[:, : towers.text_encoder.context_length]


@pytest.fixture
def scpnet(clip_state, tmp_path):
    """Writes a checkpoint of SCPNet's authors with changes; gives its path."""
    state, token_ids = clip_state
    graph = [0.1 * torch.randn(24, 12), 0.1 * torch.randn(12, 12), 0.1 * torch.randn(12, 24)]

    def write(**changes: Tensor | None):
        weights = scpnet_state(state, token_ids, 0.1 * torch.randn(4, 64), graph) | changes
        torch.save({name: tensor for name, tensor in weights.items() if tensor is not None}, tmp_path / "a.ckpt")
        return tmp_path / "a.ckpt"

    return write


def error_of(folder, kind, checkpoint, capsys, *arguments) -> str:
    capsys.readouterr()
    assert convert(folder, kind, checkpoint, *arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1, "one line"
    assert not (folder / "out").exists()
    return message


def test_a_converted_checkpoint_is_a_model_like_any_other(scpnet, tmp_path, capsys):
    assert convert(tmp_path, "scpnet", scpnet(), "prior_top_k=2") == 0
    model = converted(tmp_path, "scpnet")
    assert model.config.label_names == NAMES and model.config.prior_top_k == 2 and model.has_tokenizer
    model.set_labels(["cat", "zebra"])
    assert model(torch.randn(1, 3, 64, 64)).logits.shape == (1, 2)
    assert (tmp_path / "out" / "preprocessor_config.json").is_file()


def test_without_a_relation_it_is_that_of_clip(scpnet, tmp_path, capsys):
    assert convert(tmp_path, "scpnet", scpnet(), "prior_top_k=2") == 0
    model = converted(tmp_path, "scpnet")
    expected = model.label_priors(NAMES)["graph"]
    torch.testing.assert_close(model.graph, expected)
    assert model.graph.diagonal().tolist() == pytest.approx([0.8] * 3)


def test_a_trained_scale_is_taken_over(scpnet, tmp_path, capsys):
    checkpoint = scpnet(logit_scale=torch.tensor(2.5))
    assert convert(tmp_path, "scpnet", checkpoint) == 0
    model = converted(tmp_path, "scpnet")
    assert model.config.learn_scale and model.scale.item() == pytest.approx(math.exp(2.5))
    assert "logit_scale" not in capsys.readouterr().out


def test_a_checkpoint_with_schedule_and_optimizer(clip_state, tmp_path, capsys):
    """DualCoOp's code saves a schedule that holds another one, with its optimizer, as objects."""
    state, token_ids = clip_state
    both = torch.cat([token_ids, token_ids])
    weights = dualcoop_state(state, both, torch.randn(3, 4, 64), torch.randn(3, 4, 64))
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    parameter.sum().backward()
    optimizer.step()
    schedule = {"successor": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50), "warmup_epoch": 1}
    content = {"epoch": 50, "state_dict": weights, "optimizer": optimizer.state_dict(), "scheduler": schedule}
    torch.save(content, tmp_path / "model_best.pth.tar")
    assert convert(tmp_path, "dualcoop", tmp_path / "model_best.pth.tar", "image_size=96") == 0
    model = converted(tmp_path, "dualcoop")
    torch.testing.assert_close(model.positive_prompts.context, weights["prompt_learner.ctx_pos"])
    torch.testing.assert_close(model.negative_prompts.context, weights["prompt_learner.ctx_neg"])
    assert model.backbone.network.head.feat_size == (3, 3), "positions for the larger images"


def test_labels_in_another_order_are_an_error(scpnet, tmp_path, capsys):
    checkpoint = scpnet()
    (tmp_path / "labels.txt").write_text("cat\ndog\nbus\n")
    message = error_of(tmp_path, "scpnet", checkpoint, capsys)
    assert "was trained with other words for 2 labels (dog, bus)" in message


def test_another_number_of_labels_is_an_error(scpnet, tmp_path, capsys):
    checkpoint = scpnet()
    (tmp_path / "labels.txt").write_text("cat\nbus\n")
    assert "was trained with 3 labels, not with 2" in error_of(tmp_path, "scpnet", checkpoint, capsys)


def test_another_clip_model_is_an_error_with_both_sides(scpnet, tmp_path, capsys):
    checkpoint = scpnet()
    other = tiny_towers(vision_sizes={"layers": [1, 1, 2, 1], "width": 8})
    for file in (tmp_path / "clip").iterdir():
        file.unlink()
    other.save_pretrained(tmp_path / "clip")
    message = error_of(tmp_path, "scpnet", checkpoint, capsys)
    assert (
        "`vision_sizes` is {'layers': [1, 1, 2, 1], 'width': 8}, not {'layers': [1, 1, 1, 1], 'width': 8}" in message
    )


@pytest.mark.parametrize(
    ("missing", "fault"),
    [
        ("prompt_learner.ctx", "has no `prompt_learner.ctx`, so it is no checkpoint of this kind"),
        ("prompt_learner.token_suffix", "has no `prompt_learner.token_suffix`"),
        ("gc1.weight", "has no `gc1.weight`"),
        ("image_encoder.bn1.weight", "1 missing (visual.bn1.weight)"),
    ],
)
def test_missing_weights_are_named(missing, fault, scpnet, tmp_path, capsys):
    assert fault in error_of(tmp_path, "scpnet", scpnet(**{missing: None}), capsys)


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("prior_topk=3", "has no key `prior_topk`. Did you mean `prior_top_k`"),
        ("prior_top_k=many", "`model.prior_top_k` must be"),
        ("num_context=8", "`num_context` cannot be chosen: it is 4 in"),
        ("scale=-1", "scale` must lie in (0, 1e4], got -1"),
        ("adjacency=null", "`adjacency` cannot be chosen: it is 'graph' in"),
        ("image_network=test_resnet", "`image_network` cannot be chosen: it is None in"),
        ("context_words=a photo of a", "`context_words` cannot be chosen: it is None in"),
        ("prior=images", "Give the similarity of the labels that the checkpoint was trained with, `--relation FILE`"),
        ("scale", "must look like key=value, got 'scale'"),
    ],
)
def test_wrong_settings_are_errors(setting, fault, scpnet, tmp_path, capsys):
    assert fault in error_of(tmp_path, "scpnet", scpnet(), capsys, setting)


def test_a_relation_of_another_size_is_an_error(scpnet, tmp_path, capsys):
    save_file({"relation": torch.eye(4)}, tmp_path / "r.safetensors")
    message = error_of(tmp_path, "scpnet", scpnet(), capsys, "--relation", str(tmp_path / "r.safetensors"))
    assert "must hold a (3, 3) matrix" in message


def test_a_checkpoint_with_code_is_refused(tmp_path, clip_state, capsys):
    torch.save({"state_dict": torch.nn.Linear(2, 2)}, tmp_path / "evil.ckpt")
    message = error_of(tmp_path, "dualcoop", tmp_path / "evil.ckpt", capsys)
    assert "it names torch.nn.modules.linear.Linear, which is no tensor and is not loaded" in message


def test_settings_may_stand_before_and_behind_options(scpnet, tmp_path, capsys):
    checkpoint = str(scpnet())
    options = ["--clip", str(tmp_path / "clip"), "--labels", str(tmp_path / "labels.txt")]
    arguments = [checkpoint, str(tmp_path / "out"), "scale=20", *options, "prior_top_k=2"]
    assert main(["convert", "scpnet", *arguments]) == 0
    config = converted(tmp_path, "scpnet").config
    assert (config.scale, config.prior_top_k) == (20, 2)


@pytest.mark.parametrize("kind", ["scpnet", "dualcoop"])
def test_each_kind_has_a_help(kind, capsys):
    with pytest.raises(SystemExit) as end:
        main(["convert", kind, "--help"])
    assert end.value.code == 0 and "hf-mlrpl convert clip" in capsys.readouterr().out
