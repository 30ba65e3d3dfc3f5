"""Folders and Hub repositories with both towers of CLIP: ours, those of transformers, and those of open_clip."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, StrictDataclassError
from torch import Tensor
from transformers import CLIPConfig

from ..data.files import read_json_object
from ..faults import blamed_on
from .configuration_clip import HEAD_DIM, VIT, ClipConfig
from .tensor_files import read_tensors
from .tokenizer import TOKENIZER_NAME
from .weights import ClipWeights, make_config, weights_from_openai, weights_from_ours, weights_from_transformers

CONFIG, OPEN_CLIP_CONFIG, PREPROCESSING = "config.json", "open_clip_config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
OPEN_CLIP_KEYS = {  # what the config of open_clip says of a plain CLIP
    "vision_cfg": {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio", "patch_dropout"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}


@dataclass(frozen=True)
class ClipSource:
    """Both towers and their tokenizer.

    tokenizer: content of a `tokenizer.json`; `None` where there is none.
    """

    weights: ClipWeights
    tokenizer: str | None


def read_clip(source: str) -> ClipSource:
    """Read both towers from a folder, or from a repository of the Hub.

    Args:
        source: a folder that `hf-mlrpl convert clip` has written, a `CLIPModel` of transformers, or a model in the
            layout of open_clip, with `open_clip_config.json`; or the Hub name of one of them.

    Raises:
        FileNotFoundError: if there is no such folder or repository, or it lacks a file.
        ValueError: if it holds something else.
    """
    folder = Path(source)
    if folder.is_file():
        raise ValueError(f"{source} is a file. `hf-mlrpl convert clip {source} FOLDER` makes a folder of it.")
    if not folder.is_dir():
        folder = _download(source, [CONFIG, OPEN_CLIP_CONFIG, PREPROCESSING, TOKENIZER_NAME])
    if (folder / OPEN_CLIP_CONFIG).is_file():  # first, for such repositories may have a config.json of timm, too
        with blamed_on(f"{source}: {OPEN_CLIP_CONFIG}", "Is it that of open_clip?", ValueError):
            weights = _read_open_clip(folder, source)
    elif (folder / CONFIG).is_file():
        with blamed_on(f"{source}: {CONFIG}", "Is it that of a CLIP model?", StrictDataclassError, ValueError):
            weights = _read_ours_or_transformers(folder, source)
    else:
        raise FileNotFoundError(f"{source} has no {CONFIG}, so it is no folder with a CLIP model.")
    tokenizer = folder / TOKENIZER_NAME
    return ClipSource(weights, tokenizer.read_text(encoding="utf-8") if tokenizer.is_file() else None)


def _read_ours_or_transformers(folder: Path, source: str) -> ClipWeights:
    saved = read_json_object(folder / CONFIG)
    kind = saved.get("model_type")
    try:
        if kind == ClipConfig.model_type:
            config = ClipConfig.from_dict(saved)
            return weights_from_ours(_read_weights(folder, WEIGHTS, source), config, source)
        if kind == "clip":
            preprocessing = read_json_object(folder / PREPROCESSING) if (folder / PREPROCESSING).is_file() else {}
            config = _config_of_transformers(saved, source, **_normalisation(preprocessing))
            return weights_from_transformers(_read_weights(folder, WEIGHTS, source), config, source)
    except StrictDataclassError as error:
        raise ValueError(f"{source}: {CONFIG} is wrong: {str(error).splitlines()[-1].strip()}") from error
    raise ValueError(
        f"{source} holds a model of the type {kind!r}. Both towers of CLIP come from `hf-mlrpl convert clip`, from a "
        "CLIPModel of transformers (type 'clip'), or from a repository of open_clip."
    )


def _config_of_transformers(saved: dict[str, Any], source: str, **normalisation: Any) -> ClipConfig:
    """The sizes of a `CLIPConfig`; what it does not say has the default of transformers."""
    config: Any = CLIPConfig(**saved)
    vision, text = config.vision_config, config.text_config
    if vision.hidden_act != text.hidden_act:
        raise ValueError(f"{source}: the towers have two activations, {vision.hidden_act} and {text.hidden_act}.")
    vision_sizes = {
        "layers": vision.num_hidden_layers,
        "width": vision.hidden_size,
        "patch_size": vision.patch_size,
        "heads": vision.num_attention_heads,
    }
    text_sizes = {
        "layers": text.num_hidden_layers,
        "width": text.hidden_size,
        "vocab_size": text.vocab_size,
        "context_length": text.max_position_embeddings,
        "heads": text.num_attention_heads,
    }
    settings = {"image_size": vision.image_size, "hidden_act": vision.hidden_act, **normalisation}
    return make_config(VIT, vision_sizes, text_sizes, config.projection_dim, where=source, **settings)


def _read_open_clip(folder: Path, source: str) -> ClipWeights:
    """A model of open_clip; its sizes follow from the tensors, its heads and its activation from the config."""
    saved = read_json_object(folder / OPEN_CLIP_CONFIG)
    model = saved.get("model_cfg", {})
    vision, text = model.get("vision_cfg", {}), model.get("text_cfg", {})
    for tower, settings in (("vision_cfg", vision), ("text_cfg", text)):
        other = sorted(key for key, value in settings.items() if value and key not in OPEN_CLIP_KEYS[tower])
        if other:
            raise ValueError(f"{source} is no plain CLIP: its `{tower}` sets {', '.join(other)}.")
    head_dim = vision.get("head_width", HEAD_DIM)
    if not isinstance(head_dim, int) or head_dim < 1:
        raise ValueError(
            f"{source}: `head_width` of {OPEN_CLIP_CONFIG} must be a whole number above 0, got {head_dim!r}."
        )
    heads = {"text": text["heads"]} if "heads" in text else {}
    if isinstance(vision.get("layers"), int):
        heads["vision"] = vision.get("width", 0) // head_dim
    elif head_dim != HEAD_DIM:
        raise ValueError(f"{source} is no plain CLIP: its ResNet has `head_width` {head_dim}, not {HEAD_DIM}.")
    normalisation = {f"image_{key}": value for key, value in saved.get("preprocess_cfg", {}).items()}
    return weights_from_openai(
        _read_weights(folder, OPEN_CLIP_WEIGHTS, source),
        source,
        heads=heads,
        hidden_act="quick_gelu" if model.get("quick_gelu") else "gelu",
        **_normalisation(normalisation),
    )


def _normalisation(saved: dict[str, Any]) -> dict[str, Any]:
    return {key: list(saved[key]) for key in ("image_mean", "image_std") if saved.get(key)}


def _read_weights(folder: Path, names: tuple[str, ...], source: str) -> dict[str, Tensor]:
    """The tensors of the first file of `names` that there is; of a Hub repository only this one is fetched."""
    for name in names:
        if not Path(source).is_dir():
            _download(source, [name])
        if (folder / name).is_file():
            return read_tensors(folder / name)
    raise FileNotFoundError(f"{source} has no file with weights: neither {' nor '.join(names)}.")


def _download(name: str, patterns: list[str]) -> Path:
    """The folder with files of a Hub repository, from the cache where it has them."""
    if name.count("/") != 1 or Path(name).is_absolute() or Path(name).parent.is_dir():
        raise FileNotFoundError(
            f"CLIP weights: there is no file or folder {name}. Models on the Hub are called OWNER/NAME."
        )
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FileNotFoundError(f"CLIP weights: {name!r} is neither a folder nor on the Hub ({reason}).") from error
