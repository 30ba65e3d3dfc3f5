import copy

import pytest
import timm
import torch
from safetensors.torch import save_file

from hf_mlrpl import BaselineConfig, BaselineForMultiLabelClassification
from hf_mlrpl.data.images.feature_files import StoredFeatures
from hf_mlrpl.models.parts.backbone import Backbone


def make_backbone(**settings) -> Backbone:
    return Backbone(BaselineConfig(**{"backbone": "test_resnet", "image_size": 32} | settings))


def timm_network(seed: int, **options) -> torch.nn.Module:
    torch.manual_seed(seed)
    return timm.create_model("test_resnet", features_only=True, out_indices=(-1,), **options)


def test_a_new_model_has_the_initial_weights_of_timm():
    expected = timm_network(seed=3).state_dict()
    torch.manual_seed(3)
    model = BaselineForMultiLabelClassification(BaselineConfig(backbone="test_resnet"))
    actual = model.backbone.network.state_dict()
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_weights_from_a_file_arrive_bit_by_bit(tmp_path):
    torch.manual_seed(5)
    source = timm.create_model("test_resnet", num_classes=7).state_dict()  # with a classifier, which is ignored
    source = {name: torch.randn_like(value) if value.is_floating_point() else value for name, value in source.items()}
    save_file(source, tmp_path / "weights.safetensors")
    backbone = make_backbone()
    backbone.load_weights(str(tmp_path / "weights.safetensors"))
    actual = backbone.network.state_dict()
    assert actual and all(torch.equal(actual[name], source[name]) for name in actual)


@pytest.mark.parametrize("name", ["test_convnext", "test_byobnet", "test_vit"])
def test_a_file_has_the_names_of_the_whole_network(name, tmp_path):
    """timm renames the parts of some networks when it makes feature extractors of them."""
    torch.manual_seed(5)
    source = {key: torch.randn_like(value) for key, value in timm.create_model(name).named_parameters()}
    buffers = dict(timm.create_model(name).named_buffers())
    save_file(source | buffers, tmp_path / "weights.safetensors")
    backbone = make_backbone(backbone=name, image_size=160)
    backbone.load_weights(str(tmp_path / "weights.safetensors"))
    for key, parameter in backbone.network.named_parameters():
        place = key.removeprefix("model.").replace("stages_", "stages.").replace("stem_", "stem.")
        assert torch.equal(parameter, source[place]), key


def test_positions_in_a_file_are_brought_to_the_size_of_the_images(tmp_path):
    source = timm.create_model("test_vit")  # for 160 px
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    backbone = make_backbone(backbone="test_vit", image_size=[96, 64])
    backbone.load_weights(str(tmp_path / "weights.safetensors"))
    expected = timm.create_model("test_vit", img_size=(96, 64))
    expected.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(source.state_dict(), expected))
    assert torch.equal(backbone.network.model.pos_embed, expected.pos_embed)
    assert backbone(torch.zeros(1, 3, 96, 64)).shape == (1, 64, 6, 4)


def test_a_file_may_lack_the_counters_of_batch_norms(tmp_path):
    """As torchvision's file of the published ResNet-101 does, resnet101-5d3b4d8f.pth."""
    source = timm_network(seed=1).state_dict()
    save_file({k: v for k, v in source.items() if not k.endswith("num_batches_tracked")}, tmp_path / "old.safetensors")
    backbone = make_backbone()
    backbone.load_weights(str(tmp_path / "old.safetensors"))
    assert all(torch.equal(tensor, source[name]) for name, tensor in backbone.network.state_dict().items())


def test_a_file_of_another_network_is_an_error(tmp_path):
    source = timm_network(seed=0).state_dict()
    del source["layer2.0.conv1.weight"]
    source["layer1.0.conv1.weight"] = torch.zeros(2, 2)
    save_file(source, tmp_path / "other.safetensors")
    message = r"other.safetensors do not fit the backbone test_resnet: 1 missing \(layer2.0.conv1.weight\), 1 of"
    with pytest.raises(ValueError, match=message):
        make_backbone().load_weights(str(tmp_path / "other.safetensors"))


def test_a_file_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.safetensors"):
        make_backbone().load_weights(str(tmp_path / "nothing.safetensors"))


def test_weights_that_cannot_be_downloaded_are_an_error_with_a_way_out(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no connection")

    backbone = make_backbone()
    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(OSError, match="weights of the backbone test_resnet .* be false .* no connection"):
        backbone.load_weights()


def test_a_file_with_a_pickled_object_is_refused(tmp_path):
    torch.save({"state_dict": torch.nn.Linear(2, 2)}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="evil.pth"):
        make_backbone().load_weights(str(tmp_path / "evil.pth"))


def test_a_file_that_is_no_weights_is_an_error(tmp_path):
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ValueError, match="text.safetensors"):
        make_backbone().load_weights(str(tmp_path / "text.safetensors"))


@pytest.mark.parametrize("stride, side", [(None, 2), (32, 2), (16, 4), (8, 8)])
def test_the_output_stride_sets_the_size_of_the_feature_map(stride, side):
    backbone = make_backbone(output_stride=stride)
    assert backbone(torch.zeros(1, 3, 64, 64)).shape == (1, backbone.num_features, side, side)


def test_feature_pooling_halves_the_feature_map():
    assert make_backbone(feature_pool=2)(torch.zeros(1, 3, 64, 128)).shape[2:] == (1, 2)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext"])
def test_other_networks(name):
    backbone = make_backbone(backbone=name)
    assert backbone(torch.zeros(2, 3, 64, 64)).shape[:2] == (2, backbone.num_features)


