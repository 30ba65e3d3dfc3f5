import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

from ...clip.modeling_clip import ClipPromptModel
from ...clip.prompts import PROMPTS_PER_PASS, spoken, tokenize_labels
from ...data.images.feature_files import StoredFeatures
from ...losses import at_least_float32
from ...models.parts.label_classifier import label_logits
from .configuration_zero_shot_clip import ZeroShotClipConfig


class ZeroShotClipForMultiLabelClassification(ClipPromptModel):
    """CLIP asked about each label with texts such as "a photo of a cat.", without any training.

    Training, where somebody wants it, moves the scale and the bias of the scores, which calibrates them.

    Attributes:
        token_ids: `(num_labels * num_templates, context_length)`, the texts of a label one after the other.
        logit_scale: logarithm of the factor of the cosines.
        logit_bias: what is added to them.
    """

    config_class = ZeroShotClipConfig

    config: ZeroShotClipConfig
    token_ids: Tensor
    _length: int | None = None  # tokens of the longest text

    def __init__(self, config: ZeroShotClipConfig):
        super().__init__(config)
        self.register_buffer("token_ids", torch.zeros(self._shape_of_tokens(config.num_labels), dtype=torch.int64))
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.logit_bias = nn.Parameter(torch.empty(()))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            init.constant_(self.logit_scale, math.log(self.config.initial_scale))
            init.constant_(self.logit_bias, self.config.initial_bias)
            init.zeros_(self.token_ids)

    # ---- images ----

    def encode(self, pixel_values: Tensor | StoredFeatures) -> Tensor:
        """The map that a ResNet pools by attention, or the vectors of a ViT, `(batch_size, embed_dim)`."""
        return self.backbone.feature_map(pixel_values) if self.config.is_resnet else self.backbone(pixel_values)

    def represent(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """The unit vector of each image, and where in the map each label is most similar.

        Returns:
            Representations `(batch_size, 1, embed_dim)`, or one for each label where regions have a weight; attention
            maps `(batch_size, num_labels, height, width)` that sum to 1, of ResNets only.
        """
        if not self.config.is_resnet:
            return F.normalize(at_least_float32(features), dim=-1).unsqueeze(1), None
        regions = self.backbone.regions(features, positions=False)[:, 1:]  # as published
        image = self.backbone.network.head(features)
        with torch.autocast(features.device.type, enabled=False):
            image = F.normalize(at_least_float32(image), dim=-1).unsqueeze(1)
            regions = F.normalize(at_least_float32(regions), dim=-1)
            scores = self.logit_scale.exp() * self.label_vectors() @ regions.mT  # (B, C, M)
            weights = scores.softmax(dim=-1)
            share = self.config.dense_weight
            representations = image.lerp(weights @ regions, share) if share else image
        return representations, weights.unflatten(2, features.shape[2:])

    def classify(self, representations: Tensor) -> Tensor:
        """Scaled cosines, and the bias."""
        with torch.autocast(representations.device.type, enabled=False):
            cosines = label_logits(at_least_float32(representations), self.label_vectors())
            return self.logit_scale.exp() * cosines + self.logit_bias

    # ---- texts ----

    def compute_label_vectors(self) -> Tensor:
        """Means of the unit vectors of the texts of each label, at unit length again, `(num_labels, embed_dim)`."""
        if self._length is None:  # read from the device once, not at every step
            if not self.has_prompts:
                raise RuntimeError("There are no texts yet: call `set_priors()` or `set_labels(names)` of the model.")
            self._length = int(self.token_ids.argmax(dim=1).max()) + 1
        passes = self.token_ids[:, : self._length].split(PROMPTS_PER_PASS)
        texts = torch.cat([self.text_features(token_ids) for token_ids in passes])
        texts = F.normalize(at_least_float32(texts), dim=-1).unflatten(0, (-1, len(self.config.templates)))
        return F.normalize(texts.mean(dim=1), dim=-1)

    @property
    def has_prompts(self) -> bool:
        return bool(self.token_ids.any())

    def _take_labels(self, names: Sequence[str], rows: list[int | None] | None = None) -> None:
        context_length = self.text_encoder.context_length
        tokenize_labels(names, self.tokenizer, 0, context_length)  # raises for names that make no texts
        texts = [template.format(spoken(name)) for name in names for template in self.config.templates]
        token_ids = torch.zeros(self._shape_of_tokens(len(names)), dtype=torch.int64)
        for row, tokens in enumerate(self.tokenizer(texts)["input_ids"]):
            if len(tokens) > context_length:
                raise ValueError(
                    f"The text {texts[row]!r} has {len(tokens)} tokens, and the text encoder reads {context_length}. "
                    "Shorten the name of the label, or the text in `templates`."
                )
            token_ids[row, : len(tokens)] = torch.tensor(tokens)
        self.token_ids, self._length = token_ids.to(self.token_ids.device), None
        self.forget_label_vectors()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._length = None

    def _shape_of_tokens(self, num_labels: int) -> tuple[int, int]:
        return num_labels * len(self.config.templates), self.config.text_sizes["context_length"]
