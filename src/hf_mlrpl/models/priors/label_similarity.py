"""How alike the labels are, and the two matrices that SCPNet makes of it.

The similarity, a `(num_labels, num_labels)` matrix of cosines, comes from a file or from one vector per label: text
features of CLIP (`label_prompts` gives the texts), word vectors, another text encoder, or mean features of images.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers.utils import logging

from ...labels import POSITIVE, shorten
from .label_embeddings import label_embeddings
from .text_encoder import text_vectors

logger = logging.get_logger(__name__)

SIMILARITY_FILES = (".npy", ".safetensors")
_ROUNDING = 1e-4  # of float16 files


def relation_prior(similarity: Tensor, *, top_k: int, reweight: float, temperature: float) -> tuple[Tensor, Tensor]:
    """The label graph of SCPNet and its sharpened form that calibrates scores (Eq. 3, Eq. 4).

    Row i keeps the `top_k` largest entries of row i of `similarity`, of which label i itself is one. In the graph, the
    others share `reweight` in proportion to their similarity, and label i gets the rest. The calibration is the
    softmax of the graph over the kept entries. Rows of both sum to 1; neither is symmetric.

    The paper has one matrix. The authors' code takes the graph for the graph convolutions, and the calibration for the
    scores that are distilled.

    Args:
        similarity: `(num_labels, num_labels)`, cosines.
        top_k: entries that a row keeps, at least 2: with 1, a label has no neighbour to share `reweight`, and the
            authors' code gives NaN. As many as there are labels, or more, keeps all of them.
        reweight: what the neighbours of a label get together, in [0, 1], `s` in the paper.
        temperature: of the softmax.

    Returns:
        The graph and the calibration, `(num_labels, num_labels)` each. For a single label, both are 1.
    """
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1]:
        raise ValueError(f"`similarity` must have the shape (num_labels, num_labels), got {tuple(similarity.shape)}.")
    if not bool(similarity.isfinite().all()):
        raise ValueError("`similarity` must be finite, but it has NaN or infinite entries.")
    check_prior_settings(top_k, reweight, temperature)
    if top_k > len(similarity):
        logger.info(f"`top_k` is {top_k}, but there are only {len(similarity)} labels: all of them are kept.")
    if len(similarity) == 1:
        return torch.ones_like(similarity), torch.ones_like(similarity)
    neighbours = _kept(similarity, top_k).fill_diagonal_(False)
    lonely = similarity.where(neighbours, 0).sum(dim=1) <= 0
    if bool(lonely.any()):
        rows = lonely.nonzero().flatten().tolist()
        raise ValueError(
            f"Each label needs neighbours with a positive similarity in sum, but label(s) {shorten(rows, 8)} (counted "
            "from 0) have none. Choose a smaller `top_k`, or another source of the similarity."
        )
    return _graph_and_calibration(similarity, top_k, reweight, temperature)


def dynamic_relation_prior(
    vectors: Tensor, *, top_k: int, reweight: float, temperature: float
) -> tuple[Tensor, Tensor]:
    """`relation_prior` of the label vectors of this very step, `(num_labels, dim)`.

    Gradients reach `vectors` through the graph; the calibration is detached. The values are not checked, because that
    would wait for the device at every step.
    """
    check_prior_settings(top_k, reweight, temperature)
    if len(vectors) == 1:
        return vectors.new_ones(1, 1), vectors.new_ones(1, 1)
    graph, calibration = _graph_and_calibration(cosine_similarities(vectors), top_k, reweight, temperature)
    return graph, calibration.detach()


def cosine_similarities(vectors: Tensor) -> Tensor:
    """Cosines between all pairs of rows of `vectors`, `(num_labels, num_labels)`, in float32 or better."""
    with torch.autocast(vectors.device.type, enabled=False):
        unit = F.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=1)
        return unit @ unit.T


def label_similarity(names: Sequence[str], source: str | Path, *, dim: int = 300) -> Tensor:
    """Cosines between labels from what is known of their names, `(num_labels, num_labels)` in float32.

    Args:
        names: label names in the order of the label columns.
        source: `"glove"`, the packaged word vectors; the path of a GloVe text file; a `.npy` or `.safetensors` file
            with the matrix itself; or a text encoder of transformers, as a folder or a name on the Hub
            (`bert-base-uncased`).
        dim: width of a GloVe text file.
    """
    if Path(source).suffix in SIMILARITY_FILES:
        return read_similarity(source, len(names))
    if source == "glove" or Path(source).is_file():
        return cosine_similarities(label_embeddings(names, source, dim))
    return cosine_similarities(text_vectors(label_prompts(names), source))


def label_prompts(names: Sequence[str]) -> list[str]:
    """Texts for a text encoder, one per label: "a photo of a traffic light"."""
    return [f"a photo of a {name.replace('_', ' ')}" for name in names]


def read_matrix(path: str | Path, num_labels: int) -> Tensor:
    """A finite matrix from a `.npy` file or from a `.safetensors` file with a single tensor, in float32.

    Its rows and columns follow the label columns.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path} with a matrix of labels.")
    if path.suffix not in SIMILARITY_FILES:
        raise ValueError(f"A matrix of labels is read from {' or '.join(SIMILARITY_FILES)} files, got {path}.")
    matrix = _read_npy(path) if path.suffix == ".npy" else _read_safetensors(path)
    if matrix.shape != (num_labels, num_labels):
        raise ValueError(
            f"{path} must hold a ({num_labels}, {num_labels}) matrix, one row and one column for each label, got the "
            f"shape {tuple(matrix.shape)}. It must be made for the same labels in the same order."
        )
    if not bool(matrix.isfinite().all()):
        row, column = (~matrix.isfinite()).nonzero()[0].tolist()
        raise ValueError(f"{path} must be finite, got {matrix[row, column]} in row {row}, column {column}.")
    return matrix


