import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny_clip import TINY_RESNET, TINY_VIT

from hf_mlrpl.clip.configuration_clip import PUBLISHED, ClipConfig
from hf_mlrpl.clip.weights import empty_towers


@pytest.mark.parametrize(
    ("backbone", "millions", "embed_dim"),
    [  # parameters of both towers, as open_clip lists them for its models of the same sizes
        ("resnet50_clip", 102.01, 1024),
        ("resnet101_clip", 119.69, 512),
        ("resnet50x4_clip", 178.30, 640),
        ("resnet50x16_clip", 290.98, 768),
        ("resnet50x64_clip", 623.26, 1024),
        ("vit_base_patch32_clip", 151.28, 512),
        ("vit_base_patch16_clip", 149.62, 512),
        ("vit_large_patch14_clip", 427.62, 768),
    ],
)
def test_published_towers_have_their_sizes(backbone, millions, embed_dim):
    native = {"resnet50x4_clip": 288, "resnet50x16_clip": 384, "resnet50x64_clip": 448}.get(backbone, 224)
    tensors = empty_towers(ClipConfig(backbone=backbone, image_size=native))
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    count = sum(tensor.numel() for name, tensor in tensors.items() if not name.endswith(buffers))
    assert round(count / 1e6, 2) == millions
    assert tensors["text_encoder.network.text_projection.weight"].shape[0] == embed_dim


def test_every_published_tower_is_tested():
    """Above."""
    marks = test_published_towers_have_their_sizes.pytestmark
    assert [case[0] for case in marks[0].args[1]] == list(PUBLISHED)


def test_a_saved_config_names_all_sizes(tmp_path):
    config = ClipConfig(backbone="resnet101_clip", text_sizes={"context_length": 20})
    config.save_pretrained(tmp_path)
    loaded = ClipConfig.from_pretrained(tmp_path)
    assert loaded.vision_sizes == {"layers": [3, 4, 23, 3], "width": 64} and loaded.embed_dim == 512
    assert loaded.text_sizes == config.text_sizes
    assert loaded.text_sizes == {"layers": 12, "width": 512, "vocab_size": 49408, "context_length": 20, "heads": 8}


def test_heads_follow_from_the_width():
    config = ClipConfig(backbone="vit_base_patch16_clip", vision_sizes={"width": 128}, text_sizes={"width": 192})
    assert config.vision_sizes["heads"] == 2 and config.text_sizes["heads"] == 3
    other = ClipConfig(backbone="vit_base_patch16_clip", vision_sizes={"width": 160, "heads": 2})
    assert other.vision_sizes["heads"] == 2


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"backbone": "resnet50"}, "must name a CLIP image tower, got 'resnet50'. Did you mean 'resnet50_clip'"),
        ({"backbone": "convnext"}, "Available: resnet50_clip, "),
        ({"backbone": "resnet_clip"}, "`vision_sizes` needs layers, width, too"),
        (TINY_RESNET | {"text_sizes": {"width": 64}}, "`text_sizes` needs layers, vocab_size, context_length, too"),
        (TINY_RESNET | {"embed_dim": None}, "needs `embed_dim`"),
        ({"vision_sizes": {"depth": 3}}, "`vision_sizes` of the backbone 'resnet50_clip' has no 'depth'"),
        ({"vision_sizes": {"patch_size": 16}}, "has no 'patch_size', only layers, width"),
        ({"vision_sizes": {"width": 0}}, "`width` must be a whole number from 1 to 1,000,000, got 0"),
        ({"vision_sizes": {"width": "64"}}, "`width` must be a whole number from 1 to 1,000,000, got '64'"),
        ({"vision_sizes": {"layers": [1, 1, 1]}}, "`layers` of a ResNet must be the blocks of its 4 stages"),
        ({"vision_sizes": {"layers": 3}}, "`layers` of a ResNet must be the blocks of its 4 stages, got 3"),
        ({"vision_sizes": {"layers": [1, 1, 0, 1]}}, "blocks of its 4 stages, got"),
        (
            {"backbone": "vit_base_patch16_clip", "vision_sizes": {"layers": [1] * 4}},
            "`layers` must be a whole number",
        ),
        ({"vision_sizes": {"width": 9}}, "a ResNet needs an even `width`, got 9"),
        ({"text_sizes": {"width": 64, "heads": 3}}, "a width of 64 cannot be shared by 3 heads"),
        ({"hidden_act": "relu"}, "`hidden_act` must be one of quick_gelu, gelu, got 'relu'"),
        ({"output_stride": 16}, "CLIP towers have no `output_stride`"),
        ({"feature_pool": 2}, "CLIP towers have no `output_stride` and no `feature_pool`"),
        ({"image_size": 100}, "`image_size` must be a multiple of 32 with the backbone 'resnet50_clip', got 100"),
        (TINY_VIT | {"image_size": [32, 64]}, "A ViT needs square images"),
        (TINY_VIT | {"image_size": 40}, "must be a multiple of 16"),
    ],
)
def test_wrong_settings_are_errors(settings, fault):
    with pytest.raises((ValueError, StrictDataclassError), match=fault):
        ClipConfig(**settings)


def test_no_tensor_is_made_to_know_shapes():
    assert {t.device for t in empty_towers(ClipConfig(**TINY_VIT)).values()} == {torch.device("meta")}
