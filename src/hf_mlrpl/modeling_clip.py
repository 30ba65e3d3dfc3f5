"""Models with both towers of CLIP, and the towers alone."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTokenizer
from transformers.utils import cached_file

from .configuration_clip import PUBLISHED, ClipConfig
from .modeling_utils import MultiLabelPreTrainedModel
from .modules.clip.image_encoder import ClipImageEncoder
from .modules.clip.sources import read_clip
from .modules.clip.text_encoder import ClipTextEncoder
from .modules.clip.tokenizer import BYTE_TOKENS, TOKENIZER_NAME, byte_tokenizer, parse_tokenizer
from .modules.clip.weights import IMAGE, SCALE, TEXT

_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")


class ClipPreTrainedModel(MultiLabelPreTrainedModel):
    """Base of the models that have both towers of CLIP.

    Attributes:
        backbone: the image tower.
        text_encoder: the text tower, frozen unless `trainable_text_encoder`.
    """

    config_class = ClipConfig
    needed_weights: tuple[str, ...] = (IMAGE, TEXT)

    config: ClipConfig
    backbone: ClipImageEncoder

    def __init__(self, config: ClipConfig):
        super().__init__(config)
        self.backbone = ClipImageEncoder(config)
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

    # ---- weights ----

    def load_pretrained(self, source: str | None = None) -> None:
        """Bring pretrained weights into both towers, with their tokenizer.

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
        clip = read_clip(source)
        tensors = clip.weights.fitted_to(self.config, source)
        own = self.state_dict()
        self.load_state_dict({name: tensor for name, tensor in tensors.items() if name in own}, strict=False)
        self._tokenizer = clip.tokenizer

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As everywhere in transformers, with the tokenizer."""
        super().save_pretrained(save_directory, *args, **kwargs)
        is_main_process = args[0] if args else kwargs.get("is_main_process", True)
        if is_main_process and self.has_tokenizer:
            for_hub = {key: kwargs[key] for key in ("push_to_hub", "repo_id", "token") if key in kwargs}
            self.tokenizer.save_pretrained(save_directory, **for_hub)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """Load a checkpoint with its tokenizer; one without some weights of the towers is an error."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        options = {key: kwargs[key] for key in _HUB_OPTIONS if key in kwargs}
        file = cached_file(
            pretrained_model_name_or_path, TOKENIZER_NAME, _raise_exceptions_for_missing_entries=False, **options
        )
        model._tokenizer = None if file is None else Path(file).read_text(encoding="utf-8")
        return loaded

    def train(self, mode: bool = True):
        super().train(mode)
        self.text_encoder.keep_frozen_parts_in_evaluation_mode()
        return self


class ClipTowers(ClipPreTrainedModel):
    """The towers alone, without labels: what `hf-mlrpl convert clip` writes."""

    needed_weights: tuple[str, ...] = (IMAGE, TEXT, SCALE)

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
