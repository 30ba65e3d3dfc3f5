import re

import pytest
import torch

from hf_mlrpl.clip import prompts
from hf_mlrpl.clip.configuration_clip import ClipConfig
from hf_mlrpl.clip.prompts import PromptLearner, tokenize_labels
from hf_mlrpl.clip.text_encoder import ClipTextEncoder

SIZES = {"layers": 2, "width": 16, "vocab_size": 40, "context_length": 12}
CONFIG = {
    "backbone": "resnet_clip",
    "vision_sizes": {"layers": [1, 1, 1, 1], "width": 2},
    "text_sizes": SIZES,
    "embed_dim": 8,
}
NAMES = ["cat", "traffic_light", "tv monitor set"]


class Words:
    """A tokenizer that numbers words in the order in which it meets them; 1 starts a text, 39 ends it."""

    def __init__(self):
        self.words = {}

    def __call__(self, texts, add_special_tokens=True):
        rows = [self.tokens(text) for text in ([texts] if isinstance(texts, str) else texts)]
        rows = [[1, *row, 39] for row in rows] if add_special_tokens else rows
        return {"input_ids": rows[0] if isinstance(texts, str) else rows}

    def tokens(self, text):
        return [self.words.setdefault(word, 2 + len(self.words)) for word in re.findall(r"\w+|\S", text.lower())]


@pytest.fixture
def text_encoder():
    torch.manual_seed(0)
    return ClipTextEncoder(ClipConfig(**CONFIG))


def make_learner(num_context=2, per_label=False, names=NAMES):
    learner = PromptLearner(len(names), num_context, SIZES["width"], SIZES["context_length"], per_label)
    learner.set_tokens(*tokenize_labels(names, Words(), num_context, SIZES["context_length"]))
    return learner


def test_a_prompt_is_context_name_and_period():
    token_ids, end_positions = tokenize_labels(["cat", "traffic_light"], Words(), 3, 10)
    cat, period, traffic, light = 2, 3, 4, 5
    assert token_ids[:, 4:].tolist() == [[cat, period, 39, 0, 0, 0], [traffic, light, period, 39, 0, 0]]
    assert token_ids[:, 0].tolist() == [1, 1]
    assert end_positions.tolist() == [6, 7]


@pytest.mark.parametrize(
    "names, message",
    [
        ([], r"list of at least one, got \[\]"),
        ("zebra", "list of at least one, got 'zebra'"),
        (["cat", ""], r"label 1 \(counted from 0\) is empty, got ''"),
        (["__", "cat"], r"label 0 \(counted from 0\) is empty, got '__'"),
        (["TV_monitor", "cat", "tv  monitor"], r"labels 0 and 2 .* read alike: 'TV_monitor' and 'tv  monitor'"),
        (
            ["a b c d e f g h i"],
            r"'a b c d e f g h i' is too long: its prompt has 15 tokens, 3 of them learned, .* 12",
        ),
    ],
)
def test_names_that_make_no_prompt_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        tokenize_labels(names, Words(), 3, SIZES["context_length"])


def test_a_prompt_that_just_fits_is_no_error():
    assert tokenize_labels(["a b c d e f"], Words(), 3, 12)[1].tolist() == [11]


@pytest.mark.parametrize("per_label", [False, True])
def test_the_context_stands_between_start_and_name(text_encoder, per_label):
    learner = make_learner(per_label=per_label)
    embedded = learner.embeddings(text_encoder)
    assert embedded.shape == (3, 8, 16), "the longest prompt: start, 2, 3 words, period, end"
    native = text_encoder.embed(learner.token_ids[:, :8])
    assert torch.equal(embedded[:, 1:3], learner.context.expand(3, 2, 16))
    assert torch.equal(embedded[:, [0, 3, 4, 5, 6, 7]], native[:, [0, 3, 4, 5, 6, 7]])


def test_what_stands_behind_the_longest_prompt_makes_no_difference(text_encoder):
    learner = make_learner()
    short = learner(text_encoder)
    learner._length = SIZES["context_length"]
    assert learner.embeddings(text_encoder).shape[1] == 12
    torch.testing.assert_close(learner(text_encoder), short)


