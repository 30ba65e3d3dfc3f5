"""SCPNet and DualCoOp as they were published, slow and easy to compare; see plain.py.

Both run all positions of the text tower at every step, SCPNet for every batch of evaluation, too; and DualCoOp
computes an attention over all regions and throws it away.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def text_features(prompts, text_encoder) -> Tensor:
    """Text features of all prompts, which have as many positions as the text tower knows (CoOp)."""
    embedded = text_encoder.embed(prompts.token_ids)  # (C, 77, width)
    num_labels, context = len(embedded), prompts.context
    if context.ndim == 2:
        context = context.repeat(num_labels, 1, 1)
    start, behind = embedded[:, :1], embedded[:, 1 + context.shape[1] :]
    return text_encoder(torch.cat([start, context, behind], dim=1), prompts.end_positions)


def regions(pool, features: Tensor) -> Tensor:
    """Vectors of the mean and of all places of a feature map, and an attention that nothing uses (DualCoOp).

    Args:
        pool: the attention pool of a CLIP ResNet.
        features: `(batch_size, in_features, height, width)`.
    """
    tokens = pool.tokens(features).transpose(0, 1)  # (R, B, D)
    F.multi_head_attention_forward(
        tokens,
        tokens,
        tokens,
        embed_dim_to_check=tokens.shape[2],
        num_heads=pool.num_heads,
        in_proj_weight=None,
        in_proj_bias=torch.cat([pool.q.bias, pool.k.bias, pool.v.bias]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=pool.proj.weight,
        out_proj_bias=pool.proj.bias,
        use_separate_proj_weight=True,
        q_proj_weight=pool.q.weight,
        k_proj_weight=pool.k.weight,
        v_proj_weight=pool.v.weight,
    )
    return pool.proj(pool.v(tokens)).transpose(0, 1)


class PlainScpnet:
    """Inference of SCPNet, in the direct way, with the weights of our model."""

    def __init__(self, model):
        self.model = model

    def label_vectors(self) -> Tensor:
        text = text_features(self.model.prompts, self.model.text_encoder)
        nodes, last = text, self.model.graph_network.layers[-1]
        for layer in self.model.graph_network.layers:
            nodes = self.model.graph @ (nodes @ layer.weight)
            if layer is not last:
                nodes = F.leaky_relu(nodes, 0.2)
        return F.normalize(text + nodes)

    def logits(self, pixel_values: Tensor) -> Tensor:
        """Scaled cosines of the images and the label vectors, which are made again for every batch."""
        images = F.normalize(self.model.backbone(pixel_values))
        return self.model.config.scale * images @ self.label_vectors().T


class PlainDualCoOp:
    """The training step of DualCoOp, in the direct way, with the weights of our model."""

    def __init__(self, model):
        self.model = model

    def prompt_logits(self, pixel_values: Tensor) -> Tensor:
        """Logits of the negative and of the positive prompt of each label, `(batch_size, 2, num_labels)`."""
        model = self.model
        text = [text_features(p, model.text_encoder) for p in (model.negative_prompts, model.positive_prompts)]
        with torch.no_grad():
            resnet = model.backbone.network
            visual = regions(resnet.head, resnet.feature_map(pixel_values))
        similarity = F.normalize(visual, dim=2) @ F.normalize(torch.cat(text)).T  # (B, R, 2 C)
        scores = model.config.region_scale * similarity.transpose(1, 2)
        weights = scores[:, scores.shape[1] // 2 :].softmax(dim=2).repeat(1, 2, 1)  # (B, 2 C, R)
        logits = model.config.scale / model.config.region_scale * (scores * weights).sum(dim=2)
        return logits.view(len(logits), 2, -1)

    def loss(self, pixel_values: Tensor, labels: Tensor) -> Tensor:
        """Asymmetric loss over the known labels, a mean over images."""
        absent, present = self.prompt_logits(pixel_values).softmax(dim=1).unbind(dim=1)
        absent = (absent + 0.05).clamp(max=1)
        positive, negative = (labels == 1).to(present.dtype), (labels == -1).to(present.dtype)
        likelihood = positive * present.clamp(min=1e-6).log() + negative * absent.clamp(min=1e-6).log()
        with torch.no_grad():
            focus = (1 - positive * present - negative * absent) ** (positive + 2 * negative)
        return -(likelihood * focus).sum() / len(labels)
