"""The image tower of CLIP: a ResNet of timm's blocks with an attention pool, or a ViT of transformers."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.layers import AttentionPool2d
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from ..data.images.feature_files import StoredFeatures
from ..models.parts.backbone import keep_own_init
from ..models.parts.partly_frozen import PartlyFrozen
from .configuration_clip import HEAD_DIM, ClipConfig
from .frozen import call_frozen


class ClipImageEncoder(PartlyFrozen):
    """One vector for an image, or one for each of its regions.

    Weights are random after construction; `load_pretrained` of the model brings pretrained ones.
    """

    network: "ClipResNet | ClipViT"

    def __init__(self, config: ClipConfig):
        super().__init__()
        self.network = ClipResNet(config) if config.is_resnet else ClipViT(config)
        self.num_features = config.embed_dim
        self.name = config.backbone
        self.freeze(config.trainable_backbone, config.backbone)

    def parts(self) -> dict[str, nn.Module]:
        return self.network.parts()

    def forward(self, pixel_values: Tensor | StoredFeatures) -> Tensor:
        """Map `(batch_size, 3, height, width)` to `(batch_size, num_features)`, not normalised."""
        return self._of(self.network, pixel_values)

    def feature_map(self, pixel_values: Tensor | StoredFeatures) -> Tensor:
        """Map pixels to `(batch_size, num_channels, map_height, map_width)`, the map that is pooled."""
        return self._of(self._resnet().feature_map, pixel_values)

    def _of(self, function: Callable[[Tensor], Tensor], pixel_values: Tensor | StoredFeatures) -> Tensor:
        return self.from_stored(pixel_values) if isinstance(pixel_values, StoredFeatures) else function(pixel_values)

    def regions(self, feature_map: Tensor, positions: bool = True) -> Tensor:
        """Map a feature map to `(batch_size, 1 + map_height * map_width, num_features)`, its mean first, see
        `AttentionPool.regions`."""
        return self._resnet().head.regions(feature_map, positions)

    def _resnet(self) -> "ClipResNet":
        if not isinstance(self.network, ClipResNet):
            raise ValueError(
                f"The backbone {self.name!r} gives no vectors of regions: only CLIP ResNets pool by attention. Choose "
                "resnet50_clip or resnet101_clip."
            )
        return self.network


class ClipResNet(nn.Module):
    """The ResNet of CLIP: a stem of three convolutions, average pools in the place of strides, and an attention pool.

    timm's `resnet50_clip` with any sizes. Its stages have the names of torchvision's ResNets.
    """

    def __init__(self, config: ClipConfig):
        super().__init__()
        width, layers = config.vision_sizes["width"], config.vision_sizes["layers"]
        network = ByobNet(_resnet_config(layers, width), num_classes=0)
        self.stem = network.stem
        self.layer1, self.layer2, self.layer3, self.layer4 = network.stages
        self.head = AttentionPool(
            32 * width, config.grid, config.embed_dim, num_heads=max(1, 32 * width // HEAD_DIM), qkv_separate=True
        )
        keep_own_init(self)

    def parts(self) -> dict[str, nn.Module]:
        return dict(self.named_children())

    def feature_map(self, pixel_values: Tensor) -> Tensor:
        """Map pixels to `(batch_size, num_channels, height / 32, width / 32)`."""
        # Convolutions are faster so, on CPUs and GPUs; the layout of the input decides for all layers.
        features = pixel_values.contiguous(memory_format=torch.channels_last)
        for part in (self.stem, self.layer1, self.layer2, self.layer3, self.layer4):
            features = call_frozen(part, features)
        return features

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.head(self.feature_map(pixel_values))


class AttentionPool(AttentionPool2d):
    """timm's attention pool, asked for less: the mean attends to all places, and nothing else does.

    Positions for a map of another size are resampled as in DualCoOp's code: `F.interpolate` without antialiasing,
    where timm has it.
    """

    def forward(self, features: Tensor, pre_logits: bool = False, positions: bool = True) -> Tensor:
        """Pool `(batch_size, in_features, height, width)` to `(batch_size, out_features)`."""
        tokens = self.tokens(features, positions)
        query, key, value = (self._split_heads(x) for x in (self.q(tokens[:, :1]), self.k(tokens), self.v(tokens)))
        pooled = F.scaled_dot_product_attention(query, key, value).flatten(1)
        return pooled if pre_logits else self.proj(pooled)

    def regions(self, features: Tensor, positions: bool = True) -> Tensor:
        """One vector for the mean of the map and one for each of its places, without attention (DualCoOp).

        Args:
            positions: whether the vectors know where they are; those of TaI-DPT do not.

        Returns:
            `(batch_size, 1 + height * width, out_features)`, the mean first, then row by row.
        """
        return self.proj(self.v(self.tokens(features, positions)))

    def tokens(self, features: Tensor, positions: bool = True) -> Tensor:
        """The mean of the map and its places, `(batch_size, 1 + height * width, in_features)`."""
        places = features.flatten(2).transpose(1, 2)
        tokens = torch.cat([places.mean(dim=1, keepdim=True), places], dim=1)
        if not positions:
            return tokens
        return tokens + resample_positions(self.pos_embed, self.feat_size, (features.shape[2], features.shape[3]))

    def _split_heads(self, tokens: Tensor) -> Tensor:
        """`(B, N, heads * dim)` to `(B, heads, N, dim)`."""
        return tokens.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class ClipViT(nn.Module):
    """The vision transformer of CLIP with its projection, from transformers."""

    def __init__(self, config: ClipConfig):
        super().__init__()
        sizes = config.vision_sizes
        self.vit = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=sizes["width"],
                intermediate_size=4 * sizes["width"],
                num_hidden_layers=sizes["layers"],
                num_attention_heads=sizes["heads"],
                patch_size=sizes["patch_size"],
                image_size=config.height_and_width[0],
                projection_dim=config.embed_dim,
                hidden_act=config.hidden_act,
            )
        )
        self.image_size = config.height_and_width

    def parts(self) -> dict[str, nn.Module]:
        vision = self.vit.vision_model
        layers = {f"layer{number}": layer for number, layer in enumerate(vision.encoder.layers, start=1)}
        ends = {"post_layernorm": vision.post_layernorm, "head": self.vit.visual_projection}
        return {"embeddings": vision.embeddings, "pre_layernorm": vision.pre_layrnorm, **layers, **ends}

    def forward(self, pixel_values: Tensor) -> Tensor:
        is_other_size = tuple(pixel_values.shape[2:]) != self.image_size
        return self.vit(pixel_values, interpolate_pos_encoding=is_other_size).image_embeds


def resample_positions(positions: Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int]) -> Tensor:
    """Bring `(1 + height * width, dim)` positions to another grid; that of the first token stays."""
    if tuple(old_grid) == tuple(new_grid):
        return positions
    places = positions[1:].t().reshape(1, -1, *old_grid)
    places = F.interpolate(places, size=new_grid, mode="bicubic", align_corners=False)
    return torch.cat([positions[:1], places.flatten(2)[0].t()])


def _resnet_config(layers: list[int], width: int) -> ByoModelCfg:
    """timm's `resnet50_clip` with other sizes."""
    stages = [
        ByoBlockCfg(type="bottle", d=depth, c=4 * width * 2**stage, s=2 if stage else 1, br=0.25)
        for stage, depth in enumerate(layers)
    ]
    return ByoModelCfg(
        blocks=tuple(stages),
        stem_chs=(width // 2, width // 2, width),
        stem_type="",
        stem_pool="avg2",
        downsample="avg",
        aa_layer="avg",
    )
