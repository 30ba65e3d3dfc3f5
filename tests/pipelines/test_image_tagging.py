import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_model
from transformers import (
    AutoModelForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    pipeline,
)

import hf_mlrpl.auto  # noqa: F401  registers the models and the pipeline
from hf_mlrpl import (
    BaselineConfig,
    BaselineForMultiLabelClassification,
    SsgrlConfig,
    SsgrlForMultiLabelClassification,
)
from hf_mlrpl.data.columns import make_dataset
from hf_mlrpl.data.images.photos import BadImageError
from hf_mlrpl.models.attention_placement import AttentionPlacement
from hf_mlrpl.models.image_processing import processor_for
from hf_mlrpl.pipelines.image_tagging import ImageTaggingPipeline, label_thresholds

NAMES = ["person", "dog", "dining table", "cat"]
TINY = {
    "backbone": "test_resnet",
    "image_size": (64, 96),
    "id2label": dict(enumerate(NAMES)),
    "label2id": {name: i for i, name in enumerate(NAMES)},
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = SsgrlConfig(
        representation_dim=16, attention_dim=8, output_dim=16, word_embedding_dim=8, feature_pool=1, **TINY
    )
    return SsgrlForMultiLabelClassification(config).eval()


@pytest.fixture(scope="module")
def tagger(model):
    return pipeline("image-tagging", model=model, image_processor=processor_for(model.config), device="cpu")


@pytest.fixture(scope="module")
def photos():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (20 + i, 30, 3), np.uint8)) for i in range(5)]


@pytest.fixture
def folder(tmp_path, photos):
    (tmp_path / "more").mkdir()
    for i, photo in enumerate(photos):
        photo.save(tmp_path / ("more" if i > 2 else ".") / f"{i}.png")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def scores(tags):
    return {tag["label"]: tag["score"] for tag in tags}


def expected_scores(model, photo):
    pixel_values = processor_for(model.config)(photo, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        return dict(zip(NAMES, model(pixel_values).logits[0].sigmoid().tolist(), strict=True))


def test_one_image_gives_one_sorted_list(tagger, model, photos):
    tags = tagger(photos[0], threshold=0.0)
    assert scores(tags) == pytest.approx(expected_scores(model, photos[0]), abs=1e-6)
    assert [tag["score"] for tag in tags] == sorted((tag["score"] for tag in tags), reverse=True)
    assert all(set(tag) == {"label", "score"} for tag in tags)


def test_every_kind_of_input_gives_the_same_tags(tagger, photos, folder):
    expected = [scores(tagger(photo, threshold=0.0)) for photo in photos]
    paths = [str(folder / ("more" if i > 2 else "") / f"{i}.png") for i in range(5)]
    labels = np.ones((5, 4), np.int8)
    inputs = {
        "paths": paths,
        "PIL images": photos,
        "a tuple": tuple(photos),
        "bytes": [open(path, "rb").read() for path in paths],
        "a generator": (photo for photo in photos),
        "a folder": str(folder),
        "a folder as Path": folder,
        "a data set": make_dataset(paths, list("abcde"), labels, NAMES),
        "rows": [{"image": photo, "labels": [1]} for photo in photos],
    }
    for what, value in inputs.items():
        for batch_size in (1, 2):
            if what == "a generator":
                value = (photo for photo in photos)
            actual = [scores(tags) for tags in tagger(value, threshold=0.0, batch_size=batch_size)]
            assert len(actual) == 5, what
            for a, b in zip(actual, expected, strict=True):
                assert a == pytest.approx(b, abs=1e-5), f"{what}, batch size {batch_size}"


def test_no_images_give_no_tags(tagger):
    assert tagger([]) == []
    assert list(tagger(image for image in [])) == []


def test_threshold_may_be_a_number_a_list_or_a_dict(tagger, photos):
    found = scores(tagger(photos[0], threshold=0.0))
    limit = sorted(found.values())[1]
    above = {name for name, score in found.items() if score > limit}
    assert set(scores(tagger(photos[0], threshold=limit + 1e-6))) == above
    assert set(scores(tagger(photos[0], threshold=[0.0, 1.0, 0.0, 1.0]))) == {"person", "dining table"}
    only_dog = dict.fromkeys(NAMES, 1.0) | {"dog": 0.0}
    assert set(scores(tagger(photos[0], threshold=only_dog))) == {"dog"}


def test_thresholds_come_from_the_config(model, photos, monkeypatch):
    monkeypatch.setattr(model.config, "thresholds", [0.0, float("inf"), 0.0, float("inf")])
    tagger = ImageTaggingPipeline(model=model, device="cpu")
    assert set(scores(tagger(photos[0]))) == {"person", "dining table"}
    assert set(scores(tagger(photos[0], threshold={"dog": 0.0}))) == {"person", "dog", "dining table"}


def test_parameters_can_be_set_once(model, photos):
    tagger = ImageTaggingPipeline(model=model, threshold=0.0, top_k=3, device="cpu")
    assert len(tagger(photos[0])) == 3
    assert len(tagger(photos[0], top_k=1)) == 1
    assert len(tagger(photos[0])) == 3, "a call does not change the pipeline"


def test_top_k_keeps_the_best(tagger, photos):
    assert tagger(photos[0], threshold=0.0, top_k=2) == tagger(photos[0], threshold=0.0)[:2]
    assert len(tagger(photos[0], threshold=0.0, top_k=99)) == 4


def test_attention_maps_come_with_the_labels_over_each_photo(tagger, model, photos):
    pixel_values = processor_for(model.config)(photos[0], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        maps = model(pixel_values, output_attention_maps=True).attention_maps[0]
    placed = AttentionPlacement.of(model).place(maps, (photos[0].height, photos[0].width))
    results = tagger(photos[:3], threshold=0.0, attention_maps=True, batch_size=2)
    assert [len(tags) for tags in results] == [4, 4, 4]
    for tag in results[0]:
        expected = placed[NAMES.index(tag["label"])]
        assert tag["attention_map"].shape == expected.shape
        assert np.allclose(tag["attention_map"], expected, atol=1e-6)


def test_a_model_without_attention_says_so(photos):
    tagger = ImageTaggingPipeline(model=BaselineForMultiLabelClassification(BaselineConfig(**TINY)).eval())
    assert not tagger.has_attention_maps
    with pytest.raises(ValueError, match="BaselineForMultiLabelClassification: it has no attention"):
        tagger(photos[0], attention_maps=True)
    assert len(tagger(photos[0], threshold=0.0)) == 4


def test_a_model_with_attention_is_recognised(tagger):
    assert tagger.has_attention_maps


def test_bad_images_are_named(tagger, folder):
    (folder / "more" / "cut.png").write_bytes((folder / "0.png").read_bytes()[:100])
    with pytest.raises(BadImageError, match=r"cut\.png"):
        tagger(folder)
    with pytest.raises(BadImageError, match=r"gone\.png: the file does not exist"):
        tagger(str(folder / "gone.png"))


def test_a_bad_row_of_a_data_set_is_named(tagger, folder):
    images = [str(folder / "0.png"), str(folder / "notes.txt")]
    dataset = make_dataset(images, ["good", "bad"], np.ones((2, 4), np.int8), NAMES)
    with pytest.raises(BadImageError, match=r"notes\.txt \(row 1, bad\)"):
        list(tagger(dataset))


def test_a_data_set_without_images_is_refused(tagger, folder):
    dataset = make_dataset([str(folder / "0.png")], ["a"], np.ones((1, 4), np.int8), NAMES)
    with pytest.raises(ValueError, match="needs a column `image`, found image_id"):
        tagger(dataset.remove_columns("image"))


def test_an_empty_folder_is_refused(tagger, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no image"):
        tagger(tmp_path)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"threshold": 50}, r"must lie in \[0, 1\], got 50 for 'person'. Fifty percent is 0.5"),
        ({"threshold": float("nan")}, "must lie in"),
        ({"threshold": [0.5, 0.5]}, "one number for each of 4 labels, got 2"),
        ({"threshold": {"dogs": 0.5}}, "names 'dogs', which the model does not know. Did you mean 'dog'"),
        ({"threshold": {"zebra": 0.5}}, "Available: person, dog"),
        ({"top_k": 0}, "`top_k` must be a whole number of at least 1, got 0"),
    ],
)
def test_wrong_parameters_are_explained(tagger, photos, parameters, message):
    with pytest.raises(ValueError, match=message):
        tagger(photos[0], **parameters)


