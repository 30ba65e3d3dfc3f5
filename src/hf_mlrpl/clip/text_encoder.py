"""The text tower of CLIP, from transformers, for token embeddings instead of token ids."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from .configuration_clip import ClipConfig
from .frozen import call_frozen


class ClipTextEncoder(nn.Module):
    """Prompts to vectors; prompts are embeddings, so that some of their words can be learned.

    Weights are random after construction; `load_pretrained` of the model brings pretrained ones.

    Attributes:
        width: length of the embedding of a token.
        context_length: how many tokens a prompt may have.
    """

    def __init__(self, config: ClipConfig):
        super().__init__()
        sizes = config.text_sizes
        self.width: int = sizes["width"]
        self.context_length: int = sizes["context_length"]
        self.network = CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=sizes["vocab_size"],
                hidden_size=sizes["width"],
                intermediate_size=4 * sizes["width"],
                num_hidden_layers=sizes["layers"],
                num_attention_heads=sizes["heads"],
                max_position_embeddings=sizes["context_length"],
                projection_dim=config.embed_dim,
                hidden_act=config.hidden_act,
                bos_token_id=None,  # prompts are embeddings with the places of their ends
                eos_token_id=None,
                pad_token_id=None,
            )
        )
        self.is_frozen = not config.trainable_text_encoder
        if self.is_frozen:
            self.requires_grad_(False)

    def keep_frozen_parts_in_evaluation_mode(self) -> None:
        if self.is_frozen:
            self.eval()

    def embed(self, token_ids: Tensor) -> Tensor:
        """Map `(num_prompts, length)` token ids to embeddings without positions, `(num_prompts, length, width)`."""
        return self.network.text_model.embeddings.token_embedding(token_ids)

    def forward(self, embeddings: Tensor, end_positions: Tensor) -> Tensor:
        """The vector at the end of each prompt.

        No token looks at those behind it, so a prompt may be cut off behind its end without a difference.

        Args:
            embeddings: `(num_prompts, length, width)` without positions; at most `context_length` tokens.
            end_positions: `(num_prompts,)` places of the end tokens.

        Returns:
            `(num_prompts, embed_dim)`, not normalised.
        """
        hidden = self._hidden(embeddings)
        return self._project(hidden[torch.arange(len(hidden), device=hidden.device), end_positions])

    def tokens(self, embeddings: Tensor) -> Tensor:
        """A vector for each token, `(num_texts, length, embed_dim)`, not normalised; see `forward`."""
        return self._project(self._hidden(embeddings))

    def _hidden(self, embeddings: Tensor) -> Tensor:
        text = self.network.text_model
        hidden = text.embeddings(inputs_embeds=embeddings)
        length = hidden.shape[1]
        # With some implementations of attention, a model without a mask looks ahead.
        mask = torch.full((length, length), torch.finfo(hidden.dtype).min, dtype=hidden.dtype, device=hidden.device)
        with self._attention_backend(hidden.device):
            mask = mask.triu(1)[None, None]
            return call_frozen(text.encoder, inputs_embeds=hidden, attention_mask=mask).last_hidden_state

    def _project(self, hidden: Tensor) -> Tensor:
        return self.network.text_projection(self.network.text_model.final_layer_norm(hidden))

    @staticmethod
    def _attention_backend(device: torch.device) -> AbstractContextManager:
        """Plain products on a CPU: for short prompts in bfloat16, its fused attention goes back ten times slower."""
        return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
