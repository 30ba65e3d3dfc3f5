"""Files with tensors, read without running what is in them."""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..faults import check_zip
from .torchscript import UNREADABLE, is_torchscript, read_torchscript


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, of a PyTorch file with a state dict, or of a TorchScript archive.

    PyTorch files are pickles, which may name any code; they are read with `weights_only=True`, which knows tensors and
    plain containers and refuses everything else. Instead of the schedule and the optimizer that some training
    checkpoints hold it makes empty objects. For TorchScript see `read_torchscript`.

    Raises:
        ValueError: if the file holds something else.
    """
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}.")
    check_zip(file)
    if is_torchscript(file):
        return read_torchscript(file)
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with torch.serialization.safe_globals(_STAND_INS):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, *UNREADABLE) as error:
        raise ValueError(
            f"{file} is no safetensors file, state dict of PyTorch or TorchScript archive that can be read "
            f"({_reason(error)})."
        ) from error
    return state_dict_in(content, file)


class _Empty:
    """In the place of an object that nobody asks for."""


def _empty_dict(*_: Any) -> dict:
    return {}


_STAND_INS: list[Any] = [  # for what `torch.save` writes of a schedule that holds another schedule (DualCoOp)
    (_Empty, "torch.optim.lr_scheduler.CosineAnnealingLR"),
    (_Empty, "torch.optim.sgd.SGD"),
    (_empty_dict, "collections.defaultdict"),
    dict,
]


def _reason(error: Exception) -> str:
    """The first line of a fault; torch writes half a page, with advice to trust the file."""
    if refused := re.search(r"GLOBAL (\S+)", str(error)):
        return f"it names {refused[1]}, which is no tensor and is not loaded"
    return f"{type(error).__name__}: {error}".splitlines()[0]


def state_dict_in(content: Any, file: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, or of a training checkpoint that has one; without the prefix of DDP."""
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise ValueError(f"{file} holds no state dict: names with a tensor each, or a `state_dict` of them.")
    if content and all(name.startswith("module.") for name in content):
        return {name.removeprefix("module."): tensor for name, tensor in content.items()}
    return content
