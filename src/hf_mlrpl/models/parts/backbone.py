"""Any timm backbone that gives a feature map."""

import re
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import timm
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from ...settings import closest
from ..configuration_utils import MultiLabelConfig

_LESS_MEMORY = "Fewer images in a step with more `gradient_accumulation_steps` save memory, too."


class PartlyFrozen(nn.Module):
    """A network of named parts, some of which may be frozen.

    Attributes:
        network: what looks at the pixels.
        num_features: channels of what it gives.
        frozen_parts: names of the parts that are not trained.
    """

    network: Any
    num_features: int
    frozen_parts: list[str]

    def parts(self) -> dict[str, nn.Module]:
        """Parts that can be frozen, by name."""
        return dict(self.network.named_children())

    def freeze(self, trainable: list[str] | tuple[str, ...] | None, name: str) -> None:
        """Freeze all parts but the `trainable` ones; `None` freezes none.

        Args:
            name: that of the network, for errors.
        """
        self.frozen_parts = []
        if trainable is None:
            return
        parts = self.parts()
        unknown = sorted(set(trainable) - set(parts))
        if unknown:
            raise ValueError(
                f"`trainable_backbone` names {', '.join(unknown)}, which {name} does not have. Its parts are "
                f"{', '.join(parts)}; `null` trains all of them."
            )
        self.frozen_parts = [part for part in parts if part not in trainable]
        for part in self.frozen_parts:
            parts[part].requires_grad_(False)

    def keep_frozen_parts_in_evaluation_mode(self) -> None:
        parts = self.parts()
        for part in self.frozen_parts:
            parts[part].eval()

    def checkpoint_gradients(self, enable: bool) -> None:
        """Compute what lies between the parts again in the backward pass, instead of keeping it in memory."""
        raise ValueError(f"`gradient_checkpointing` must be false: {type(self).__name__} has none. {_LESS_MEMORY}")


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
        self._is_in_forward = False
        self._norm_hooks: list[RemovableHandle] = []
        keep_own_init(self.network)
        self.freeze(config.trainable_backbone, config.backbone)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map `(batch_size, 3, height, width)` to `(batch_size, num_features, map_height, map_width)`."""
        # Convolutions are faster so, on CPUs and GPUs; the layout of the input decides for all layers.
        self._is_in_forward = True
        try:
            features = self.network(pixel_values.contiguous(memory_format=torch.channels_last))[-1]
        finally:
            self._is_in_forward = False
        if self.feature_pool > 1:
            features = F.avg_pool2d(features, self.feature_pool)
        return features

    def checkpoint_gradients(self, enable: bool) -> None:
        if not hasattr(self.network, "set_grad_checkpointing"):
            raise ValueError(
                f"`gradient_checkpointing` must be false with the backbone {self.name!r}: timm has none for it. "
                f"{_LESS_MEMORY}"
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
                source = timm.create_model(self.name, pretrained=True, features_only=True, out_indices=(-1,))
            except (OSError, RuntimeError) as error:
                raise OSError(
                    f"The pretrained weights of the backbone {self.name} could not be downloaded. `model.pretrained` "
                    f"of a recipe may also name a file, or be false to start from nothing. The reason: {error}"
                ) from error
            state = source.state_dict()
        else:
            state = _read_weights(file)
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

    def forward(self, pixel_values: Tensor) -> Tensor:
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
    try:
        return load_state_dict(file, use_ema=False, weights_only=True)
    except (RuntimeError, SafetensorError, UnpicklingError, EOFError) as error:
        raise ValueError(f"{file} holds no weights that can be read: {error}") from error


def _create(config: MultiLabelConfig) -> Any:
    options: dict[str, Any] = {} if config.output_stride is None else {"output_stride": config.output_stride}
    architecture = config.backbone.split(".")[0].split("/")[-1]
    if not timm.is_model(architecture):
        close = closest(architecture, timm.list_models(), count=3)
        hint = f"Did you mean {', '.join(close)}?" if close else "`timm.list_models()` lists all names."
        raise ValueError(f"`backbone` must be the name of a timm model, got {config.backbone!r}. {hint}")
    try:
        return timm.create_model(config.backbone, pretrained=False, features_only=True, out_indices=(-1,), **options)
    except (TypeError, RuntimeError, AssertionError, AttributeError) as error:
        raise ValueError(
            f"The backbone {config.backbone!r} with {options or 'its own stride'} gives no feature map: {error}. "
            "Choose a convolutional network, or leave `output_stride` out."
        ) from error
