"""The weights of both towers under our names, from the names of OpenAI's code and of transformers."""

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor

from .configuration_clip import PUBLISHED, RESNET, VIT, ClipConfig
from .image_encoder import ClipImageEncoder, resample_positions
from .text_encoder import ClipTextEncoder

IMAGE, TEXT, SCALE = "backbone.", "text_encoder.", "logit_scale"

# In this order, our names become those of OpenAI's code.
_TO_OPENAI = [
    (r"^text_encoder\.network\.(text_model\.)?", ""),
    (r"^backbone\.network\.(vit\.(vision_model\.)?)?", "visual."),
    # transformers' transformers
    (r"embeddings\.token_embedding", "token_embedding"),
    (r"embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"embeddings\.class_embedding", "class_embedding"),
    (r"embeddings\.patch_embedding", "conv1"),
    (r"pre_layrnorm", "ln_pre"),
    (r"post_layernorm", "ln_post"),
    (r"final_layer_norm", "ln_final"),
    (r"encoder\.layers\.", "transformer.resblocks."),
    (r"layer_norm(\d)", r"ln_\1"),
    (r"self_attn\.[qkv]_proj\.", "attn.in_proj_"),
    (r"self_attn\.out_proj", "attn.out_proj"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
    (r"text_projection\.weight", "text_projection"),
    (r"visual_projection\.weight", "proj"),
    # timm's ResNet
    (r"stem\.conv(\d)\.conv\.", r"conv\1."),
    (r"stem\.conv(\d)\.bn\.", r"bn\1."),
    (r"conv(\d)_(1x1|kxk)\.conv\.", r"conv\1."),
    (r"conv(\d)_(1x1|kxk)\.bn\.", r"bn\1."),
    (r"shortcut\.conv\.conv\.", "downsample.0."),
    (r"shortcut\.conv\.bn\.", "downsample.1."),
    (r"head\.pos_embed", "attnpool.positional_embedding"),
    (r"head\.([qkv])\.", r"attnpool.\1_proj."),
    (r"head\.proj\.", "attnpool.c_proj."),
]
_THIRDS = {"q": 0, "k": 1, "v": 2}  # of the rows of OpenAI's `in_proj`
_RESNET_POSITIONS = f"{IMAGE}network.head.pos_embed"
_VIT_POSITIONS = f"{IMAGE}network.vit.vision_model.embeddings.position_embedding.weight"
LARGEST_OF_OPENAI = 1024  # width of a ViT; larger ones of other authors have heads of other sizes
INTEGERS = ("input_resolution", "context_length", "vocab_size")  # which OpenAI's files hold, too


@dataclass(frozen=True)
class ClipWeights:
    """Weights of both towers.

    config: their sizes; `image_size` is the one that their positions are for.
    tensors: `backbone.*`, `text_encoder.*` and `logit_scale`.
    """

    config: ClipConfig
    tensors: dict[str, Tensor]

    def fitted_to(self, config: ClipConfig, where: str) -> dict[str, Tensor]:
        """The tensors for towers with `config`, that is with positions for its image size.

        Args:
            where: what the weights were read from, for errors.

        Raises:
            ValueError: if the towers have other sizes; it names them on both sides.
        """
        theirs, ours = (_comparable(side) for side in (self.config, config))
        if not config.has_text_tower:
            del theirs["text_sizes"]
        if different := [name for name in theirs if theirs[name] != ours[name]]:
            sides = "; ".join(f"`{name}` is {theirs[name]}, not {ours[name]}" for name in different)
            raise ValueError(
                f"The weights of {where} are those of {self.config.backbone!r} and do not fit the backbone "
                f"{config.backbone!r}: {sides}. Choose the backbone of the weights, or other weights."
            )
        name = _RESNET_POSITIONS if config.is_resnet else _VIT_POSITIONS
        return self.tensors | {name: resample_positions(self.tensors[name], self.config.grid, config.grid)}


@dataclass(frozen=True)
class Place:
    """Where a tensor of ours is in a file.

    third: which third of the rows it is; `None` is all of them.
    transposed: whether the file has its transpose.
    """

    name: str
    third: int | None = None
    transposed: bool = False

    def shape(self, own: torch.Size) -> tuple[int, ...]:
        """The shape in the file of what has the shape `own` here."""
        if self.transposed:
            return tuple(reversed(own))
        return tuple(own) if self.third is None else (3 * own[0], *own[1:])

    def take(self, tensor: Tensor) -> Tensor:
        if self.transposed:
            return tensor.t().contiguous()
        return tensor if self.third is None else tensor.chunk(3)[self.third]


def weights_from_openai(
    tensors: Mapping[str, Tensor], where: str, *, heads: Mapping[str, int] | None = None, **settings: Any
) -> ClipWeights:
    """Weights under the names of OpenAI's code, which open_clip shares; their sizes follow from their shapes.

    Args:
        where: what they were read from, for errors.
        heads: of the towers "vision" and "text", where they are known not to have 64 channels.
        settings: of the config, where the tensors do not tell, such as `hidden_act`.
    """
    config = _config_of_openai(tensors, where, heads or {}, **settings)
    masks = [name for name in tensors if name.endswith(".attn_mask")]  # TorchScript keeps those of the text tower
    return ClipWeights(config, _rename(tensors, config, where, openai_place, [*INTEGERS, *masks]))


def weights_from_transformers(tensors: Mapping[str, Tensor], config: ClipConfig, where: str) -> ClipWeights:
    """Weights of a `CLIPModel` of transformers, which has a ViT."""
    buffers = {f"{tower}.embeddings.position_ids" for tower in ("vision_model", "text_model")}
    return ClipWeights(config, _rename(tensors, config, where, transformers_place, buffers))


def weights_from_ours(tensors: Mapping[str, Tensor], config: ClipConfig, where: str) -> ClipWeights:
    """Weights that a model of ours saved."""
    return ClipWeights(config, _rename(tensors, config, where, Place))


def openai_place(name: str) -> Place:
    """Where our tensor `name` is in a state dict of OpenAI's code."""
    third = re.search(r"self_attn\.([qkv])_proj\.", name)
    place = name
    for pattern, replacement in _TO_OPENAI:
        place = re.sub(pattern, replacement, place)
    transposed = place in ("text_projection", "visual.proj")
    return Place(place, _THIRDS[third[1]] if third else None, transposed)


def transformers_place(name: str) -> Place:
    """Where our tensor `name` is in a `CLIPModel` of transformers."""
    return Place(re.sub(r"^(backbone\.network\.vit|text_encoder\.network)\.", "", name))


def _rename(
    tensors: Mapping[str, Tensor],
    config: ClipConfig,
    where: str,
    place_of: Callable[[str], Place],
    ignored: Collection[str] = (),
) -> dict[str, Tensor]:
    """All tensors of towers with `config`, half precision as float32, or an error with the names of the file."""
    result: dict[str, Tensor] = {}
    missing, misshapen, not_finite, used = [], [], [], set(ignored)
    for name, own in empty_towers(config).items():
        place = place_of(name)
        tensor = tensors.get(place.name)
        used.add(place.name)
        if tensor is None and name.endswith("num_batches_tracked"):
            tensor = torch.zeros((), dtype=torch.int64)  # some files leave out what batch norm never reads
        if tensor is None:
            missing.append(place.name)
        elif tuple(tensor.shape) != place.shape(own.shape):
            misshapen.append(f"{place.name} {tuple(tensor.shape)} instead of {place.shape(own.shape)}")
        elif own.is_floating_point() and not (tensor.is_floating_point() and tensor.isfinite().all()):
            not_finite.append(f"{place.name} ({tensor.dtype})")
        else:
            is_half = tensor.dtype in (torch.float16, torch.bfloat16)
            result[name] = place.take(tensor.float() if is_half else tensor)
    extra = sorted(set(tensors) - used)
    faults = {"missing": sorted(set(missing)), "unknown": extra, "of another shape": sorted(set(misshapen))}
    faults["without finite real numbers"] = sorted(set(not_finite))
    if any(faults.values()):
        texts = [f"{len(names)} {kind} ({_some(names)})" for kind, names in faults.items() if names]
        raise ValueError(f"{where} does not hold exactly the weights of {_describe(config)}: {', '.join(texts)}.")
    return result


def empty_towers(config: ClipConfig) -> dict[str, Tensor]:
    """Tensors without content, under the names and with the shapes that towers with `config` have."""
    with torch.device("meta"):
        towers = {IMAGE: ClipImageEncoder(config), TEXT: ClipTextEncoder(config)}
        tensors = {prefix + name: t for prefix, tower in towers.items() for name, t in tower.state_dict().items()}
        return tensors | {SCALE: torch.empty(())}


def _config_of_openai(
    tensors: Mapping[str, Tensor], where: str, heads: Mapping[str, int], **settings: Any
) -> ClipConfig:
    def shape(name: str, dimensions: int) -> torch.Size:
        if name not in tensors or tensors[name].ndim != dimensions:
            raise ValueError(
                f"{where} holds no CLIP model under the names of OpenAI's code: there is no `{name}` with "
                f"{dimensions} dimensions. It has {len(tensors)} tensors ({_some(sorted(tensors))})."
            )
        return tensors[name].shape

    def count(prefix: str) -> int:
        matches = (re.match(rf"{prefix}\.(\d+)\.", name) for name in tensors)
        return len({match[1] for match in matches if match})

    text = {"layers": count(r"transformer\.resblocks")}
    text["vocab_size"], text["width"] = shape("token_embedding.weight", 2)
    text["context_length"] = shape("positional_embedding", 2)[0]
    if "text" in heads:
        text["heads"] = heads["text"]
    vision: dict[str, Any] = {}
    if "visual.layer1.0.conv1.weight" in tensors:
        family = RESNET
        vision["layers"] = [count(rf"visual\.layer{stage}") for stage in (1, 2, 3, 4)]
        vision["width"] = shape("visual.layer1.0.conv1.weight", 4)[0]
        positions, stride = shape("visual.attnpool.positional_embedding", 2)[0], 32
    else:
        family = VIT
        vision["layers"] = count(r"visual\.transformer\.resblocks")
        vision["width"], _, stride, _ = shape("visual.conv1.weight", 4)
        vision["patch_size"] = stride
        positions = shape("visual.positional_embedding", 2)[0]
        if "vision" in heads:
            vision["heads"] = heads["vision"]
        elif vision["width"] > LARGEST_OF_OPENAI:
            raise ValueError(
                f"{where} has a ViT of the width {vision['width']}, and tensors do not tell how many heads it has. "
                "Use the folder or Hub repository of open_clip, whose open_clip_config.json says it."
            )
    side = math.isqrt(max(0, positions - 1))
    if side < 1 or 1 + side**2 != positions:
        raise ValueError(f"{where} has {positions} positions of the image tower; they must be 1 and a square grid.")
    embed_dim = shape("text_projection", 2)[1]
    return make_config(family, vision, text, embed_dim, image_size=stride * side, where=where, **settings)


def make_config(
    family: str, vision: dict[str, Any], text: dict[str, Any], embed_dim: int, *, where: str, **settings: Any
) -> ClipConfig:
    """The config of towers with these sizes, with the name of OpenAI's published model where they are its sizes."""
    sizes: dict[str, Any] = {"vision_sizes": vision, "text_sizes": text, "embed_dim": embed_dim}
    try:
        config = ClipConfig(backbone=family, **sizes, **settings)
    except (StrictDataclassError, ValueError) as error:
        raise ValueError(f"{where}: {str(error).splitlines()[-1].strip()}") from error
    for name, published in PUBLISHED.items():
        if published.are_those_of(config):
            return ClipConfig(backbone=name, **sizes, **settings)
    return config


def _comparable(config: ClipConfig) -> dict[str, Any]:
    """Settings that weights are made for."""
    settings = {name: getattr(config, name) for name in ("vision_sizes", "text_sizes", "embed_dim", "hidden_act")}
    return settings | {name: list(getattr(config, name)) for name in ("image_mean", "image_std")}


def _describe(config: ClipConfig) -> str:
    return f"{config.backbone} with {config.vision_sizes} and a text tower with {config.text_sizes}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
