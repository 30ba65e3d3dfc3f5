"""One vector per label: packaged GloVe vectors, a GloVe text file, or orthogonal vectors.

Names are looked up without regard to case, and `_` counts as a space, so `dining_table` finds `dining table`.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from transformers.utils import logging

logger = logging.get_logger(__name__)

# The names of COCO and VOC, 300 dimensions: Pennington et al. 2014 (PDDL), as averaged and published by ML-GCN.
PACKAGED_GLOVE = Path(__file__).parent / "data" / "glove_coco_voc.safetensors"


def label_embeddings(names: Sequence[str], source: str | Path = "glove", dim: int = 300) -> Tensor:
    """A vector for every label name, `(num_labels, dim)` in float32.

    Args:
        names: label names in the order of the label columns.
        source: `"glove"`, the packaged vectors of the COCO and VOC names in any order and selection;
            `"orthogonal"`, fixed orthogonal vectors that know nothing of the names; or the path of a GloVe text
            file, where names of several words get the mean of their words.
        dim: length of a vector; 300 for the packaged ones, and the width of the file for a GloVe text file.
    """
    if isinstance(names, str) or not len(names):
        raise ValueError(f"`names` must be a list of at least one label name, got {names!r}.")
    if dim < 1:
        raise ValueError(f"`dim` must be at least 1, got {dim}.")
    if source == "orthogonal":
        return orthogonal_embeddings(len(names), dim)
    if source == "glove":
        return _packaged_embeddings(names, dim)
    return read_glove(names, source, dim)


def orthogonal_embeddings(num_labels: int, dim: int = 300) -> Tensor:
    """Orthogonal vectors, `(num_labels, dim)`: the same on every machine, whatever the random seed.

    Their entries have the mean square 1, the scale at which a freshly initialised linear layer works best.

    These are rows of the discrete cosine transform. There are only `dim` of them; more labels get random directions
    from a fixed seed instead, which are nearly orthogonal.
    """
    if num_labels > dim:
        vectors = torch.randn(num_labels, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    else:
        frequency = torch.arange(num_labels, dtype=torch.float64)[:, None]
        position = torch.arange(dim, dtype=torch.float64) + 0.5
        vectors = torch.cos(math.pi / dim * frequency * position)
    return (vectors * (math.sqrt(dim) / vectors.norm(dim=1, keepdim=True))).float()


def read_glove(names: Sequence[str], path: str | Path, dim: int = 300) -> Tensor:
    """Vectors of `names` from a GloVe text file, `(num_labels, dim)`; several words of a name are averaged.

    The file is read line by line and only the needed words are kept. A word that the file lacks is left out of the
    mean with a warning; a name without any known word is an error.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'`label_embeddings` must be "glove", "orthogonal" or the path of a GloVe text file, got {str(path)!r}, '
            "which is no file."
        )
    words = [normalized_name(name).split() for name in names]
    found = _read_words(path, {word for of_name in words for word in of_name}, dim)
    unknown_names = [name for name, of_name in zip(names, words, strict=True) if not any(w in found for w in of_name)]
    if unknown_names:
        raise ValueError(
            f"{path} has no vector for any word of {len(unknown_names)} label name(s): {', '.join(unknown_names)}. "
            "Rename them to words the file knows, or set `label_embeddings: orthogonal`."
        )
    missing = sorted({word for of_name in words for word in of_name} - found.keys())
    if missing:
        logger.warning(
            f"{path} has no vector for the word(s) {', '.join(missing)}; left out of the mean of their names."
        )
    means = [np.mean([found[word] for word in of_name if word in found], axis=0) for of_name in words]
    return torch.tensor(np.stack(means), dtype=torch.float32)


def _packaged_embeddings(names: Sequence[str], dim: int) -> Tensor:
    with safe_open(PACKAGED_GLOVE, "pt") as file:
        rows = {normalized_name(name): row for row, name in enumerate(json.loads(file.metadata()["names"]))}
        vectors = file.get_tensor("vectors")
    if dim != vectors.shape[1]:
        raise ValueError(
            f"`word_embedding_dim` must be {vectors.shape[1]} for the packaged vectors (`label_embeddings: glove`), "
            f"got {dim}."
        )
    missing = [name for name in names if normalized_name(name) not in rows]
    if missing:
        raise ValueError(
            f"The packaged GloVe vectors cover the {len(rows)} names of COCO and VOC, not: {', '.join(missing)}. "
            "Set `label_embeddings` to the path of a GloVe text file (glove.6B.300d.txt from "
            "https://nlp.stanford.edu/projects/glove/), or to `orthogonal`, which knows nothing of words."
        )
    return vectors[[rows[normalized_name(name)] for name in names]]


def _read_words(path: Path, needed: set[str], dim: int) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            word, _, numbers = line.rstrip().partition(" ")
            if number <= 2:
                _check_width(path, number, len(numbers.split()), dim)
            if word not in needed or word in found:
                continue
            values = numbers.split()
            if len(values) > dim:  # a few tokens of the large files contain spaces, "at name@domain.com"
                continue
            try:
                found[word] = np.array(values, dtype=np.float64)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: expected numbers after {word!r}, {error}.") from error
            if len(values) != dim:
                raise ValueError(f"{path}, line {number}: expected {dim} numbers, got {len(values)}. Is it cut off?")
            if len(found) == len(needed):
                break
    return found


def _check_width(path: Path, number: int, width: int, dim: int) -> None:
    is_header = number == 1 and width == 1  # "400000 300", as word2vec and fastText write it
    if width != dim and not is_header:
        raise ValueError(
            f"{path}, line {number}: expected a word and {dim} numbers, got {width} numbers. "
            f"Set `word_embedding_dim: {width}` if that is the width of the file."
        )


def normalized_name(name: str) -> str:
    """A label name as it is looked up: in lower case, words with single spaces."""
    return " ".join(name.lower().replace("_", " ").split())
