"""Tensors of a TorchScript archive, read without running anything that is in it.

OpenAI publishes CLIP as such archives. `torch.jit.load` would compile and could run their code; this module looks at
the tensors alone. An archive is a zip file: `data.pkl` is a pickle of the module with its attributes, and `data/0`,
`data/1`, ... are the bytes of its tensors. The pickle is read by an unpickler that knows what such a pickle is made of
(tensors, lists, and the classes of the archive's own code, for which an empty class stands in) and refuses any other
name, so that none of Python's functions can be called.
"""

import pickle
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
# What reading bytes that are no such file raises: zip files, pickles (see Python's documentation), and tensors.
UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, StopIteration),
    *(pickle.UnpicklingError, AttributeError, EOFError, ImportError, IndexError, KeyError, TypeError, ValueError),
    RuntimeError,
)


def is_torchscript(file: Path) -> bool:
    """Whether `file` is a TorchScript archive; files of `torch.save` are zip files, too, but have no code."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(file: Path) -> dict[str, Tensor]:
    """All tensors that the module of the archive has as attributes, by their names in its state dict.

    Raises:
        ValueError: if the archive is damaged, or names anything but tensors and its own classes.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
            with archive.open(f"{root}data.pkl") as pickled:
                return dict(_tensors_of(_ModuleUnpickler(pickled, archive, root).load()))
    except UNREADABLE as error:
        raise ValueError(f"{file} is no TorchScript archive that can be read: {error!r}") from error


class _Module(SimpleNamespace):
    """In the place of a class of the archive's code."""


class _ModuleUnpickler(pickle.Unpickler):
    """Reads `data.pkl`.

    Args:
        root: name of the folder in the archive.
    """

    def __init__(self, pickled: Any, archive: zipfile.ZipFile, root: str):
        super().__init__(pickled)
        self._archive, self._root = archive, root
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return type("Module", (_Module,), {})  # one for each class, so that none can change another one
        known: dict[tuple[str, str], Callable] = {
            ("torch._utils", "_rebuild_tensor_v2"): self._rebuild,
            ("collections", "OrderedDict"): dict,
            ("torch.jit._pickle", "restore_type_tag"): lambda value, kind: value,
            **{("torch.jit._pickle", kind): list for kind in _LISTS},
        }
        if (module, name) in known:
            return known[module, name]
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no tensor")

    def persistent_load(self, place: Any) -> Tensor:
        """All numbers of a storage, in one dimension."""
        kind, dtype, key, _, count = place
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"it has a {kind!r} outside of the pickle, where only tensors may be")
        if key not in self._storages:
            content = bytearray(self._archive.read(f"{self._root}data/{key}"))
            if len(content) != count * dtype.itemsize:
                raise pickle.UnpicklingError(f"the tensor data/{key} has {len(content)} bytes for {count} numbers")
            self._storages[key] = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        return self._storages[key]

    def _rebuild(self, storage: Tensor, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
        return storage.as_strided(size, stride, offset)  # an error where the storage is too small


def _tensors_of(module: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _tensors_of(value, f"{prefix}{name}.")