def test_gradients_reach_the_context_alone(text_encoder):
    learner = make_learner()
    learner(text_encoder).sum().backward()
    assert learner.context.grad.abs().min() > 0
    assert all(parameter.grad is None for parameter in text_encoder.parameters())


@pytest.mark.parametrize("per_label", [False, True])
def test_many_labels_go_in_turns(text_encoder, per_label, monkeypatch):
    """The same features and gradients; and no turn keeps its activations for the backward pass."""
    learner = make_learner(per_label=per_label, names=[*"abcdefgh", "i j k"])
    cotangent = torch.randn(9, 8)
    runs, lengths = [], []
    text_encoder.register_forward_pre_hook(lambda module, inputs: lengths.append(len(inputs[0])))
    for prompts_per_pass in (9, 4):
        monkeypatch.setattr(prompts, "PROMPTS_PER_PASS", prompts_per_pass)
        features = learner(text_encoder)
        gradient = torch.autograd.grad((features * cotangent).sum(), learner.context)[0]
        runs.append((features, gradient))
    torch.testing.assert_close(runs[0], runs[1])
    assert lengths[:4] == [9, 4, 4, 1] and sorted(lengths[4:]) == [1, 4, 4], "forward, and again backwards"


def test_both_prompts_of_a_label_go_through_the_text_tower_at_once(text_encoder, monkeypatch):
    learners = [make_learner(names=[*"abcdefg"]) for _ in range(2)]
    lengths = []
    text_encoder.register_forward_pre_hook(lambda module, inputs: lengths.append(len(inputs[0])))
    for prompts_per_pass, expected in ((14, [14]), (6, [6, 6, 2])):
        monkeypatch.setattr(prompts, "PROMPTS_PER_PASS", prompts_per_pass)
        lengths.clear()
        features = prompts.features_of_prompts(text_encoder, *learners)
        assert lengths == expected
        separate = torch.cat([learner(text_encoder) for learner in learners])
        torch.testing.assert_close(features, separate)


def test_without_labels_there_are_no_prompts(text_encoder):
    with pytest.raises(RuntimeError, match=r"no prompts yet: call `set_priors"):
        PromptLearner(3, 2, 16, 12)(text_encoder)


def test_words_start_the_context(text_encoder):
    learner, tokenizer = make_learner(num_context=4), Words()
    learner.start_from("a photo of a", tokenizer, text_encoder)
    assert torch.equal(learner.context, text_encoder.embed(torch.tensor([2, 3, 4, 2])))
    with pytest.raises(ValueError, match="must be 4 tokens long.*'a photo' has 2.*Set `num_context` to 2"):
        learner.start_from("a photo", tokenizer, text_encoder)


def test_the_context_starts_small():
    torch.manual_seed(0)
    context = PromptLearner(30, 16, 64, 20, per_label=True).context
    assert context.shape == (30, 16, 64) and abs(context.std() - 0.02) < 0.001


def test_other_weights_may_have_longer_prompts(text_encoder):
    """The length of the prompts is remembered, and must not outlive them."""
    learner, other = make_learner(names=["cat", "dog", "cow"]), make_learner()
    assert learner.length == 6
    learner.load_state_dict(other.state_dict())
    assert learner.length == 8
    assert torch.equal(learner(text_encoder), other(text_encoder))


def test_labels_take_their_own_context_along(text_encoder):
    learner, tokenizer = make_learner(per_label=True), Words()
    learner.set_tokens(*tokenize_labels(NAMES, tokenizer, 2, 12))
    expected = learner(text_encoder)[[2, 0]]
    learner.set_tokens(*tokenize_labels([NAMES[2], NAMES[0]], tokenizer, 2, 12), rows=[2, 0])
    assert learner.context.shape == (2, 2, 16) and learner.context.requires_grad
    torch.testing.assert_close(learner(text_encoder), expected)
