"""The CLIP models of the golden files, and tiny ones."""

import warnings
from pathlib import Path

import torch
from golden_files import Golden
from torch import Tensor

from hf_mlrpl.clip.configuration_clip import ClipConfig
from hf_mlrpl.clip.modeling_clip import ClipTowers
from hf_mlrpl.clip.weights import ClipWeights, openai_place, weights_from_openai

CLIP_FILES = ("clip_resnet", "clip_vit")
TINY_TEXT = {"layers": 1, "width": 64, "vocab_size": 514, "context_length": 16}
TINY_RESNET = {
    "backbone": "resnet_clip",
    "vision_sizes": {"layers": [1, 1, 1, 1], "width": 8},
    "text_sizes": TINY_TEXT,
    "embed_dim": 24,
    "image_size": 64,
}
TINY_VIT = {
    "backbone": "vit_clip",
    "vision_sizes": {"layers": 2, "width": 64, "patch_size": 16},
    "text_sizes": TINY_TEXT,
    "embed_dim": 24,
    "image_size": 32,
}


def golden_weights(golden: Golden, dtype: torch.dtype = torch.float32, **settings) -> ClipWeights:
    return weights_from_openai(golden.weights(dtype=dtype), golden.name, **settings)


def golden_towers(golden: Golden, dtype: torch.dtype, **settings) -> ClipTowers:
    """The towers of a golden file, in evaluation mode."""
    weights = golden_weights(golden, dtype, **settings)
    towers = ClipTowers(weights.config).to(dtype).eval()
    towers.load_state_dict(weights.fitted_to(weights.config, golden.name))
    return towers


def tiny_towers(seed: int = 0, **settings) -> ClipTowers:
    """Untrained towers in evaluation mode, with batch statistics that are not those of a new network."""
    torch.manual_seed(seed)
    towers = ClipTowers(ClipConfig(**(TINY_RESNET | settings)))
    with torch.no_grad():
        for name, tensor in towers.state_dict().items():
            if tensor.is_floating_point() and name.startswith("backbone."):
                tensor.copy_(torch.rand_like(tensor) * 0.2 + (0.9 if tensor.ndim == 1 else -0.1))
    return towers.eval()


def outputs_of(towers: ClipTowers, pixel_values: Tensor, token_ids: Tensor) -> dict[str, Tensor]:
    """What CLIP's code gives, by its golden name."""
    logits = towers.similarities(pixel_values, token_ids)
    outputs = {"image_features": towers.image_features(pixel_values), "text_features": towers.text_features(token_ids)}
    return outputs | {"logits_per_image": logits, "logits_per_text": logits.t()}


def as_openai(towers: ClipTowers) -> dict[str, Tensor]:
    """The weights under the names of OpenAI's code."""
    parts: dict[str, list[Tensor]] = {}
    for name, tensor in sorted(towers.state_dict().items(), key=lambda item: openai_place(item[0]).third or 0):
        place = openai_place(name)
        parts.setdefault(place.name, []).append(tensor.t() if place.transposed else tensor)
    return {name: (torch.cat(found) if len(found) > 1 else found[0].contiguous()) for name, found in parts.items()}


class _Node(torch.nn.Module):
    """A module that can be compiled and only has names."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def module_of(tensors: dict[str, Tensor]) -> torch.nn.Module:
    """A tree of modules whose state dict is `tensors`."""
    root = _Node()
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        node: torch.nn.Module = root
        for part in path:
            if part not in dict(node.named_children()):
                node.add_module(part, _Node())
            node = node.get_submodule(part)
        node.register_buffer(last, tensor)
    return root


def write_torchscript(tensors: dict[str, Tensor], file: Path, traced: bool = False) -> None:
    """An archive like those of OpenAI."""
    save_torchscript(module_of(tensors).eval(), file, traced)


def save_torchscript(module: torch.nn.Module, file: Path, traced: bool = False) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, but archives made with it stay
        compiled = torch.jit.trace(module, torch.zeros(1)) if traced else torch.jit.script(module)
        torch.jit.save(compiled, file)
