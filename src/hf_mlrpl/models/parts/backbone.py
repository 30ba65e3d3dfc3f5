"""Any timm backbone that gives a feature map."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import timm
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from timm.layers import Format
from timm.models import load_state_dict
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from ...data.images.feature_files import StoredFeatures
from ...faults import UNEXPECTED, check_zip, reason_of
from ...settings import closest
from ..configuration_utils import MultiLabelConfig
from .partly_frozen import LESS_MEMORY, PartlyFrozen


class Backbone(PartlyFrozen):
    """A timm network up to its last feature map, with frozen and trained parts.

    Weights are random after construction; `load_weights` brings pretrained ones, and `from_pretrained` of the model
    those of a checkpoint.
    """

    def __init__(self, config: MultiLabelConfig):
        super().__init__()
        self.network = _create(config)
        self.num_features = self.network.feature_info.channels()[-1]
        self.feature_pool = config.feature_pool
        self.name = config.backbone
        self._image_size = config.height_and_width
        self._channels_are_last = getattr(self.network, "output_fmt", None) == Format.NHWC
        self._kept_cut: tuple[list[tuple[str, nn.Module]], nn.Sequential] | None = None
        self._is_in_forward = self._has_run = False
        self._norm_hooks: list[RemovableHandle] = []
        keep_own_init(self.network)
        self.freeze(config.trainable_backbone, config.backbone)

    def parts(self) -> dict[str, nn.Module]:
        return dict(_inner(self.network).named_children())

    def forward(self, pixel_values: Tensor | StoredFeatures) -> Tensor:
        """Map `(batch_size, 3, height, width)` to `(batch_size, num_features, map_height, map_width)`."""
        if isinstance(pixel_values, StoredFeatures):
            return self.from_stored(pixel_values)
        # Convolutions are faster so, on CPUs and GPUs; the layout of the input decides for all layers.
        pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        try:
            return self._final(self._run(self.network, pixel_values))
        except (AssertionError, RuntimeError) as error:
            if self._has_run or isinstance(error, torch.OutOfMemoryError):
                raise
            height, width = pixel_values.shape[2:]
            raise ValueError(
                f"The backbone {self.name} cannot take images of {height}x{width} pixels"
                f"{f' ({error})' if str(error) else ''}. Its pretrained weights are for {self._usual_size()}: set "
                "`model.image_size`."
            ) from error

    def _usual_size(self) -> str:
        _, height, width = self.network.pretrained_cfg["input_size"]
        return f"{height}x{width}"

    def _run(self, part: Callable[[Tensor], Any], inputs: Tensor) -> Any:
        self._is_in_forward = True
        try:
            outputs = part(inputs)
        finally:
            self._is_in_forward = False
        self._has_run = True
        return outputs

    def _final(self, outputs: Any) -> Tensor:
        """The last map of the network, `(batch_size, num_features, map_height, map_width)`, pooled."""
        features = outputs[-1] if isinstance(outputs, list | tuple) else outputs
        if self._channels_are_last:
            features = features.permute(0, 3, 1, 2)
        features = features.contiguous(memory_format=torch.channels_last)
        if self.feature_pool > min(features.shape[-2:]):
            raise ValueError(
                f"`feature_pool` must not be larger than the feature map, got {self.feature_pool} for one of "
                f"{tuple(features.shape[-2:])}. Lower it, or choose a larger `image_size`."
            )
        return F.avg_pool2d(features, self.feature_pool) if self.feature_pool > 1 else features

    # ---- what can be computed once ----

    def frozen_state(self) -> dict[str, Tensor]:
        if self.is_frozen:
            return self.state_dict()
        trunk, _ = self._cut()
        return {f"{name}.{key}": value for name, part in trunk for key, value in part.state_dict().items()}

    def trunk(self, pixel_values: Tensor) -> Tensor:
        features = pixel_values.contiguous(memory_format=torch.channels_last)
        for _, part in self._cut()[0]:
            features = part(features)
        return features

    def after_trunk(self, features: Tensor) -> Tensor:
        return self._final(self._run(self._cut()[1], features))

    def _cut(self) -> tuple[list[tuple[str, nn.Module]], nn.Sequential]:
        """The parts in front of the first trained one, and the rest.

        Raises:
            ValueError: if nothing is in front of it, or if the network is no chain of its parts.
        """
        if self._kept_cut is None:
            self._kept_cut = self._new_cut()
        return self._kept_cut

    @torch.no_grad()
    def _new_cut(self) -> tuple[list[tuple[str, nn.Module]], nn.Sequential]:
        trunk: list[tuple[str, nn.Module]] = []
        rest: list[nn.Module] = []
        for name, part in _links(self.parts().items(), self.frozen_parts):
            if name in self.frozen_parts and not rest:
                trunk.append((name, part))
            else:
                rest.append(part)
        advice = "Set `model.trainable_backbone=[]`, or `training.store_features=false`."
        if not trunk:
            raise ValueError(
                f"No features can be stored: the first part of {self.name}, {next(iter(self.parts()))}, is trained. "
                f"Let `model.trainable_backbone` name the last parts only. {advice}"
            )
        behind = nn.Sequential(*rest)
        if not self._is_chain(trunk, behind):
            raise ValueError(
                f"The features of {self.name} can be stored only where none of its parts is trained: it is no chain "
                f"of {', '.join(self.parts())}. {advice}"
            )
        return trunk, behind

    def _is_chain(self, trunk: list[tuple[str, nn.Module]], behind: nn.Sequential) -> bool:
        """Whether `behind` makes of what the parts of `trunk` give, one after the other, what the network gives."""
        noise = torch.rand(1, 3, *self._image_size, generator=torch.Generator().manual_seed(0))
        features, was_training = noise.to(next(self.parameters()).device), self.training
        self.eval()
        try:
            whole = self(features)
            features = features.contiguous(memory_format=torch.channels_last)
            for _, part in trunk:
                features = part(features)
            return torch.allclose(whole, self._final(behind(features)), rtol=1e-3)
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):  # other shapes, or no tensors
            return False
        finally:
            self.train(was_training)
            self.keep_frozen_parts_in_evaluation_mode()

    def checkpoint_gradients(self, enable: bool) -> None:
        if not hasattr(self.network, "set_grad_checkpointing"):
            raise ValueError(
                f"`gradient_checkpointing` must be false with the backbone {self.name!r}: timm has none for it. "
                f"{LESS_MEMORY}"
            )
        self.network.set_grad_checkpointing(enable)
        for part in self.network.children():
            if hasattr(part, "inplace"):  # what changes its input cannot be computed again from it
                part.inplace = not enable
        for hook in self._norm_hooks:
            hook.remove()
        self._norm_hooks = []
        for norm in self.network.modules():
            if enable and isinstance(norm, _BatchNorm):
                norm._usual_momentum = norm.momentum  # type: ignore[assignment]
                before = norm.register_forward_pre_hook(self._before_norm)
                self._norm_hooks += [before, norm.register_forward_hook(self._after_norm, always_call=True)]

    def _before_norm(self, norm: Any, inputs: Any) -> None:
        """Keep a batch that is computed again out of the running statistics, which have seen it already."""
        if norm.training and not self._is_in_forward:
            norm.momentum = 0.0

    def _after_norm(self, norm: Any, inputs: Any, output: Any) -> None:
        if norm.training and not self._is_in_forward:
            norm.momentum = norm._usual_momentum
            norm.num_batches_tracked -= 1

    def load_weights(self, file: str | None = None) -> None:
        """Load pretrained weights: those of timm for this backbone (from the Hub), or a local file.

        Args:
            file: path of a safetensors or PyTorch file with the names of timm or torchvision; a classifier in it is
                ignored. PyTorch files are read with `weights_only=True`.
        """
        if file is None:
            try:
                source = _extractor(self.name, self._image_size, pretrained=True)
            except (OSError, RuntimeError) as error:
                raise OSError(
                    f"The pretrained weights of the backbone {self.name} could not be downloaded. `model.pretrained` "
                    f"of a recipe may also name a file, or be false to start from nothing. The reason: {error}"
                ) from error
            state = source.state_dict()
        else:
            state = self._resampled(_read_weights(file))
        own = self.network.state_dict()
        state = {name: state[place] for name in own for place in _names_in_file(name) if place in state}
        # Old files, torchvision's first ones among them, lack the counters, which no batch norm here reads.
        missing = sorted(name for name in own if name not in state and not name.endswith("num_batches_tracked"))
        wrong = sorted(name for name in state if own[name].shape != state[name].shape)
        if missing or wrong:
            raise ValueError(
                f"{file or 'The pretrained weights'} do not fit the backbone {self.name}: {len(missing)} missing "
                f"({', '.join(missing[:3])}), {len(wrong)} of another shape ({', '.join(wrong[:3])})."
            )
        self.network.load_state_dict(own | state)

    def _resampled(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights with positions for another size of images brought to this one, as timm does for its own files."""
        network = _inner(self.network)
        adapt = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
        own = network.state_dict()
        if adapt is None or all(own[name].shape == tensor.shape for name, tensor in state.items() if name in own):
            return state
        return adapt(state, network)


