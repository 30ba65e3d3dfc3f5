from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

from ...clip.prompts import PromptLearner
from ...losses import at_least_float32
from ..dualcoop.modeling_dualcoop import DualCoOpForMultiLabelClassification
from .configuration_positivecoop import NegativeCoOpConfig, PositiveCoOpConfig


class PositiveCoOpForMultiLabelClassification(DualCoOpForMultiLabelClassification):
    """DualCoOp with a vector that comes from no words in the place of the negative prompt of each label.

    Attributes:
        free_vectors: these vectors, `(num_labels, embed_dim)`, of any length.
        residuals: of the same shape, added to the text features; `None` where `residual_std` is.
    """

    config_class = PositiveCoOpConfig

    config: PositiveCoOpConfig
    residuals: nn.Parameter | None

    def make_prompts(self, config: Any) -> None:
        self.prompts = PromptLearner.from_config(config)
        shape = config.num_labels, config.embed_dim
        self.free_vectors = nn.Parameter(torch.empty(shape))
        self.residuals = None if config.residual_std is None else nn.Parameter(torch.empty(shape))

    def compute_label_vectors(self) -> Tensor:
        """Unit vectors of absence, then those of presence, `(2 * num_labels, embed_dim)`."""
        return F.normalize(torch.cat([self.free_vectors, self.learned_vectors()]), dim=-1)

    def learned_vectors(self) -> Tensor:
        """Text features of the prompts, with their residuals, `(num_labels, embed_dim)`."""
        vectors = at_least_float32(self.prompts(self.text_encoder))
        return vectors if self.residuals is None else vectors + self.residuals

    @property
    def learned_per_label(self) -> str:
        return "a vector"

    def _take_labels(self, names: Sequence[str], rows: list[int | None] | None = None) -> None:
        super()._take_labels(names, rows)
        if rows is not None:
            for name, vectors in self.named_parameters(recurse=False):
                if not vectors.ndim:  # a factor, which all labels share
                    continue
                setattr(self, name, nn.Parameter(vectors.detach()[rows], requires_grad=vectors.requires_grad))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            init.normal_(self.free_vectors)
            if self.residuals is not None and self.config.residual_std is not None:
                init.normal_(self.residuals, std=self.config.residual_std)


class NegativeCoOpForMultiLabelClassification(PositiveCoOpForMultiLabelClassification):
    """DualCoOp with such a vector in the place of the positive prompt, which says where a label looks, too."""

    config_class = NegativeCoOpConfig

    def compute_label_vectors(self) -> Tensor:
        return F.normalize(torch.cat([self.learned_vectors(), self.free_vectors]), dim=-1)
