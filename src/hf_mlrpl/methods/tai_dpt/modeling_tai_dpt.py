import torch
import torch.nn.functional as F
from torch import Tensor

from ...clip.modeling_clip import ClipPromptModel
from ...clip.prompts import PromptLearner, features_of_prompts
from ...data.images.feature_files import StoredFeatures
from ...losses import at_least_float32
from .configuration_tai_dpt import TaiDptConfig


class TaiDptForMultiLabelClassification(ClipPromptModel):
    """Double-grained prompts: an image, or a caption in its place, is compared as a whole and part by part."""

    config_class = TaiDptConfig
    config: TaiDptConfig

    def __init__(self, config: TaiDptConfig):
        super().__init__(config)
        if not config.positional_embedding:
            self.backbone.network.head.pos_embed.requires_grad_(False)
        self.global_prompts = PromptLearner.from_config(config)
        self.local_prompts = PromptLearner.from_config(config)
        self.post_init()

    def encode(self, pixel_values: Tensor | StoredFeatures) -> Tensor:
        """The map that CLIP pools by attention."""
        return self.backbone.feature_map(pixel_values)

    def represent(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The image, and what each label finds in its places.

        Returns:
            Representations `(batch_size, num_labels, 2 * embed_dim)`, and attention maps that sum to 1.
        """
        positions = self.config.positional_embedding
        image = self.backbone.network.head(features, positions=positions)
        places = self.backbone.regions(features, positions)[:, 1:]
        representations, weights = self.attend(image, places, self.config.image_sharpness)
        return representations, weights.unflatten(2, features.shape[2:])

    def represent_captions(self, input_ids: Tensor) -> Tensor:
        """The same for captions, whose parts are their tokens.

        Args:
            input_ids: `(batch_size, length)`; the end of a caption is the first token with the largest id, and what
                stands behind it is not read.

        Returns:
            Representations `(batch_size, num_labels, 2 * embed_dim)`.
        """
        tokens = self.text_encoder.tokens(self.text_encoder.embed(input_ids))
        return self.represent_tokens(tokens, input_ids.argmax(dim=1))

    def represent_tokens(self, tokens: Tensor, ends: Tensor) -> Tensor:
        """Representations of captions from vectors of their tokens, `(batch_size, length, embed_dim)`, and the places
        of their ends, `(batch_size,)`."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        caption = tokens[torch.arange(len(tokens), device=tokens.device), ends]
        is_padding = places > ends.unsqueeze(1)  # (B, L)
        return self.attend(caption, tokens, self.config.text_sharpness, is_padding)[0]

    def attend(
        self, whole: Tensor, parts: Tensor, sharpness: float, left_out: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Add up the parts for each label, weighted by how well they fit its local prompt, and put the whole in front.

        Args:
            whole: `(batch_size, embed_dim)`.
            parts: `(batch_size, num_parts, embed_dim)`.
            left_out: parts without a weight, `(batch_size, num_parts)`.

        Returns:
            Unit vectors and sums of them, `(batch_size, num_labels, 2 * embed_dim)`, and the weights, `(batch_size,
            num_labels, num_parts)`, both in float32 also under autocast.
        """
        _, local = self.label_vectors().chunk(2)  # (C, D)
        with torch.autocast(parts.device.type, enabled=False):
            whole, parts = (F.normalize(at_least_float32(vectors), dim=-1) for vectors in (whole, parts))
            scores = sharpness * local @ parts.mT  # (B, C, P)
            if left_out is not None:
                scores = scores.masked_fill(left_out.unsqueeze(1), -torch.inf)
            weights = scores.softmax(dim=-1)
            return torch.cat([whole.unsqueeze(1).expand(-1, len(local), -1), weights @ parts], dim=-1), weights

    def classify(self, representations: Tensor) -> Tensor:
        """The logits of whole and parts, merged."""
        return self.merge(self.logits_of_both(representations))

    def merge(self, both: Tensor) -> Tensor:
        """The weighted mean of the logits of whole and parts, `(batch_size, 2, num_labels)`."""
        whole, parts = both.unbind(dim=1)
        return whole.lerp(parts, self.config.local_weight)

    def logits_of_both(self, representations: Tensor) -> Tensor:
        """Scaled products of the whole with the global prompts, and of the parts with the local ones, `(batch_size, 2,
        num_labels)`."""
        vectors = self.label_vectors().unflatten(0, (2, -1))  # (2, C, D)
        with torch.autocast(representations.device.type, enabled=False):
            both = at_least_float32(representations).unflatten(2, (2, -1))  # (B, C, 2, D)
            return self.config.scale * torch.einsum("bckd,kcd->bkc", both, vectors)

    def compute_label_vectors(self) -> Tensor:
        """Unit vectors of the global prompts, then of the local ones, `(2 * num_labels, embed_dim)`."""
        vectors = features_of_prompts(self.text_encoder, self.global_prompts, self.local_prompts)
        return F.normalize(at_least_float32(vectors), dim=-1)
