"""Moving average of the weights: a service of the trainer, not of a method."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from ..distributed import share_buffers


class WeightEma:
    """A copy of a model that follows it by `ema <- decay * ema + (1 - decay) * model` after every optimizer step.

    Buffers are averaged like weights. So are numbers that count something, such as the batches that a batch norm has
    seen: their average is rounded down to a whole number at every step, as in the published code.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self._average = ModelEmaV3(model, decay=decay)
        self._average.module.requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        counters = [
            tensor for tensor in self.state_dict().values() if tensor.ndim == 0 and tensor.dtype == torch.int64
        ]
        before = torch.stack(counters) if counters else torch.empty(0)
        self._average.update(model)  # which copies integers
        if counters:
            now = torch.stack(counters)
            averaged = self.decay * before + (1 - self.decay) * now
            for counter, value in zip(counters, averaged.where(before != now, now), strict=True):
                counter.copy_(value)

    def state_dict(self) -> dict[str, Tensor]:
        return self._average.module.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._average.module.load_state_dict(state)

    def as_model(self) -> nn.Module:
        """The averaged model itself, in evaluation mode and without gradients; not a copy of it."""
        model = self._average.module
        share_buffers(model)
        return model.train().eval()  # what it computed from earlier weights and kept is forgotten

    def copy_to(self, model: nn.Module) -> None:
        model.load_state_dict(self.state_dict())

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """Inside the block `model` has the averaged weights, afterwards its own again."""
        own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self.copy_to(model)
        try:
            yield
        finally:
            with torch.no_grad():
                model.load_state_dict(own)
