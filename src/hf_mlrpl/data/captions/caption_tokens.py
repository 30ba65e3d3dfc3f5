"""From captions to the batches of a training run."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..columns import CAPTION, ROWS_AT_A_TIME, label_matrix, label_names
from ..labelled_items import LabelledItems

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

TOKENS = "input_ids"  # in a batch, in the place of pixels


class CaptionTokens(LabelledItems):
    """Pairs the tokens of captions with their labels; each item is a dictionary of tensors.

    Items have `input_ids`, up to the end of the longest caption of a batch, `labels` and `index`. What stands behind
    the end of a shorter one is zeros.

    Args:
        dataset: of `load_captions`.
        tokenizer: puts a start and an end around a text.
        context_length: tokens that the text encoder reads at most; a longer caption is cut in front of its end.
    """

    things = "captions"

    def __init__(self, dataset: "Dataset", tokenizer: Callable[..., Any], context_length: int):
        super().__init__(label_matrix(dataset), label_names(dataset))
        pieces, lengths, num_cut = [], [], 0
        for block in dataset.select_columns([CAPTION]).iter(ROWS_AT_A_TIME):
            for ids in tokenizer(block[CAPTION], verbose=False)["input_ids"]:
                if len(ids) > context_length:
                    ids = [*ids[: context_length - 1], ids[-1]]
                    num_cut += 1
                pieces.append(np.array(ids, dtype=np.int32))
                lengths.append(len(ids))
        self._tokens = torch.from_numpy(np.concatenate(pieces))
        self._ends = np.cumsum(lengths)
        if num_cut:
            logger.warning(
                "%d captions are cut to the %d tokens that the text encoder reads.", num_cut, context_length
            )

    def digests(self) -> dict[str, str]:
        """Digests of what must not change between two parts of a run, by name."""
        digest = hashlib.sha256(self._ends.tobytes())
        digest.update(self._tokens.numpy().tobytes())
        return {"captions": digest.hexdigest()}

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Tensor]]:
        """The items of a batch, of equal length."""
        tokens = [self._tokens[self._ends[row - 1] if row else 0 : self._ends[row]].long() for row in rows]
        return [
            {TOKENS: ids, "labels": torch.from_numpy(self.labels[row].copy()), "index": torch.tensor(row)}
            for row, ids in zip(rows, pad_sequence(tokens, batch_first=True), strict=True)
        ]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.__getitems__([index])[0]
