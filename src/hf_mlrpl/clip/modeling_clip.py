"""Models with both towers of CLIP, and the towers alone."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTokenizer, PreTrainedConfig
from transformers.utils import cached_file

from ..data.images.training_images import TrainingImages
from ..distributed import state_digest
from ..labels import shorten
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..models.parts.partly_frozen import PartlyFrozen
from .configuration_clip import PUBLISHED, ClipConfig, ClipPromptConfig
from .image_encoder import ClipImageEncoder
from .prompts import PROMPTS_PER_PASS, PromptLearner, tokenize_labels
from .sources import ClipSource, read_clip
from .text_encoder import ClipTextEncoder
from .tokenizer import BYTE_TOKENS, TOKENIZER_NAME, byte_tokenizer, parse_tokenizer
from .weights import IMAGE, TEXT

LABEL_VECTORS_NAME = "label_vectors.safetensors"
_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")


class ClipImageModel(MultiLabelPreTrainedModel):
    """Base of the models that have the image tower of CLIP, which is their `backbone`."""

    config_class = ClipConfig

    config: ClipConfig
    backbone: Any

    def __init__(self, config: ClipConfig):
        super().__init__(config)
        self.backbone = self.make_image_encoder()

    def make_image_encoder(self) -> PartlyFrozen:
        """Make the image tower, which becomes `backbone`."""
        return ClipImageEncoder(self.config)

    def load_published(self, source: str | None = None) -> None:
        """Bring pretrained weights of CLIP into the towers, with their tokenizer where there is a text tower.

        Args:
            source: see `read_clip`; by default what OpenAI published for this backbone, from the Hub.
        """
        if source is None:
            if self.config.backbone not in PUBLISHED:
                raise ValueError(
                    f"There are no published weights for the backbone {self.config.backbone!r}. Name a folder, as "
                    "`model.pretrained` of a recipe, or set it to false."
                )
            source = PUBLISHED[self.config.backbone].hub_name
        self.load_clip(read_clip(source), source)

    def load_clip(self, clip: ClipSource, where: str) -> None:
        """Take over the weights of the towers that this model has.

        Args:
            where: what they were read from, for errors.
        """
        tensors, own = clip.weights.fitted_to(self.config, where), self.state_dict()
        self.load_state_dict({name: tensor for name, tensor in tensors.items() if name in own}, strict=False)


class ClipPreTrainedModel(ClipImageModel):
    """Base of the models that have both towers of CLIP.

    Attributes:
        text_encoder: the text tower, frozen unless `trainable_text_encoder`.
    """

    encoder_weights = (IMAGE, TEXT)

    def __init__(self, config: ClipConfig):
        super().__init__(config)
        self.text_encoder = ClipTextEncoder(config)
        # Parsing takes a second, and most uses of a checkpoint need no words: until then it is the text of the file.
        self._tokenizer: CLIPTokenizer | str | None = None
        if config.text_sizes["vocab_size"] >= BYTE_TOKENS:
            self._tokenizer = byte_tokenizer(config.text_sizes["context_length"])

    # ---- words ----

    @property
    def has_tokenizer(self) -> bool:
        return self._tokenizer is not None

    @property
    def tokenizer(self) -> CLIPTokenizer:
        """That of the checkpoint or of the pretrained weights; a new model has one with a token for each byte."""
        if self._tokenizer is None:
            raise ValueError(
                f"This {type(self).__name__} has no tokenizer, so it cannot read words. Set `tokenizer`, or put the "
                f"{TOKENIZER_NAME} of CLIP into its folder; `hf-mlrpl convert clip --tokenizer` does so."
            )
        if isinstance(self._tokenizer, str):
            parsed = parse_tokenizer(self._tokenizer, self.text_encoder.context_length, "The checkpoint")
            self.tokenizer = parsed
            return parsed
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: CLIPTokenizer) -> None:
        size, largest = self.config.text_sizes["vocab_size"], max(tokenizer.get_vocab().values())
        if largest >= size:
            raise ValueError(
                f"The tokenizer has the token {largest}, but the text tower knows {size} tokens only. Give the "
                "tokenizer that belongs to the weights."
            )
        self._tokenizer = tokenizer

    def text_features(self, token_ids: Tensor) -> Tensor:
        """Map `(num_texts, length)` token ids to `(num_texts, embed_dim)`, not normalised. The end token of a text is
        the first one with the largest id."""
        return self.text_encoder(self.text_encoder.embed(token_ids), token_ids.argmax(dim=-1))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Map texts to `(num_texts, embed_dim)`, not normalised."""
        tokens = self.tokenizer(list(texts), padding=True, return_tensors="pt")["input_ids"].to(self.device)
        if tokens.shape[1] > self.text_encoder.context_length:
            raise ValueError(
                f"The text {max(texts, key=len)!r} is too long: the text encoder reads "
                f"{self.text_encoder.context_length} tokens, got {tokens.shape[1]}."
            )
        return torch.cat([self.text_features(some) for some in tokens.split(PROMPTS_PER_PASS)])

    # ---- weights ----

    def load_clip(self, clip: ClipSource, where: str) -> None:
        """Take over weights and tokenizer, see `ClipImageModel.load_clip`."""
        super().load_clip(clip, where)
        self._tokenizer = clip.tokenizer

    def save_further_files(self, folder: Path) -> None:
        super().save_further_files(folder)
        if self.has_tokenizer:
            self.tokenizer.save_pretrained(folder)

    def read_further_files(self, folder: Path) -> None:
        """The tokenizer."""
        file = folder / TOKENIZER_NAME
        self._tokenizer = file.read_text(encoding="utf-8") if file.is_file() else None

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """Load a checkpoint with its tokenizer; one without some weights of the towers is an error."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        file = _file_beside(pretrained_model_name_or_path, TOKENIZER_NAME, kwargs)
        model._tokenizer = None if file is None else file.read_text(encoding="utf-8")
        return loaded

    def train(self, mode: bool = True):
        super().train(mode)
        self.text_encoder.keep_frozen_parts_in_evaluation_mode()
        return self


def _file_beside(checkpoint: Any, name: str, options: dict[str, Any]) -> Path | None:
    """A further file of a checkpoint, where it has one; `options` are those of `from_pretrained`."""
    options = {key: options[key] for key in _HUB_OPTIONS if key in options}
    file = cached_file(checkpoint, name, _raise_exceptions_for_missing_entries=False, **options)
    return None if file is None else Path(file)


class ClipTowers(ClipPreTrainedModel):
    """The towers alone, without labels: what `hf-mlrpl convert clip` writes."""

    def __init__(self, config: ClipConfig):
        super().__init__(config)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # the first value in CLIP's training
        self.post_init()

    def image_features(self, pixel_values: Tensor) -> Tensor:
        """Map `(batch_size, 3, height, width)` to `(batch_size, embed_dim)`, not normalised."""
        return self.backbone(pixel_values)

    def similarities(self, pixel_values: Tensor, token_ids: Tensor) -> Tensor:
        """CLIP's logits: scaled cosine similarities of images and texts, `(num_images, num_texts)`."""
        images = F.normalize(self.image_features(pixel_values), dim=-1)
        texts = F.normalize(self.text_features(token_ids), dim=-1)
        return self.logit_scale.exp() * images @ texts.t()


