"""CIFAR-100: small photos with one of 100 labels each."""

import io
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..columns import check_split, make_dataset
from ..tables.index_lists import check_indices, labels_at

if TYPE_CHECKING:
    from datasets import Dataset

SIDE = 32
# All that the published files need; a file that names anything else is refused before it can run code.
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"): ("numpy", "ndarray"),
    ("numpy", "dtype"): ("numpy", "dtype"),
}


def load_cifar100(path: str | Path, split: str = "train") -> "Dataset":
    """50,000 photos of 32 x 32 pixels for training and 10,000 for testing; one of the 100 fine labels is present.

    Labels and photos stand in the order of the files. `data.hierarchy: cifar100_superclasses` in a recipe adds the 20
    coarse labels.

    ```
    path/cifar-100-python/train                   the Python version; `path` may be the folder itself
    path/cifar-100-python/test
    path/cifar-100-python/meta                    names of the labels
    ```
    """
    check_split(split, ["train", "test"], "CIFAR-100")
    folder = Path(path).expanduser().absolute()
    if (folder / "cifar-100-python").is_dir():
        folder = folder / "cifar-100-python"
    names = [name.decode() for name in _read_fields(folder / "meta", b"fine_label_names")[0]]
    file = folder / split
    pixels, indices = _read_fields(file, b"data", b"fine_labels")
    if pixels.shape != (len(indices), 3 * SIDE**2) or pixels.dtype != np.uint8:
        raise ValueError(
            f"{file} must hold {3 * SIDE**2} bytes for each of its {len(indices)} labels, got {pixels.dtype} "
            f"{pixels.shape}."
        )
    check_indices(indices, len(names), str(file))
    images = [_to_ppm(photo) for photo in pixels.reshape(-1, 3, SIDE, SIDE)]
    ids = [f"{split}-{row:05d}" for row in range(len(images))]
    return make_dataset(images, ids, labels_at([[index] for index in indices], len(names)), names)


def _to_ppm(pixels: np.ndarray) -> bytes:
    """`(3, height, width)` uint8 as the bytes of an image file, which are as few as those of a PNG at this size."""
    return b"P6 %d %d 255\n" % (SIDE, SIDE) + pixels.transpose(1, 2, 0).tobytes()


class _Reader(pickle.Unpickler):
    """Reads numbers, texts, lists and arrays, and nothing that runs code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which could run code")
        return super().find_class(*ALLOWED[module, name])


def _read_fields(file: Path, *fields: bytes) -> list[Any]:
    if not file.is_file():
        raise FileNotFoundError(f"The file {file} does not exist. Is this the Python version of CIFAR-100?")
    try:
        content = _Reader(io.BytesIO(file.read_bytes()), encoding="bytes").load()
        return [content[field] for field in fields]
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as a file of CIFAR-100: {error!r}.") from error