def _inner(network: Any) -> nn.Module:
    """The network whose parts have names, in what timm wraps around it."""
    wrapped = [network[key] for key in ("model", "body") if isinstance(network, nn.ModuleDict) and key in network]
    return wrapped[0] if wrapped else network


def _links(parts: Iterable[tuple[str, nn.Module]], frozen: list[str]) -> Iterator[tuple[str, nn.Module]]:
    """The parts in their order; a sequence of which some parts are trained is taken apart."""
    for name, part in parts:
        if type(part) is nn.Sequential and any(each.startswith(f"{name}.") for each in frozen):
            yield from _links(((f"{name}.{key}", child) for key, child in part.named_children()), frozen)
        else:
            yield name, part


def keep_own_init(network: Any) -> None:
    """Leave the initial weights of timm alone, which `post_init` of transformers would draw again."""
    for module in network.modules():
        module._keeps_own_init = True


class PooledBackbone(PartlyFrozen):
    """The mean of the feature map of a `Backbone`, and a linear layer without a bias to `num_features` numbers."""

    def __init__(self, config: MultiLabelConfig, num_features: int):
        super().__init__()
        self.features = Backbone(config)
        self.project = nn.Linear(self.features.num_features, num_features, bias=False)
        self.num_features = num_features
        self.frozen_parts = self.features.frozen_parts

    def parts(self) -> dict[str, nn.Module]:
        return self.features.parts()

    @property
    def is_frozen(self) -> bool:
        return False  # the linear layer is trained

    def frozen_state(self) -> dict[str, Tensor]:
        return self.features.frozen_state()

    def trunk(self, pixel_values: Tensor) -> Tensor:
        return self.features(pixel_values) if self.features.is_frozen else self.features.trunk(pixel_values)

    def forward(self, pixel_values: Tensor | StoredFeatures) -> Tensor:
        """Map `(batch_size, 3, height, width)` to `(batch_size, num_features)`."""
        return self.project(self.features(pixel_values).mean(dim=(2, 3)))

    def load_weights(self, file: str | None = None) -> None:
        """Those of the backbone; the linear layer stays as it is."""
        self.features.load_weights(file)

    def checkpoint_gradients(self, enable: bool) -> None:
        self.features.checkpoint_gradients(enable)