def test_frozen_parts_are_in_evaluation_mode_and_need_no_gradient():
    backbone = make_backbone(trainable_backbone=["layer3", "layer4"])
    backbone.train()
    backbone.keep_frozen_parts_in_evaluation_mode()
    assert not backbone.network.bn1.training and backbone.network.layer4.training
    trained = {
        name.split(".")[0] for name, parameter in backbone.network.named_parameters() if parameter.requires_grad
    }
    assert trained == {"layer3", "layer4"}


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "swin_tiny_patch4_window7_224",  # its own maps have the channels last
        "test_coatnet",
        "hrnet_w18_small",
        "pit_ti_224",
        "xcit_nano_12_p16_224",
        "mobilenetv3_small_050",
        "mobilevit_xxs",
    ],
)
def test_a_network_of_any_family_gives_a_map_of_images_of_any_size(name):
    backbone = make_backbone(backbone=name, image_size=[64, 128]).eval()
    features = backbone(torch.rand(1, 3, 64, 128))
    assert features.shape[:2] == (1, backbone.num_features) and features.shape[3] == 2 * features.shape[2]


@pytest.mark.parametrize(
    "name, trained",
    [
        ("test_efficientnet", ["blocks.3", "blocks.4"]),
        ("test_convnext", ["stages.3"]),
        ("test_mambaout", ["stages.3"]),
        ("mobilenetv3_small_050", ["blocks.5"]),
    ],
)
def test_the_frozen_parts_and_the_rest_make_the_whole_bit_by_bit(name, trained):
    backbone = make_backbone(backbone=name, image_size=64, trainable_backbone=trained).eval()
    pixel_values = torch.rand(2, 3, 64, 64)
    trunk = backbone.trunk(pixel_values)
    assert torch.equal(backbone(StoredFeatures(trunk)), backbone(pixel_values))
    assert not any(name.startswith(tuple(trained)) for name in backbone.frozen_state())


@pytest.mark.parametrize("name, trained", [("test_vit", "blocks.5"), ("hrnet_w18_small", "stage4")])
def test_a_network_that_is_no_chain_is_stored_as_a_whole_or_not_at_all(name, trained):
    backbone = make_backbone(backbone=name, image_size=64, trainable_backbone=[trained])
    with pytest.raises(ValueError, match=f"{name} can be stored only where none of its parts is trained"):
        backbone.trunk(torch.rand(1, 3, 64, 64))
    assert make_backbone(backbone=name, image_size=64, trainable_backbone=[]).is_frozen


@pytest.mark.parametrize(
    "name, trained, part",
    [
        ("test_efficientnet", "blocks.4", "blocks.4"),
        ("test_convnext", "stages.3", "stages_3"),
        ("test_vit", "blocks.5", "model.blocks.5"),
        ("test_resnet", "layer4.0.conv2", "layer4.0.conv2"),
    ],
)
def test_the_last_stage_of_any_network_can_be_trained(name, trained, part):
    backbone = make_backbone(backbone=name, image_size=64, trainable_backbone=[trained])
    backbone.train()
    backbone.keep_frozen_parts_in_evaluation_mode()
    network = backbone.network
    trained_weights = {key for key, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained_weights == {key for key, _ in network.named_parameters() if key.startswith(f"{part}.")} != set()
    leaves = {key for key, module in network.named_modules() if not list(module.children()) and module.training}
    assert leaves and all(key.startswith(part) for key in leaves)


def test_an_unknown_part_is_an_error_with_the_parts():
    with pytest.raises(ValueError, match="`trainable_backbone` names layer5, .* Its parts are conv1, bn1, .*layer4"):
        make_backbone(trainable_backbone=["layer5"])


def test_an_unknown_network_is_an_error_with_the_closest_names():
    with pytest.raises(ValueError, match="got 'resnet51'. Did you mean .*resnet50"):
        make_backbone(backbone="resnet51")


def test_a_network_that_cannot_take_the_size_of_the_images_says_which_one_it_can_take():
    backbone = make_backbone(backbone="efficientformer_l1", image_size=64)
    with pytest.raises(ValueError, match="efficientformer_l1 cannot take images of 64x64 pixels .* are for 224x224"):
        backbone(torch.zeros(1, 3, 64, 64))


def test_a_network_that_cannot_dilate_is_an_error():
    with pytest.raises(ValueError, match="'test_vit' with {'output_stride': 8} gives no feature map"):
        make_backbone(backbone="test_vit", output_stride=8)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_gradient_checkpointing_changes_neither_gradients_nor_statistics(name):
    torch.manual_seed(0)
    usual = make_backbone(backbone=name).train()
    saving = copy.deepcopy(usual)
    saving.checkpoint_gradients(True)
    pixel_values = torch.randn(3, 3, 64, 64)
    for backbone in (usual, saving, copy.deepcopy(saving)):
        backbone(pixel_values).square().sum().backward()
    for expected, actual in zip(usual.parameters(), saving.parameters(), strict=True):
        assert torch.equal(expected.grad, actual.grad)
    for expected, actual in zip(usual.buffers(), saving.buffers(), strict=True):
        assert torch.equal(expected, actual), "a batch counts once"
    saving.checkpoint_gradients(False)
    for backbone in (usual, saving):
        backbone(pixel_values)
    assert all(torch.equal(a, b) for a, b in zip(usual.buffers(), saving.buffers(), strict=True))


def test_a_backbone_without_gradient_checkpointing_says_so():
    with pytest.raises(ValueError, match="must be false with the backbone 'test_vit': timm has none for it"):
        make_backbone(backbone="test_vit", image_size=160).checkpoint_gradients(True)
