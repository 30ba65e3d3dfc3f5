"""Vectors of texts from any text encoder of transformers, such as BERT."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

_BATCH_SIZE = 256


@torch.no_grad()
def text_vectors(texts: Sequence[str], encoder: str | Path) -> Tensor:
    """The mean of the last hidden states over the tokens of each text, special ones left out; `(num_texts, width)`.

    Args:
        texts: what is read, one sentence each.
        encoder: folder of a text encoder with its tokenizer, or its name on the Hub.
    """
    from transformers import AutoModel, AutoTokenizer  # seconds, and only where a text encoder is asked for

    try:
        tokenizer = AutoTokenizer.from_pretrained(encoder, trust_remote_code=False)
        model = AutoModel.from_pretrained(encoder, dtype=torch.float32, trust_remote_code=False)
    except OSError as error:
        raise OSError(
            f"{str(encoder)!r} is neither a file, nor a folder, nor a name on the Hub with a text encoder of "
            f"transformers and its tokenizer ({str(error).splitlines()[0]})."
        ) from error
    means = []
    for start in range(0, len(texts), _BATCH_SIZE):
        some = list(texts[start : start + _BATCH_SIZE])
        batch = tokenizer(some, padding=True, return_special_tokens_mask=True, return_tensors="pt")
        words = (batch.pop("special_tokens_mask").eq(0) & batch["attention_mask"].eq(1)).unsqueeze(-1)  # (B, L, 1)
        hidden = model(**batch).last_hidden_state  # (B, L, D)
        means.append((hidden * words).sum(dim=1) / words.sum(dim=1))
    return torch.cat(means)
