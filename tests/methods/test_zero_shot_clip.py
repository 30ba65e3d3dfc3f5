"""Zero-shot CLIP: the numbers of CLIP, its texts, and a run without training."""

import json

import pytest
import torch
from golden_files import golden
from golden_models import leaf
from huggingface_hub.errors import StrictDataclassError
from tiny import make_trainer, tiny_model, tiny_recipe, write_recipe
from tiny_clip import CLIP_FILES, TINY_RESNET, TINY_VIT, golden_weights

from hf_mlrpl import ZeroShotClipConfig, ZeroShotClipForMultiLabelClassification
from hf_mlrpl.cli.main import main

DTYPES = (torch.float64, torch.float32)
NAMES = ["cat", "hot_dog", "zebra"]


def make_model(names=NAMES, tower=TINY_RESNET, **settings) -> ZeroShotClipForMultiLabelClassification:
    torch.manual_seed(0)
    sizes = tower | {"text_sizes": tower["text_sizes"] | {"context_length": 40}}
    config = ZeroShotClipConfig.for_labels(names, **(sizes | settings))
    model = ZeroShotClipForMultiLabelClassification(config)
    model.set_priors()
    return model.eval()


# ---- the numbers of CLIP, and of TaI-DPT ----


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CLIP_FILES)
def test_logits_are_those_of_clip(name, dtype):
    file, weights = golden(name), golden_weights(golden(name), dtype)
    sizes = {key: getattr(weights.config, key) for key in ("backbone", "vision_sizes", "text_sizes", "embed_dim")}
    sizes |= {"image_size": weights.config.image_size, "initial_bias": 0.0}
    token_ids = file.tensors["in.token_ids"]
    model = ZeroShotClipForMultiLabelClassification(ZeroShotClipConfig(num_labels=len(token_ids), **sizes)).to(dtype)
    tensors = weights.fitted_to(weights.config, name)
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert set(missing) == {"token_ids", "logit_bias"} and not unexpected
    model.token_ids[:, : token_ids.shape[1]] = token_ids
    logits = model.eval()(file.tensors["in.image"].to(dtype)).logits
    file.check("out.logits_per_image", logits)


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_regions_are_weighted_as_in_tai_dpt(dtype):
    """Its scores are 4 times the cosines, which are weighed at another temperature."""
    file, scale = golden("tai_dpt_head"), float(golden("tai_dpt_head").hparams["spatial_image"])
    tensors, text = file.tensors, file.tensors["in.text_features.local"].to(dtype)
    features, dim = leaf(tensors["in.feature_map"], dtype), text.shape[1]
    model = make_model([str(i) for i in range(len(text))], embed_dim=dim, dense_weight=1.0, initial_scale=scale).to(
        dtype
    )
    head = model.backbone.network.head
    head.v, head.proj = (torch.nn.Linear(features.shape[1], n, dtype=dtype) for n in (features.shape[1], dim))
    head.forward = lambda _: features.new_zeros(len(features), dim)
    for layer, golden_name in ((head.v, "value"), (head.proj, "output")):
        for kind in ("weight", "bias"):
            getattr(layer, kind).data.copy_(tensors[f"w.{golden_name}.{kind}"])
    model._kept["label_vectors"] = torch.nn.functional.normalize(text, dim=-1)
    representations, attention_maps = model.represent(features)
    torch.testing.assert_close(attention_maps.sum(dim=(2, 3)), torch.ones(len(features), len(text), dtype=dtype))
    file.check("image/out.logits_local", 4 * (model.classify(representations) - model.logit_bias) / scale)


# ---- texts ----


def test_several_texts_count_with_their_mean():
    templates = ["a photo of a {}.", "many {}."]
    ensemble, *single = (make_model(templates=some).label_vectors() for some in (templates, *([t] for t in templates)))
    mean = torch.stack(single).mean(dim=0)
    torch.testing.assert_close(ensemble, mean / mean.norm(dim=-1, keepdim=True))


def test_underscores_are_spaces_and_other_labels_are_asked():
    model = make_model()
    before = model.label_vectors()
    model.set_labels(["hot dog", "a tram", "cat", "bus"])
    assert model.config.label_names == ["hot dog", "a tram", "cat", "bus"]
    torch.testing.assert_close(model.label_vectors()[[2, 0]], before[[0, 1]])
    assert model(torch.randn(2, 3, 64, 64)).logits.shape == (2, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"templates": []}, "must have at least one text"),
        ({"templates": ["a photo"]}, "must have one {} .*got 'a photo'"),
        ({"templates": ["{} and {}"]}, "must have one {} "),
        ({"templates": ["{name}"]}, "must have one {} "),
        ({"templates": ["{"]}, "must have one {} "),
        ({"num_context": 4}, "learns no context"),
        ({"dense_weight": 1.5}, r"`dense_weight` must lie in \[0, 1\]"),
        ({"dense_weight": 0.5} | TINY_VIT, "needs a CLIP ResNet"),
    ],
)
def test_settings_that_make_no_sense_are_errors(settings, message):
    with pytest.raises((StrictDataclassError, ValueError), match=message):
        ZeroShotClipConfig(**(TINY_RESNET | settings))


def test_a_text_that_is_too_long_is_an_error():
    with pytest.raises(ValueError, match=r"The text 'a photo of .*' has \d+ tokens, and the text encoder reads 40"):
        make_model(["a very, very long name of a label"], templates=["a photo of a certain number of {}."])


def test_a_model_without_texts_says_so():
    model = ZeroShotClipForMultiLabelClassification(ZeroShotClipConfig(num_labels=2, **TINY_RESNET))
    with pytest.raises(RuntimeError, match=r"no texts yet: call `set_priors\(\)`"):
        model.eval()(torch.randn(1, 3, 64, 64))


def test_vision_transformers_work_and_have_no_maps():
    model = make_model(tower=TINY_VIT)
    output = model(torch.randn(2, 3, 32, 32), output_attention_maps=True)
    assert output.logits.shape == (2, 3) and output.attention_maps is None


# ---- runs ----


def test_nothing_is_trained_and_thresholds_are_chosen(tmp_path, capsys):
    settings = {"num_train_epochs": 0, "choose_thresholds": True}
    recipe = write_recipe(tmp_path, "zero_shot_clip", training=settings)
    assert main(["train", recipe, "--output", str(tmp_path / "run"), "--no-pictures"]) == 0
    assert "nothing is trained, the model is measured as it is" in capsys.readouterr().out
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert len(set(config["thresholds"])) > 1
    untrained = make_trainer(tiny_recipe("zero_shot_clip"), tmp_path / "other").model
    loaded = ZeroShotClipForMultiLabelClassification.from_pretrained(tmp_path / "run")
    assert loaded.logit_scale == untrained.logit_scale and loaded.logit_bias == 0
    assert main(["evaluate", str(tmp_path / "run"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    trained = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert printed["test_map"] == pytest.approx(trained["test_map"], rel=1e-5)


def test_training_calibrates_what_ranks_as_before(tmp_path):
    """With frozen towers, only the scale and the bias of the scores move."""
    recipe = tiny_recipe("zero_shot_clip", model={"trainable_backbone": [], "dense_weight": 0.0})
    trainer = make_trainer(recipe, tmp_path)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.train()
    after = trainer.model.state_dict()
    assert {name for name in after if not torch.equal(after[name], before[name])} == {"logit_scale", "logit_bias"}
    assert tiny_model("zero_shot_clip").prompt_learners == []
