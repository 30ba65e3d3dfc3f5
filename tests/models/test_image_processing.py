import json

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from transformers import AutoImageProcessor, PreTrainedConfig

from hf_mlrpl.data.images.photos import pixels_of
from hf_mlrpl.data.images.views import normalized
from hf_mlrpl.models.configuration_utils import MultiLabelConfig
from hf_mlrpl.models.image_processing import (
    MultiLabelImageProcessor,
    MultiLabelImageProcessorPil,
    evaluation_view,
    processor_for,
)
from hf_mlrpl.registry import VIEWS, load

PROCESSORS = (MultiLabelImageProcessor, MultiLabelImageProcessorPil)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
SIZES = [(32, 32), (24, 40), (96, 64)]  # smaller, non-square, larger than the photo


class SizedConfig(PreTrainedConfig):
    model_type = "sized"
    image_size = 32


@pytest.fixture
def photo():
    noise = np.random.default_rng(0).integers(0, 256, (8, 10, 3), np.uint8)
    return Image.fromarray(noise).resize((60, 45), Image.BICUBIC)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_pixels_are_resized_and_normalised(processor_class, size, photo):
    height, width = size
    processor = processor_class(size={"height": height, "width": width})
    pixel_values = processor(photo, return_tensors="pt")["pixel_values"]
    resized = np.asarray(photo.resize((width, height), Image.BICUBIC)) / 255
    expected = torch.tensor(((resized - MEAN) / STD).transpose(2, 0, 1)[None], dtype=torch.float32)
    assert pixel_values.shape == (1, 3, height, width) and pixel_values.dtype == torch.float32
    levels = ((pixel_values - expected) * torch.tensor(STD).view(3, 1, 1) * 255).abs()
    assert levels.max() <= 2.01 and levels.mean() < 0.1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_every_mode_gives_three_channels(processor_class, mode, photo):
    processor = processor_class(size={"height": 16, "width": 16})
    assert processor(photo.convert(mode), return_tensors="pt")["pixel_values"].shape == (1, 3, 16, 16)


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_a_list_of_photos_of_different_sizes_is_one_batch(processor_class, photo):
    processor = processor_class(size={"height": 16, "width": 24})
    photos = [photo, photo.rotate(90, expand=True), photo.resize((1, 1)), photo]
    pixel_values = processor(photos, return_tensors="pt")["pixel_values"]
    assert pixel_values.shape == (4, 3, 16, 24)
    assert torch.equal(pixel_values[0], pixel_values[3]), "the order is kept"


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_settings_survive_a_round_trip(processor_class, tmp_path, photo):
    processor = processor_class(size={"height": 24, "width": 40}, image_mean=[0.5, 0.4, 0.3], image_std=[0.2] * 3)
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["size"] == {"height": 24, "width": 40} and saved["image_mean"] == [0.5, 0.4, 0.3]
    again = processor_class.from_pretrained(tmp_path)
    assert torch.equal(
        again(photo, return_tensors="pt").pixel_values, processor(photo, return_tensors="pt").pixel_values
    )


@pytest.mark.parametrize("resize, view", [("stretch", "plain"), ("crop", "center_crop")])
@pytest.mark.parametrize("image_size", [32, 33, [24, 40], [96, 64]])
@pytest.mark.parametrize("backend", ["torchvision", "pil"])
def test_evaluation_in_training_and_inference_see_the_same_pixels(backend, image_size, resize, view, photo, tmp_path):
    """The view that a recipe evaluates with, and both processors that a checkpoint can be loaded with."""
    config = SizedConfig(image_size=image_size, resize=resize, image_mean=MEAN.tolist(), image_std=STD.tolist())
    processor_for(config).save_pretrained(tmp_path)
    processor = dict(zip(("torchvision", "pil"), PROCESSORS, strict=True))[backend].from_pretrained(tmp_path)
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    for image in (photo, photo.rotate(90, expand=True), photo.resize((61, 40)), photo.resize((32, 45))):
        pixel_values = processor(image, return_tensors="pt")["pixel_values"][0]
        pixels = evaluation_view(config)(pixels_of(image))
        assert torch.equal(pixels, load(VIEWS[view].target)(size)(pixels_of(image)))
        expected = normalized(pixels, MEAN.tolist(), STD.tolist())
        assert pixel_values.shape == expected.shape == (3, *size)
        if backend == "torchvision":
            assert torch.equal(pixel_values, expected)
        levels = ((pixel_values - expected) * torch.tensor(STD).view(3, 1, 1) * 255).abs()
        assert levels.max() <= 2.01 and levels.mean() < 0.3, "a pixel further would be another picture"


@pytest.mark.parametrize("image_size, size", [(32, (32, 32)), ([24, 40], (24, 40)), ((24, 40), (24, 40))])
def test_processor_for_takes_the_size_of_the_model(image_size, size):
    processor = processor_for(SizedConfig(image_size=image_size))
    assert (processor.size["height"], processor.size["width"]) == size
    assert np.allclose(processor.image_mean, MEAN) and np.allclose(processor.image_std, STD)


def test_processor_for_takes_the_normalisation_of_the_model(photo):
    processor = processor_for(SizedConfig(image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0)))
    pixel_values = processor(photo, return_tensors="pt")["pixel_values"]
    assert 0 <= pixel_values.min() and pixel_values.max() <= 1


def test_auto_class_finds_both_twins(tmp_path):
    classes = dict(zip(("torchvision", "pil"), PROCESSORS, strict=True))
    AutoImageProcessor.register(SizedConfig, image_processor_classes=classes, exist_ok=True)
    config = SizedConfig()
    config.save_pretrained(tmp_path)
    processor_for(config).save_pretrained(tmp_path)
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is MultiLabelImageProcessor
    assert type(AutoImageProcessor.from_pretrained(tmp_path, backend="pil")) is MultiLabelImageProcessorPil


def test_a_photo_may_be_stretched_and_then_cut():
    """SSGRL (ICCV 2019): 640 px, and the centre of 576 px."""
    config = MultiLabelConfig(image_size=36, resize_to=40)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8))
    processor = processor_for(config)
    pixels = processor([photo], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 36, 36)
    whole = processor_for(MultiLabelConfig(image_size=40))
    whole.resample = processor.resample
    expected = whole([photo], return_tensors="pt")["pixel_values"][:, :, 2:-2, 2:-2]
    torch.testing.assert_close(pixels, expected)
    for wrong in ({"resize_to": 30}, {"resize_to": 40, "resize": "crop"}):
        with pytest.raises(StrictDataclassError, match="`resize_to` must be at least `image_size`"):
            MultiLabelConfig(image_size=36, **wrong)
