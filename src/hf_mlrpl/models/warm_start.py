"""Weights of a finished tagger as the start of a new one, with the same labels, with others, or in another network."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import RemoteEntryNotFoundError
from safetensors.torch import load_file
from torch import Tensor
from transformers.initialization import no_init_weights

from ..data.files import read_json_object
from ..faults import blamed_on
from ..hub.download import checkpoint_folder, hub_name
from ..hub.errors import explained
from ..labels import shorten

if TYPE_CHECKING:
    from .configuration_utils import MultiLabelConfig
    from .modeling_utils import MultiLabelPreTrainedModel

AVERAGED_WEIGHTS = "ema.safetensors"  # of a checkpoint in the middle of a training
_TYPES, _TOWERS = "mlrpl-", "mlrpl-clip"  # how types of ours begin, and the one without labels


@dataclass(frozen=True)
class WarmStart:
    """Report of what was taken over from a tagger; names are those of tensors.

    source, network: where it comes from, and the type of its network.
    loaded: whole tensors; by_label: tensors of which labels have a part each, those of `kept_labels`.
    new: tensors that are as a new model has them. Those that derive from data are in none of the three.
    kept_labels, new_labels, left_labels: those of both models, of the new one alone, and of the old one alone.
    """

    source: str
    network: str
    loaded: list[str]
    by_label: list[str]
    new: list[str]
    kept_labels: list[str]
    new_labels: list[str]
    left_labels: list[str]

    def __str__(self) -> str:
        lines = [f"Started from {self.source} ({self.network}): {len(self.loaded)} tensors of {_parts(self.loaded)}."]
        if self.by_label:
            heads = _parts(self.by_label)
            lines.append(f"Of {heads}, {len(self.kept_labels)} labels were taken over: {_some(self.kept_labels)}.")
            if self.new_labels:
                lines.append(f"New in {heads}: {_some(self.new_labels)}.")
        if self.left_labels:
            lines.append(f"Labels that are no longer there: {_some(self.left_labels)}.")
        if self.new:
            lines.append(f"New: {_parts(self.new)}.")
        return "\n".join(lines)


def find_tagger(source: str, earlier_type: str) -> Path | None:
    """The folder of the tagger that `source` names, a folder or a name on the Hub; `None` if it is something else.

    Args:
        earlier_type: of the network that shall start, whose checkpoints of the first version are taggers, too.
    """
    name = None if Path(source).is_dir() else hub_name(source)
    if name is not None:
        try:
            with explained(name[0]):
                config = Path(hf_hub_download(name[0], "config.json", revision=name[1]))
        except RemoteEntryNotFoundError:
            return None
    else:
        config = Path(source) / "config.json"
    if not config.is_file():
        return None
    kind = read_json_object(config).get("model_type")
    is_tagger = isinstance(kind, str) and kind != _TOWERS and (kind.startswith(_TYPES) or kind == earlier_type != "")
    return checkpoint_folder(source) if is_tagger else None


def start_from(model: "MultiLabelPreTrainedModel", folder: Path, source: str) -> WarmStart:
    """Give a new model the weights of a tagger.

    From the same network come all weights, and those of labels for the labels that have the same name; from another
    network come those of the backbone.

    Args:
        source: what the tagger is called in errors.

    Raises:
        ValueError: if the sizes of the two do not fit.
    """
    config, tensors = read_json_object(folder / "config.json"), read_weights(folder)
    with blamed_on(folder / "config.json", "It must name the labels of a tagger as `id2label`."):
        kind, names = config["model_type"], list(config["id2label"].values())
    is_same_network = kind in (model.config.model_type, model.config.earlier_model_type)
    taken = "" if is_same_network else model.encoder_weights
    own, axes, buffers = model.state_dict(), label_axes(model), dict(model.named_buffers())
    kept = [name for name in model.config.label_names if name in names]
    report = WarmStart(
        source=source,
        network=kind,
        loaded=[],
        by_label=[],
        new=[],
        kept_labels=kept,
        new_labels=[name for name in model.config.label_names if name not in names],
        left_labels=[name for name in names if name not in kept],
    )
    wrong: list[str] = []
    for name, tensor in own.items():
        theirs, of_labels = tensors.get(name), axes.get(name)
        if of_labels is not None and name in buffers:
            continue  # derives from the labels, and is made anew
        if not name.startswith(taken) or (of_labels == () and names != model.config.label_names):
            report.new.append(name)
        elif theirs is None or not _fits(tensor, theirs, of_labels or (), len(names)):
            there = "missing" if theirs is None else tuple(theirs.shape)
            wrong.append(f"{name} is {there}, not {tuple(tensor.shape)}")
        elif of_labels:
            ours, their = ([labels.index(label) for label in kept] for labels in (model.config.label_names, names))
            _copy_labels(tensor, theirs, of_labels, ours, their)
            report.by_label.append(name)
        else:
            tensor.copy_(theirs)
            report.loaded.append(name)
    if wrong:
        raise ValueError(_explain(source, wrong, config, model.config))
    model.load_state_dict(own)
    return report


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint; those of a training that was stopped are the averaged ones, where it has them."""
    averaged = folder / AVERAGED_WEIGHTS
    files = [averaged] if averaged.is_file() else sorted(folder.glob("model*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder} has no model.safetensors.")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def label_axes(model: "MultiLabelPreTrainedModel") -> dict[str, tuple[int, ...]]:
    """The tensors whose shape depends on the number of labels: their axes along which each label has a part of its
    own; none for those that depend on it in another way.

    They are found by comparing with a model that has a label more.
    """
    config = copy.deepcopy(model.config)
    config.num_labels += 1
    with no_init_weights(), torch.device("meta"):
        larger = type(model)(config).state_dict()
    axes: dict[str, tuple[int, ...]] = {}
    for name, tensor in model.state_dict().items():
        sizes = list(zip(tensor.shape, larger[name].shape, strict=True))
        different = tuple(axis for axis, (small, large) in enumerate(sizes) if small != large)
        if different:
            per_label = all(sizes[axis] == (config.num_labels - 1, config.num_labels) for axis in different)
            axes[name] = different if per_label else ()
    return axes


def _fits(tensor: Tensor, theirs: Tensor, of_labels: tuple[int, ...], num_labels: int) -> bool:
    expected = [num_labels if axis in of_labels else size for axis, size in enumerate(tensor.shape)]
    return list(theirs.shape) == expected


def _copy_labels(tensor: Tensor, theirs: Tensor, axes: tuple[int, ...], ours: list[int], their: list[int]) -> None:
    """Copy the parts of some labels."""
    first = tuple(range(len(axes)))
    to, source = tensor.movedim(axes, first), theirs.movedim(axes, first)
    if len(axes) == 1:
        to[ours] = source[their]
    else:  # a part for each pair of labels
        to[torch.tensor(ours)[:, None], ours] = source[torch.tensor(their)[:, None], their]


def _explain(source: str, wrong: list[str], theirs: Mapping[str, Any], config: "MultiLabelConfig") -> str:
    ours = json.loads(config.to_json_string(use_diff=False))
    different = [
        f"`{name}` is {theirs.get(name)!r} there and {ours[name]!r} here"
        for name in sorted(config.own_settings().keys() - {"thresholds"})
        if theirs.get(name) != ours[name]
    ]
    return (
        f"The model cannot start from {source}, whose weights are of other sizes: {shorten(wrong)}. "
        f"{'; '.join(different) or 'The settings are the same'}. Give the section `model` the settings of {source}."
    )


def _parts(names: list[str]) -> str:
    return ", ".join(dict.fromkeys(name.partition(".")[0] for name in names)) or "nothing"


def _some(names: list[str]) -> str:
    return shorten(names, 10) or "none"
