"""Networks of named parts, some of which are not trained."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ...data.images.feature_files import StoredFeatures

LESS_MEMORY = "Fewer images in a step with more `gradient_accumulation_steps` save memory, too."


class PartlyFrozen(nn.Module):
    """A network of named parts, some of which may be frozen.

    Attributes:
        network: what looks at the pixels.
        num_features: channels of what it gives.
        frozen_parts: names of the parts that are not trained, each as large as possible.
    """

    network: Any
    num_features: int
    frozen_parts: list[str]

    def parts(self) -> dict[str, nn.Module]:
        """Parts that can be frozen, by name."""
        return dict(self.network.named_children())

    def part(self, name: str) -> nn.Module:
        """A part, or what is inside of one, such as `layer4.2`; `blocks.2` also means `blocks_2`.

        Raises:
            AttributeError: where there is no such part.
        """
        parts, (first, _, rest) = self.parts(), name.partition(".")
        number, _, further = rest.partition(".")
        if first not in parts and f"{first}_{number}" in parts:
            first, rest = f"{first}_{number}", further
        if first not in parts:
            raise AttributeError(name)
        return parts[first].get_submodule(rest)

    def freeze(self, trainable: list[str] | tuple[str, ...] | None, name: str) -> None:
        """Freeze all parts but the `trainable` ones; `None` freezes none.

        Args:
            name: that of the network, for errors.
        """
        self.frozen_parts = []
        if trainable is None:
            return
        trained = [self._known_part(part, name) for part in trainable]
        kept = {id(parameter) for part in trained for parameter in part.parameters()}
        for parameter in self.network.parameters():
            if id(parameter) not in kept:
                parameter.requires_grad_(False)
        inside = {id(module) for part in trained for module in part.modules()}
        self.frozen_parts = [path for first, part in self.parts().items() for path in _without(inside, first, part)]

    def _known_part(self, wanted: str, name: str) -> nn.Module:
        try:
            return self.part(wanted)
        except AttributeError as error:
            parts = self.parts()
            inside = [f"{first}.{len(part) - 1}" for first, part in parts.items() if isinstance(part, nn.Sequential)]
            further = f", and what is inside of them, such as {inside[-1]}" if inside else ""
            raise ValueError(
                f"`trainable_backbone` names {wanted}, which {name} does not have. Its parts are "
                f"{', '.join(parts)}{further}; `null` trains all of them, `[]` none."
            ) from error

    def keep_frozen_parts_in_evaluation_mode(self) -> None:
        for name in self.frozen_parts:
            self.part(name).eval()

    def checkpoint_gradients(self, enable: bool) -> None:
        """Compute what lies between the parts again in the backward pass, instead of keeping it in memory."""
        raise ValueError(f"`gradient_checkpointing` must be false: {type(self).__name__} has none. {LESS_MEMORY}")

    # ---- what can be computed once ----

    @property
    def is_frozen(self) -> bool:
        """Whether nothing is trained."""
        return {*self.frozen_parts} == {*self.parts()}

    def frozen_state(self) -> dict[str, Tensor]:
        """The weights of what `trunk` computes, or of all where nothing is trained."""
        return self.state_dict()

    def trunk(self, pixel_values: Tensor) -> Tensor:
        """What the frozen parts in front of the first trained one give.

        Raises:
            ValueError: where this network cannot be cut there.
        """
        raise ValueError(
            f"The features of a {type(self).__name__} can be stored only where none of its parts is trained: set "
            "`model.trainable_backbone=[]`, or `training.store_features=false`."
        )

    def after_trunk(self, features: Tensor) -> Tensor:
        """The rest, behind `trunk`."""
        raise NotImplementedError(f"{type(self).__name__} must define `after_trunk`.")

    def from_stored(self, stored: StoredFeatures) -> Tensor:
        """What the network gives for pixels of which features are stored."""
        features = stored.features.to(next(self.parameters()).dtype)
        if features.ndim == 4:  # the layout in which they were computed
            features = features.contiguous(memory_format=torch.channels_last)
        return features if self.is_frozen else self.after_trunk(features)


def _without(trained: set[int], name: str, module: nn.Module) -> Iterator[str]:
    """Names of the largest modules without a module in `trained`."""
    if id(module) in trained:
        return
    if trained.isdisjoint(map(id, module.modules())):
        yield name
        return
    for child_name, child in module.named_children():
        yield from _without(trained, f"{name}.{child_name}", child)