class ClipPromptModel(ClipPreTrainedModel):
    """A model that knows its labels by prompts: it compares images with one vector per label or more.

    In training, the label vectors are computed once in a forward pass. In evaluation mode they are constants without
    gradients, computed once, so that the text side costs nothing; a checkpoint has them, too. Who changes weights in
    evaluation mode, other than by `load_state_dict`, calls `forget_label_vectors`.

    A subclass has `PromptLearner`s, or texts of its own, and defines `compute_label_vectors`.
    """

    config: ClipPromptConfig

    def __init__(self, config: ClipPromptConfig):
        super().__init__(config)
        self._kept: dict[str, Tensor] = {}
        self._is_in_forward = False
        self.register_forward_pre_hook(_begin_forward)
        self.register_forward_hook(_end_forward, always_call=True)

    @property
    def prompt_learners(self) -> list[PromptLearner]:
        return [module for module in self.children() if isinstance(module, PromptLearner)]

    @property
    def new_prompt_learners(self) -> list[PromptLearner]:
        """Those whose context does not come from another tagger."""
        loaded = () if self.warm_start is None else [*self.warm_start.loaded, *self.warm_start.by_label]
        learners = {name: child for name, child in self.named_children() if isinstance(child, PromptLearner)}
        return [learner for name, learner in learners.items() if f"{name}.context" not in loaded]

    @property
    def learned_per_label(self) -> str:
        """What each label has learned of its own, so that there is none for others; nothing where they share all."""
        return "a context" if self.config.context_per_label else ""

    @property
    def has_prompts(self) -> bool:
        """Whether the model knows the words of its labels."""
        return all(learner.has_tokens for learner in self.prompt_learners)

    # ---- label vectors ----

    def compute_label_vectors(self) -> Tensor:
        """Vectors that images are compared with, made of the prompts; of unit length, in at least float32."""
        raise NotImplementedError(f"{type(self).__name__} must define `compute_label_vectors`.")

    def label_vectors(self) -> Tensor:
        """`compute_label_vectors()`, once in a forward pass of training, or once for all in evaluation mode."""
        return self.once("label_vectors", self.compute_label_vectors)

    def once(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """`compute()`, or what it gave before under this `name`: in this forward pass in training, or since weights or
        labels changed in evaluation mode."""
        if name in self._kept:
            return self._kept[name]
        if not self.training:
            self._kept[name] = _constant(compute, self.device.type)
            return self._kept[name]
        with torch.enable_grad():  # an objective may ask first for scores without gradients
            value = compute()
        if self._is_in_forward:
            self._kept[name] = value
        return value

    def forget_label_vectors(self) -> None:
        """Compute the label vectors again when they are needed next."""
        self._kept.clear()

    def train(self, mode: bool = True):
        if mode:
            self.forget_label_vectors()
            for learner in self.prompt_learners:
                learner.measure()
        return super().train(mode)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.forget_label_vectors()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True):
        """Label vectors move to other devices with the weights; weights of another type have others."""
        dtype = self.dtype
        super()._apply(fn, recurse)
        if self.dtype == dtype:
            self._kept = {name: fn(tensor) for name, tensor in self._kept.items()}
        else:
            self.forget_label_vectors()
        return self

    # ---- labels ----

    def label_priors(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Buffers that derive from the label names, by name."""
        return {}

    @torch.no_grad()
    def fill_priors(self, labels: np.ndarray | None, images: TrainingImages | None) -> None:
        """Prompts of the label names with the start of their context, and what else derives from the names."""
        self._take_labels(self.config.label_names)
        if self.config.context_words is not None:
            for learner in self.new_prompt_learners:
                learner.start_from(self.config.context_words, self.tokenizer, self.text_encoder)

    @property
    def reads_names(self) -> bool:
        return True

    def _take_labels(self, names: Sequence[str], rows: list[int | None] | None = None) -> None:
        """Replace prompts and priors, with what the labels of the old `rows` have learned of their own.

        Raises:
            ValueError: for names that make no prompts, see `tokenize_labels`; and for names that are new to a model
                with something `learned_per_label`.
        """
        config = self.config
        tokens = tokenize_labels(names, self.tokenizer, config.num_context, config.text_sizes["context_length"])
        kept = None
        if self.learned_per_label and rows is not None:
            if new := [name for name, row in zip(names, rows, strict=True) if row is None]:
                raise ValueError(
                    f"Each label of this model learned {self.learned_per_label} of its own, and {shorten(new)} has "
                    f"none. It can be asked about some of its labels, {shorten(config.label_names, 8)}; models whose "
                    "labels share all that is learned, such as a context (`context_per_label: false`), take any names."
                )
            kept = [row for row in rows if row is not None]
        priors = self.label_priors(names)
        for learner in self.prompt_learners:
            learner.set_tokens(*tokens, kept if learner.is_per_label else None)
        for name, tensor in priors.items():
            setattr(self, name, tensor.to(getattr(self, name)))
        self.forget_label_vectors()

    # ---- checkpoints ----

    def save_further_files(self, folder: Path) -> None:
        """The label vectors, too."""
        super().save_further_files(folder)
        if self.has_prompts:
            vectors = self._kept.get("label_vectors")
            if vectors is None:
                vectors = _constant(self.compute_label_vectors, self.device.type)
            state = {"label_vectors": vectors.contiguous().cpu()}
            save_file(state, folder / LABEL_VECTORS_NAME, {"weights": self._digest_of_text_side()})

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """Load a checkpoint with its tokenizer and its label vectors."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        file = _file_beside(pretrained_model_name_or_path, LABEL_VECTORS_NAME, kwargs)
        if file is not None:
            with safe_open(file, "pt") as vectors:
                if (vectors.metadata() or {}).get("weights") == model._digest_of_text_side():
                    model._kept["label_vectors"] = vectors.get_tensor("label_vectors").to(model.device)
        return loaded

    def _digest_of_text_side(self) -> str:
        """Tells apart the settings, weights, labels and priors that label vectors come from."""
        of_transformers = {field.name for field in fields(PreTrainedConfig)}
        names = [field.name for field in fields(self.config) if field.name not in of_transformers]
        settings = json.dumps({name: getattr(self.config, name) for name in names})  # where a tuple is a list
        others = (IMAGE,) if self.config.trainable_text_encoder else (IMAGE, TEXT)
        weights = {name: w for name, w in self.state_dict().items() if not name.startswith(others)}
        return state_digest(weights | {"settings": torch.frombuffer(bytearray(settings.encode()), dtype=torch.uint8)})


def _begin_forward(model: ClipPromptModel, *_: Any) -> None:
    model._is_in_forward = True


def _end_forward(model: ClipPromptModel, *_: Any) -> None:
    model._is_in_forward = False
    if model.training:
        model.forget_label_vectors()


def _constant(compute: Callable[[], Tensor], device_type: str) -> Tensor:
    """Result of `compute` in full precision, as a tensor for any later use."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device_type, enabled=False):
        return compute()
