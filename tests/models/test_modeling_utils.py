import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny import NETWORKS, tiny_model
from torch import nn

from hf_mlrpl import (
    BaselineConfig,
    BaselineForMultiLabelClassification,
    MultiLabelPreTrainedModel,
    Objective,
    SstConfig,
)
from hf_mlrpl.distributed import state_digest
from hf_mlrpl.losses import partial_bce
from hf_mlrpl.objective import ObjectiveOutput, logits_of


def test_labels_give_the_partial_loss():
    model = tiny_model("partial_bce").eval()
    pixel_values, labels = torch.randn(2, 3, 32, 32), torch.tensor([[1, 0, -1, 0, 0], [0, 0, 1, -1, 0]])
    output = model(pixel_values, labels=labels)
    assert torch.equal(output.loss, partial_bce(output.logits, labels))
    assert "representations" not in output and "attention_maps" not in output


def test_an_objective_takes_over_the_forward_pass():
    seen = {}

    class Remember(Objective):
        def forward(self, model, batch, progress):
            seen.update(model=model, batch=batch, progress=progress)
            return ObjectiveOutput(loss=torch.zeros(()))

    model = tiny_model("partial_bce")
    views = {"pixel_values_strong": torch.ones(1)}
    output = model(torch.zeros(1, 3, 32, 32), torch.zeros(1, 5), objective=Remember(None, None), progress=7, **views)
    assert output.loss == 0 and seen["model"] is model and seen["progress"] == 7
    assert seen["batch"].keys() == {"pixel_values", "labels", "pixel_values_strong"}


def test_a_model_must_define_its_stages():
    model = MultiLabelPreTrainedModel(BaselineConfig())
    with pytest.raises(NotImplementedError, match="MultiLabelPreTrainedModel must define `represent`"):
        model.represent(torch.zeros(1, 3, 4, 4))
    with pytest.raises(NotImplementedError, match="must define `classify`"):
        model.classify(torch.zeros(1, 2, 3))
    with pytest.raises(NotImplementedError, match="Objective must define `forward`"):
        Objective(None, None)(model, {}, None)


def test_linear_layers_start_as_those_of_torch():
    """Not from the N(0, 0.02) of language models."""
    torch.manual_seed(0)
    model = tiny_model("ssgrl", output_dim=400, representation_dim=100)
    weight = model.fuse.weight.detach()
    expected = nn.Linear(200, 400).weight.detach()
    assert weight.shape == expected.shape
    assert weight.std() == pytest.approx(expected.std().item(), rel=0.02)
    assert weight.abs().max() <= expected.abs().max() * 1.01


def test_a_model_without_priors_has_usable_ones():
    from hf_mlrpl import SstForMultiLabelClassification

    model = SstForMultiLabelClassification(SstConfig(backbone="test_resnet", num_labels=4, feature_pool=1))
    assert torch.equal(model.label_graph, torch.eye(4))
    assert model.word_embeddings.isfinite().all() and model.word_embeddings.any()


class SumOfLogits(Objective):
    def forward(self, model, batch, progress):
        return ObjectiveOutput(loss=logits_of(model, batch["pixel_values"]).sum())


@pytest.mark.parametrize("method", NETWORKS)
def test_a_model_whose_priors_are_missing_cannot_be_trained(method, tmp_path):
    """Those of a checkpoint are there, and so are those that `load_state_dict` brings."""
    ready = tiny_model(method)
    fresh = type(ready)(ready.config)
    train = {"pixel_values": torch.randn(2, 3, 32, 32), "objective": SumOfLogits(None, None)}
    if ready.prior_buffers:
        with pytest.raises(RuntimeError, match="cannot be trained yet: .* derive from the training data"):
            fresh(**train)
    fresh.load_state_dict(ready.state_dict())
    ready.save_pretrained(tmp_path)
    for model in (ready, fresh, type(ready).from_pretrained(tmp_path)):
        assert model.train()(**train).loss.isfinite()


@pytest.mark.parametrize("method", NETWORKS)
def test_the_stages_give_the_logits_and_only_the_encoder_sees_pixels(method):
    model, pixel_values = tiny_model(method).eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = model.encode(pixel_values)
        representations, _ = model.represent(features)
        logits = model.classify(representations)
        assert torch.equal(logits, model(pixel_values).logits)
    assert len(features) == 2 and features.ndim in (2, 4)
    assert representations.shape[:2] in ((2, 5), (2, 1)) and logits.shape == (2, 5)


