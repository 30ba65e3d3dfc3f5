"""CLIP's tokenizer, made from files or from nothing."""

import json
from typing import Any

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

TOKENIZER_NAME = "tokenizer.json"
BYTE_TOKENS = 514  # 256 bytes within a word, 256 at its end, and start and end of the text
START, END = "<|startoftext|>", "<|endoftext|>"


def byte_tokenizer(context_length: int) -> CLIPTokenizer:
    """CLIP's tokenizer without merges: a token for each byte. It needs no file."""
    return build_tokenizer([], context_length)


def build_tokenizer(merges: Any, context_length: int) -> CLIPTokenizer:
    """CLIP's tokenizer with the ids of OpenAI's code.

    Args:
        merges: pairs of symbols, the most frequent first.
    """
    symbols = list(bytes_to_unicode().values())
    tokens = symbols + [f"{symbol}</w>" for symbol in symbols] + ["".join(pair) for pair in merges] + [START, END]
    ids = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=context_length)


def parse_tokenizer(content: str, context_length: int, where: str) -> CLIPTokenizer:
    """The tokenizer of the text of a `tokenizer.json`.

    Args:
        where: what the text was read from, for errors.
    """
    try:
        model = json.loads(content)["model"]
        ids = model["vocab"]
        merges: Any = [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in model["merges"]]
        tokenizer = CLIPTokenizer(vocab=ids, merges=merges, model_max_length=context_length)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where} has no tokenizer of CLIP, a byte-pair `tokenizer.json`: {error!r}") from error
    if missing := [token for token in (START, END) if token not in ids]:
        raise ValueError(f"{where} has no tokenizer of CLIP: the token {missing[0]} is missing.")
    return tokenizer