def test_label_thresholds_are_in_the_order_of_the_logits(model):
    assert label_thresholds({"cat": 0.9}, model.config).tolist() == pytest.approx([0.5, 0.5, 0.5, 0.9])


@pytest.mark.parametrize("with_processor", [True, False])
def test_a_saved_checkpoint_tags_alike(model, tagger, photos, tmp_path, with_processor):
    model.save_pretrained(tmp_path)
    if with_processor:
        processor_for(model.config).save_pretrained(tmp_path)
        again = pipeline("image-tagging", model=str(tmp_path), device="cpu")
    else:
        again = ImageTaggingPipeline(model=AutoModelForImageClassification.from_pretrained(tmp_path))
    assert scores(again(photos[1], threshold=0.0)) == pytest.approx(scores(tagger(photos[1], threshold=0.0)), abs=1e-6)


def test_the_stock_pipeline_gives_the_same_scores(model, tagger, photos, tmp_path):
    model.save_pretrained(tmp_path)
    processor_for(model.config).save_pretrained(tmp_path)
    stock = pipeline("image-classification", model=str(tmp_path), device="cpu")
    assert scores(stock(photos[0], top_k=4)) == pytest.approx(scores(tagger(photos[0], threshold=0.0)), abs=1e-5)


def test_bfloat16_works(model, photos):
    half = SsgrlForMultiLabelClassification(model.config).eval()
    half.load_state_dict(model.state_dict())
    tagger = ImageTaggingPipeline(model=half.to(torch.bfloat16))
    tags = tagger(photos[0], threshold=0.0, attention_maps=True)
    assert scores(tags) == pytest.approx(expected_scores(model, photos[0]), abs=0.05)
    assert tags[0]["attention_map"].dtype == np.float32


# ---- other labels ----


def test_a_pipeline_may_ask_about_other_labels(photos, tmp_path):
    model = tiny_model("scpnet").eval()
    tagger = pipeline(
        "image-tagging", model=model, image_processor=processor_for(model.config), labels=["bus", "zebra"]
    )
    assert set(scores(tagger(photos[0], threshold={"bus": 0.0, "zebra": 0.0}))) == {"bus", "zebra"}


def test_labels_that_are_numbers_cannot_change(model):
    with pytest.raises(ValueError, match="labels of a SsgrlForMultiLabelClassification cannot change"):
        ImageTaggingPipeline(model=model, labels=["bus"])
    foreign = ResNetForImageClassification(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1]))
    with pytest.raises(ValueError, match="`labels` must be None for a ResNetForImageClassification"):
        ImageTaggingPipeline(model=foreign, labels=["bus"])


def test_models_of_ours_are_fit_before_they_are_registered(model, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr("transformers.pipelines.base.logger.error", said.append)
    ImageTaggingPipeline(model=model).check_model_type([])
    assert not said
    foreign = ResNetForImageClassification(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1]))
    ImageTaggingPipeline(model=foreign, image_processor=processor_for(model.config)).check_model_type([])
    assert len(said) == 1