def _names_in_file(name: str) -> tuple[str, ...]:
    """Names in the whole network of a tensor of timm's feature extractors: `stages.0.x` for `stages_0.x`."""
    return name, re.sub(r"^([^.]+)_(\d+)\.", r"\1.\2.", name), name.removeprefix("model.")


def _read_weights(file: str) -> dict[str, Tensor]:
    if not Path(file).is_file():
        raise FileNotFoundError(f"There is no file {file} with weights for the backbone.")
    check_zip(Path(file))
    try:
        state = load_state_dict(file, use_ema=False, weights_only=True)
    except (RuntimeError, ValueError, SafetensorError, UnpicklingError, *UNEXPECTED) as error:
        raise ValueError(f"{file} holds no weights that can be read: {reason_of(error)}.") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{file} holds no weights by their names, but a {type(state).__name__} of something else.")
    return state


def _create(config: MultiLabelConfig) -> Any:
    options: dict[str, Any] = {} if config.output_stride is None else {"output_stride": config.output_stride}
    architecture = config.backbone.split(".")[0].split("/")[-1]
    if not timm.is_model(architecture):
        close = closest(architecture, timm.list_models(), count=3)
        hint = f"Did you mean {', '.join(close)}?" if close else "`timm.list_models()` lists all names."
        raise ValueError(f"`backbone` must be the name of a timm model, got {config.backbone!r}. {hint}")
    try:
        return _extractor(config.backbone, config.height_and_width, **options)
    except (TypeError, ValueError, RuntimeError, AssertionError, AttributeError) as error:
        raise ValueError(
            f"The backbone {config.backbone!r} with {options or 'its own stride'} gives no feature map of images of "
            f"{config.height_and_width}: {error}. Choose another network or `image_size`, or leave `output_stride` "
            "out."
        ) from error


def _extractor(name: str, image_size: tuple[int, int], **options: Any) -> Any:
    """The network of timm up to its last feature map, for images of this size where it wants to know the size."""
    options = {"features_only": True, "out_indices": (-1,), **options}
    try:
        return timm.create_model(name, img_size=image_size, **options)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
    return timm.create_model(name, **options)