def test_settings_of_the_encoder_tell_its_features_apart():
    model = tiny_model("ssgrl")
    settings = model.encoder_settings()
    assert settings == tiny_model("ssgrl", representation_dim=12).encoder_settings()
    assert settings != tiny_model("ssgrl", feature_pool=2).encoder_settings()
    next(model.backbone.parameters()).data.add_(1)
    assert settings["weights"] != model.encoder_settings()["weights"]


def test_settings_of_a_trunk_tell_where_it_ends_also_behind_a_part_without_weights():
    stages = ["layer1", "layer2", "layer3", "layer4"]
    long, short = (tiny_model(trainable_backbone=trained) for trained in (stages, ["maxpool", *stages]))
    pixel_values = torch.rand(1, 3, 32, 32)
    assert long.encode_frozen(pixel_values).shape != short.encode_frozen(pixel_values).shape
    assert long.frozen_settings() != short.frozen_settings()


def test_a_network_whose_parts_share_weights_is_saved_and_loaded(tmp_path):
    model = tiny_model("partial_bce", backbone="coat_tiny")
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert state_digest(loaded.state_dict()) == state_digest(model.state_dict())
    network = loaded.backbone.network.model
    assert network.serial_blocks1[0].cpe.proj.weight is network.cpe1.proj.weight


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"image_size": [1, 2, 3]}, "`image_size` must be a side or"),
        ({"image_size": 1_000_000}, "`image_size` must lie in"),
        ({"image_std": [0.0, 0.0, 0.0]}, "`image_std` must lie in"),
        ({"image_std": [0.2, -0.2, 0.2]}, "`image_std` must lie in"),
        ({"image_mean": [0.5, float("nan"), 0.5]}, "`image_mean` must lie in"),
        ({"image_mean": [0.5]}, "`image_mean` must be three numbers"),
        ({"thresholds": 2.0}, "`thresholds` must lie in"),
        ({"thresholds": [0.5, -0.1]}, "`thresholds` must lie in"),
        ({"feature_pool": 0}, "`feature_pool` must lie in"),
        ({"output_stride": 0}, "`output_stride` must lie in"),
        ({"image_size": -4}, "`image_size` must lie in"),
        ({"backbone": 3}, "backbone"),
        ({"thresholds": "high"}, "thresholds"),
    ],
)
def test_a_config_checks_its_values(settings, message):
    with pytest.raises(StrictDataclassError, match=message):
        BaselineConfig(**settings)


def test_a_config_survives_the_disk(tmp_path):
    config = SstConfig(
        image_size=[320, 480],
        thresholds=[0.25, 0.75],
        id2label={0: "dog", 1: "dining table"},
        label2id={"dog": 0, "dining table": 1},
        trainable_backbone=None,
    )
    config.save_pretrained(tmp_path)
    loaded = SstConfig.from_pretrained(tmp_path)
    assert loaded.height_and_width == (320, 480) and loaded.thresholds == [0.25, 0.75]
    assert loaded.label_names == ["dog", "dining table"] and loaded.trainable_backbone is None
    assert loaded.problem_type == "multi_label_classification"
    assert BaselineConfig(image_size=7).height_and_width == (7, 7)


def test_weights_of_other_sizes_are_an_error(tmp_path):
    tiny_model("partial_bce").save_pretrained(tmp_path)
    config = BaselineConfig.from_pretrained(tmp_path)
    config.id2label, config.label2id = {0: "dog"}, {"dog": 0}
    with pytest.raises(ValueError, match=r"has 2 weights of other sizes .* classifier.bias, \(5,\) instead of \(1,\)"):
        BaselineForMultiLabelClassification.from_pretrained(tmp_path, config=config)
    model = BaselineForMultiLabelClassification.from_pretrained(tmp_path, config=config, ignore_mismatched_sizes=True)
    assert model.classifier.bias.shape == (1,)


def test_labels_of_0_and_1_are_warned_of_once(caplog):
    pixel_values = torch.zeros(2, 3, 32, 32)
    model = tiny_model("partial_bce").eval()
    model(pixel_values, labels=torch.tensor([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]]))
    model(pixel_values, labels=torch.tensor([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]]))
    assert caplog.text.count("holds 0 and 1, but no -1") == 1
    caplog.clear()
    tiny_model("partial_bce").eval()(pixel_values, labels=torch.tensor([[1, -1, 0, 0, 0], [0, 1, 0, 0, 0]]))
    assert "no -1" not in caplog.text


def test_a_pooling_larger_than_the_feature_map_is_an_error():
    model = tiny_model("partial_bce", feature_pool=9).eval()
    with pytest.raises(ValueError, match="`feature_pool` must not be larger than the feature map, got 9 for one of"):
        model(torch.zeros(1, 3, *model.config.height_and_width))
