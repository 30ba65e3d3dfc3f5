import pytest
import torch
from PIL import Image
from tiny import tiny_model
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification, pipeline

from hf_mlrpl.auto import register
from hf_mlrpl.models.image_processing import processor_for
from hf_mlrpl.registry import METHODS, load


@pytest.fixture(params=sorted({spec.model: method for method, spec in METHODS.items()}.values()))
def method(request):
    """One for each model."""
    return request.param


def test_registering_twice_is_no_mistake():
    register()
    register()


def test_the_auto_classes_know_every_model(method, tmp_path):
    model_class = load(METHODS[method].model)
    config = tiny_model(method, image_size=[32, 64]).config
    config.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is model_class.config_class
    assert type(AutoModelForImageClassification.from_config(config)) is model_class
    processor_for(config).save_pretrained(tmp_path)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    assert type(processor).__module__ == "hf_mlrpl.models.image_processing"
    processed = processor(Image.new("RGB", (30, 20)), return_tensors="pt")
    assert processed["pixel_values"].shape == (1, 3, 32, 64)


def test_each_model_has_a_type_of_its_own():
    models = {spec.model for spec in METHODS.values()}
    assert len({load(model).config_class.model_type for model in models}) == len(models)


def test_the_tagging_pipeline_is_registered(tmp_path):
    model = tiny_model("ssgrl")
    model.save_pretrained(tmp_path)
    processor_for(model.config).save_pretrained(tmp_path)
    tagger = pipeline("image-tagging", model=str(tmp_path), device="cpu")
    assert type(tagger).__name__ == "ImageTaggingPipeline"


def test_a_half_precision_checkpoint_loads_in_full_precision_on_request(tmp_path):
    tiny_model("ssgrl").to(torch.bfloat16).save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path, dtype=torch.float32)
    assert {tensor.dtype for tensor in loaded.state_dict().values() if tensor.is_floating_point()} == {torch.float32}