def read_similarity(path: str | Path, num_labels: int) -> Tensor:
    """A similarity matrix from a `.npy` file or from a `.safetensors` file with a single tensor, in float32.

    Its rows and columns follow the label columns. It must be finite, symmetric, and in each row largest on the
    diagonal, the latter two up to 1e-4.
    """
    similarity = read_matrix(path, num_labels)
    asymmetry = (similarity - similarity.T).abs()
    if asymmetry.max() > _ROUNDING:
        row, column = divmod(int(asymmetry.argmax()), num_labels)
        raise ValueError(
            f"{path} must be symmetric, got {similarity[row, column]:.6g} in row {row}, column {column}, and "
            f"{similarity[column, row]:.6g} the other way round. A similarity is wanted, not a graph made of it."
        )
    excess = similarity - similarity.diagonal()[:, None]
    if excess.max() > _ROUNDING:
        row, column = divmod(int(excess.argmax()), num_labels)
        raise ValueError(
            f"{path} must have the largest number of a row on the diagonal, got {similarity[row, column]:.6g} in row "
            f"{row}, column {column}, and {similarity[row, row]:.6g} on the diagonal. No label is more like another "
            "one than like itself; cosines have ones there."
        )
    return similarity


def mean_features(batches: Iterable[tuple[Tensor, Tensor]], names: Sequence[str]) -> Tensor:
    """The mean feature of the images where a label is known to be present, `(num_labels, dim)`.

    Args:
        batches: image features `(batch_size, dim)` with their known labels `(batch_size, num_labels)` in {-1, 0, +1},
            of the training images only.
        names: label names, for the error about labels that no image shows.
    """
    sums, counts = torch.zeros(len(names), 1), torch.zeros(len(names))
    for features, labels in batches:
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        present = labels.eq(POSITIVE).to(features.dtype)  # (B, C)
        sums = sums.to(features.device) + present.T @ features
        counts = counts.to(features.device) + present.sum(dim=0)
    missing = [name for name, count in zip(names, counts.tolist(), strict=True) if count == 0]
    if missing:
        raise ValueError(
            f"{len(missing)} label(s) are never known to be present in the training images, so they have no mean "
            f"image feature: {shorten(missing, 8)}. Take a similarity that is made of the label names."
        )
    return sums / counts[:, None]


def check_prior_settings(top_k: int, reweight: float, temperature: float, prefix: str = "") -> None:
    """Raise `ValueError` for settings that `relation_prior` refuses; `prefix` begins their names in errors."""
    if top_k < 2:
        raise ValueError(
            f"`{prefix}top_k` must be at least 2, a label and its nearest neighbour, got {top_k}. Without neighbours "
            "there is no graph: switch the prior off instead."
        )
    if not 0 <= reweight <= 1:
        raise ValueError(f"`{prefix}reweight` must lie in [0, 1], got {reweight}.")
    if not temperature > 0:
        raise ValueError(f"`{prefix}temperature` must be positive, got {temperature}.")


def _kept(similarity: Tensor, top_k: int) -> Tensor:
    """True at the `top_k` largest entries of each row."""
    largest = similarity.topk(min(top_k, len(similarity)), dim=1).indices
    return torch.zeros_like(similarity, dtype=torch.bool).scatter_(1, largest, True)


def _graph_and_calibration(
    similarity: Tensor, top_k: int, reweight: float, temperature: float
) -> tuple[Tensor, Tensor]:
    kept = _kept(similarity, top_k)
    own = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    neighbours = similarity.where(kept & ~own, 0)
    graph = reweight * neighbours / neighbours.sum(dim=1, keepdim=True)
    graph = graph.masked_fill(own, 1 - reweight)
    return graph, (graph / temperature).masked_fill(~kept, -torch.inf).softmax(dim=1)


def _read_npy(path: Path) -> Tensor:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no readable NumPy file ({error}).") from error
    if array.dtype.kind != "f":
        raise ValueError(f"{path} must hold floating point numbers, got {array.dtype}.")
    return torch.from_numpy(array.astype(np.float32))


def _read_safetensors(path: Path) -> Tensor:
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            if len(names) != 1:
                raise ValueError(f"{path} must hold a single tensor, got {len(names)}: {shorten(names, 8)}.")
            tensor = file.get_tensor(names[0])
    except SafetensorError as error:
        raise ValueError(f"{path} is no readable safetensors file ({error}).") from error
    if not tensor.is_floating_point():
        raise ValueError(f"{path} must hold floating point numbers, got {tensor.dtype}.")
    return tensor.float()
