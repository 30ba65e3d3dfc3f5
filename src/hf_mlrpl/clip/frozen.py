"""Frozen weights in the short type of autocast, cast once and not at every use."""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call

# Short weights of modules, with what tells whether they are up to date, and the weights that they are made of: as long
# as those live, no others have their identity.
_CAST: WeakKeyDictionary[nn.Module, tuple[object, list[nn.Parameter], dict[str, Tensor]]] = WeakKeyDictionary()


def call_frozen(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """What `module(*args, **kwargs)` gives, bit for bit.

    Autocast keeps the short weights of a step only where they are trained, and casts frozen ones hundreds of times.
    Here they are kept until they change; in a module that is trained, and outside of autocast, nothing is kept.
    """
    weights = {} if torch.compiler.is_compiling() else _short_weights(module)
    return functional_call(module, weights, args, kwargs) if weights else module(*args, **kwargs)


def _short_weights(module: nn.Module) -> dict[str, Tensor]:
    """Weights and biases of the layers that autocast computes in its short type, by name."""
    parameters = list(module.parameters())
    device = parameters[0].device.type
    if not torch.is_autocast_enabled(device) or any(parameter.requires_grad for parameter in parameters):
        return {}
    dtype = torch.get_autocast_dtype(device)
    key = dtype, [(id(parameter), parameter.data_ptr(), parameter._version) for parameter in parameters]
    if _CAST.get(module, (None,))[0] != key:
        with torch.inference_mode(False), torch.no_grad():
            short = {
                f"{layer_name}.{name}".lstrip("."): parameter.to(dtype)
                for layer_name, layer in module.named_modules()
                if isinstance(layer, nn.Linear | nn.Conv2d)
                for name, parameter in layer.named_parameters(recurse=False)
            }
        _CAST[module] = key, parameters, short
    return _CAST[module][2]
