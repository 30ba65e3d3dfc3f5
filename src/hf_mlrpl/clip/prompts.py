"""Prompts of the labels, "<learned context> traffic light.", and the text features that CLIP gives them.

Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import initialization as init

from .configuration_clip import ClipPromptConfig
from .text_encoder import ClipTextEncoder

PROMPTS_PER_PASS = 512  # about 10 MB of activations for each prompt of 12 tokens, with gradients


def tokenize_labels(
    names: Sequence[str], tokenizer: Callable[..., Any], num_context: int, context_length: int
) -> tuple[Tensor, Tensor]:
    """The tokens of `<start> <num_context places> <name> . <end>` for every label; an underscore is read as a space.

    Args:
        tokenizer: that of the text encoder, which puts its start and its end around a text.
        num_context: places for the learned context; what stands there is never read.
        context_length: tokens that the text encoder reads at most.

    Returns:
        Token ids `(num_labels, context_length)`, and the position of the end of each, `(num_labels,)`.

    Raises:
        ValueError: for a name that is empty, too long, or read like another one.
    """
    words = [spoken(name) for name in names]
    _check_words(names, words)
    token_ids = torch.zeros(len(names), context_length, dtype=torch.int64)
    end_positions = torch.zeros(len(names), dtype=torch.int64)
    for row, (start, *rest) in enumerate(tokenizer([f"{word}." for word in words])["input_ids"]):
        tokens = [start, *[start] * num_context, *rest]
        if len(tokens) > context_length:
            raise ValueError(
                f"The label {names[row]!r} is too long: its prompt has {len(tokens)} tokens, {num_context} of them "
                f"learned, and the text encoder reads {context_length}. Shorten the name, or lower `num_context`."
            )
        token_ids[row, : len(tokens)] = torch.tensor(tokens)
        end_positions[row] = len(tokens) - 1
    return token_ids, end_positions


def spoken(name: str) -> str:
    """A label name as it is read: words with single spaces."""
    return " ".join(name.replace("_", " ").split())


def _check_words(names: Sequence[str], words: list[str]) -> None:
    if isinstance(names, str) or not words:
        raise ValueError(f"Label names must be a list of at least one, got {names!r}.")
    rows: dict[str, int] = {}
    for row, word in enumerate(words):
        if not word:
            raise ValueError(f"The name of label {row} (counted from 0) is empty, got {names[row]!r}. Give it a word.")
        other = rows.setdefault(word.lower(), row)
        if other != row:
            raise ValueError(
                f"The labels {other} and {row} (counted from 0) are read alike: {names[other]!r} and {names[row]!r}. "
                "Rename one, or leave it out."
            )


class PromptLearner(nn.Module):
    """Prompts with a learned context in front of the label names.

    Attributes:
        context: `(num_context, width)`, or `(num_labels, num_context, width)` where each label has its own.
        token_ids: `(num_labels, context_length)`, see `tokenize_labels`; zeros until `set_tokens`.
        end_positions: position of the end token of each prompt, `(num_labels,)`.
    """

    token_ids: Tensor
    end_positions: Tensor

    def __init__(self, num_labels: int, num_context: int, width: int, context_length: int, per_label: bool = False):
        super().__init__()
        shape = (num_labels, num_context, width) if per_label else (num_context, width)
        self.context = nn.Parameter(torch.empty(shape))
        # Persistent, so that a checkpoint needs no tokenizer as long as its labels stay.
        self.register_buffer("token_ids", torch.empty(num_labels, context_length, dtype=torch.int64))
        self.register_buffer("end_positions", torch.empty(num_labels, dtype=torch.int64))
        self._length: int | None = None
        self.reset_parameters()

    @classmethod
    def from_config(cls, config: ClipPromptConfig) -> "PromptLearner":
        sizes = config.text_sizes
        return cls(
            config.num_labels, config.num_context, sizes["width"], sizes["context_length"], config.context_per_label
        )

    def reset_parameters(self) -> None:
        init.normal_(self.context, std=0.02)
        init.zeros_(self.token_ids)
        init.zeros_(self.end_positions)

    @property
    def is_per_label(self) -> bool:
        return self.context.ndim == 3

    @property
    def has_tokens(self) -> bool:
        return bool(self.end_positions.any())

    @property
    def length(self) -> int:
        """Tokens up to the end of the longest prompt: as the mask of the text encoder is causal, nothing behind it
        matters."""
        if self._length is None:
            self.measure()
        if self._length is None:
            raise RuntimeError("There are no prompts yet: call `set_priors()` or `set_labels(names)` of the model.")
        return self._length

    def measure(self) -> None:
        """Read `length` from the device, once and before a step, which would wait for it."""
        if self._length is None and self.has_tokens:
            self._length = int(self.end_positions.max()) + 1

    def set_tokens(self, token_ids: Tensor, end_positions: Tensor, rows: Sequence[int] | None = None) -> None:
        """Take other labels.

        Args:
            token_ids, end_positions: see `tokenize_labels`.
            rows: the old place of each label, which takes its context along; only for contexts per label.
        """
        self.token_ids = token_ids.to(self.token_ids.device, copy=True)
        self.end_positions = end_positions.to(self.end_positions.device, copy=True)
        self._length = None
        if rows is not None:
            context = self.context.detach()[list(rows)]
            self.context = nn.Parameter(context, requires_grad=self.context.requires_grad)

    @torch.no_grad()
    def start_from(self, words: str, tokenizer: Callable[..., Any], text_encoder: ClipTextEncoder) -> None:
        """Start the context as the embeddings of `words`, such as "a photo of a"."""
        tokens = tokenizer(words, add_special_tokens=False)["input_ids"]
        num_context = self.context.shape[-2]
        if len(tokens) != num_context:
            raise ValueError(
                f"`context_words` must be {num_context} tokens long, as `num_context` says, but {words!r} has "
                f"{len(tokens)} with the tokenizer of this model. Set `num_context` to {len(tokens)}, or "
                "`context_words` to null."
            )
        self.context.copy_(text_encoder.embed(torch.tensor(tokens, device=self.context.device)))

    def embeddings(self, text_encoder: ClipTextEncoder, rows: slice = slice(None)) -> Tensor:
        """The prompts of the labels `rows`, `(num_rows, length, width)`."""
        embedded = text_encoder.embed(self.token_ids[rows, : self.length])
        context = self.context[rows] if self.is_per_label else self.context.expand(len(embedded), -1, -1)
        behind = 1 + context.shape[1]
        return torch.cat([embedded[:, :1], context, embedded[:, behind:]], dim=1)

    def forward(self, text_encoder: ClipTextEncoder) -> Tensor:
        """The text features of all labels, `(num_labels, embed_dim)`, not normalised."""
        return features_of_prompts(text_encoder, self)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._length = None


def features_of_prompts(text_encoder: ClipTextEncoder, *learners: PromptLearner) -> Tensor:
    """The text features of the prompts of `learners`, whose labels are the same, one learner after the other,
    `(num_learners * num_labels, embed_dim)`, not normalised.

    More than `PROMPTS_PER_PASS` go in turns, whose activations the backward pass computes again.
    """
    step = PROMPTS_PER_PASS // len(learners)

    def encode(start: int) -> Tensor:
        rows = slice(start, start + step)
        embeddings = torch.cat([learner.embeddings(text_encoder, rows) for learner in learners])
        ends = torch.cat([learner.end_positions[rows] for learner in learners])
        return text_encoder(embeddings, ends).unflatten(0, (len(learners), -1))

    starts = range(0, len(learners[0].token_ids), step)
    if len(starts) == 1:
        return encode(0).flatten(0, 1)
    # No layer of the text encoder is random.
    turns = [checkpoint(encode, start, use_reentrant=False, preserve_rng_state=False) for start in starts]
    return torch.cat(turns, dim=1).flatten(0, 1)
