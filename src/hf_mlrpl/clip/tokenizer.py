"""CLIP's tokenizer, made from files or from nothing."""

import gzip
import zlib
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from ..data.files import parse_json

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


def tokenizer_from_merges(file: Path, vocab_size: int, context_length: int) -> CLIPTokenizer:
    """The tokenizer of a list of merges: OpenAI's `bpe_simple_vocab_16e6.txt.gz`, or a `merges.txt`.

    Args:
        file: a line that is not read, then a pair of symbols in each line, the most frequent first.
        vocab_size: tokens of the text tower, from which follows how many merges belong to it.
    """
    content = file.read_bytes()
    try:
        text = (gzip.decompress(content) if file.suffix == ".gz" else content).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no list of merges: {error}") from error
    merges = [tuple(line.split()) for line in text.split("\n")[1 : 1 + max(0, vocab_size - BYTE_TOKENS)]]
    if vocab_size < BYTE_TOKENS or len(merges) < vocab_size - BYTE_TOKENS or any(len(pair) != 2 for pair in merges):
        raise ValueError(
            f"{file} does not belong to the weights: their {vocab_size} tokens are {BYTE_TOKENS} and "
            f"{vocab_size - BYTE_TOKENS} merges, and it has {sum(len(pair) == 2 for pair in merges)} of these."
        )
    return build_tokenizer(merges, context_length)


def parse_tokenizer(content: str, context_length: int, where: str) -> CLIPTokenizer:
    """The tokenizer of the text of a `tokenizer.json`.

    Args:
        where: what the text was read from, for errors.
    """
    try:
        model = parse_json(content, where)["model"]
        ids = model["vocab"]
        merges: Any = [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in model["merges"]]
        tokenizer = CLIPTokenizer(vocab=ids, merges=merges, model_max_length=context_length)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where} has no tokenizer of CLIP, a byte-pair `tokenizer.json`: {error!r}") from error
    if missing := [token for token in (START, END) if token not in ids]:
        raise ValueError(f"{where} has no tokenizer of CLIP: the token {missing[0]} is missing.")
    return tokenizer
