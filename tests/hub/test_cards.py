"""Cards: what they say, and that an author's own words stay."""

from dataclasses import replace

import pytest
from huggingface_hub import ModelCard
from tiny import tiny_model

from hf_mlrpl.hub.cards import BEGIN, END, keep_what_the_author_wrote, write_card
from hf_mlrpl.hub.facts import TrainingFacts

FACTS = TrainingFacts(
    method="ASL: asymmetric loss",
    summary="It forgets easy absent labels.",
    citation="@inproceedings{ridnik}",
    data="coco",
    dataset="someone/photos",
    hidden="each label stays known with probability `proportion` (protocol random_known, proportion 0.1)",
    base_model="timm/resnet101.tv_in1k",
    num_images=100,
    present=[40, 3, 30, 30, 30],
    absent=[10, 7, 0, 10, 40],
    measured="test",
    average_precision=[91.25, None, 80.0, 70.0, 60.0],
)
METRICS = {
    "test_map": 81.23456,
    "test_map_interpolated": 83.0,
    "test_cf1": 70.0,
    "test_cp": 60.0,
    "validation_map": 1.0,
}
RECIPE = {"method": "asl", "data": {"name": "coco", "protocol": "random_known", "proportion": 0.1}}


@pytest.fixture(scope="module")
def model():
    return tiny_model("asl")


def card(folder, model, **changes):
    given = {"recipe": RECIPE, "metrics": METRICS, "facts": FACTS} | changes
    write_card(folder, "user/my-tagger", model, **given)
    return ModelCard.load(folder / "README.md")


def test_metadata_are_those_of_the_hub(model, tmp_path):
    data = card(tmp_path, model, license="mit").data
    assert (data.license, data.library_name, data.pipeline_tag) == ("mit", "transformers", "image-classification")
    assert data.base_model == "timm/resnet101.tv_in1k" and data.datasets == ["someone/photos"]
    assert {"hf-mlrpl", "multi-label", "asl"} <= set(data.tags) and data.language is None
    assert data.widget[0].keys() == {"src", "example_title"}
    results = {(result.metric_type, result.metric_name): result for result in data.eval_results}
    assert results["mean_average_precision", "mAP"].metric_value == 81.23
    assert {kind for kind, _ in results} == {"mean_average_precision", "f1", "precision"}
    assert {result.dataset_split for result in data.eval_results} == {"test"}
    assert data.model_name == "my-tagger"


def test_the_text_says_how_to_use_it_and_what_it_comes_from(model, tmp_path):
    text = card(tmp_path, model).text
    for part in (
        "hf-mlrpl tag user/my-tagger photo.jpg",
        'pipeline("image-tagging", model="user/my-tagger")',
        "It forgets easy absent labels.",
        "100 training images with 5 labels each, of which 40.0 % are known: each label stays known",
        "| mAP | 81.2 |",
        "| 0 | 0.5 | 40 | 10 | 91.2 |",
        "| 1 | 0.5 | 3 | 7 | - |",
        "Fewer than 20 training images are known to show: 1.",
        "@inproceedings{ridnik}",
        "proportion: 0.1",
    ):
        assert part in text, part
    assert "digit_scenes" not in text


def test_half_labelled_data_are_not_called_complete(model, tmp_path):
    text = card(tmp_path, model, facts=replace(FACTS, hidden="")).text
    assert "40.0 % are known: all that the data came with." in text and "partial labels" in text


def test_thresholds_of_each_label_are_shown(tmp_path):
    model = tiny_model("asl")
    model.config.thresholds = [0.1, 0.25, 0.5, float("inf"), 0.75]
    text = card(tmp_path, model).text
    assert "| 1 | 0.25 |" in text and "| 3 | inf |" in text
    assert "from the score that its line below names on" in text


def test_a_model_alone_has_a_card_too(model, tmp_path):
    written = card(tmp_path, model, recipe=None, metrics=None, facts=None)
    assert written.data.eval_results is None and written.data.license == "unknown"
    assert "BaselineForMultiLabelClassification" in written.text and "## Results" not in written.text
    assert "not been measured" in written.text


def test_the_table_of_results_has_one_line_below_its_head(model, tmp_path):
    table = card(tmp_path, model).text.partition("| metric | value |\n")[2].splitlines()
    assert table[0] == "|---|---|" and table[1].startswith("| mAP | 81.2 |")


def test_what_the_author_wrote_survives_and_the_rest_is_new(model, tmp_path):
    first = card(tmp_path, model)
    first.data.license, first.data.language, first.data["thumbnail"] = "mit", "de", "cat.png"
    first.data.tags.append("pets")
    first.data.eval_results[0].dataset_name = first.data.eval_results[0].dataset_type = "my own test"
    above, rest = first.text.split(BEGIN)
    first.text = f"{above}# For pets\n\n{BEGIN}{rest}\nThanks to Ada.\n"
    second = card(tmp_path, model, metrics={"test_map": 99.0})
    for _ in range(2):  # as often as one pushes
        keep_what_the_author_wrote(tmp_path / "README.md", str(first))
        second = ModelCard.load(tmp_path / "README.md")
        assert (second.data.license, second.data.language, second.data["thumbnail"]) == ("mit", "de", "cat.png")
        assert "pets" in second.data.tags and second.data.tags.count("asl") == 1
        assert second.text.strip().startswith("# For pets") and second.text.strip().endswith("Thanks to Ada.")
        assert second.text.count(BEGIN) == second.text.count(END) == 1
        values = {(result.dataset_name, result.metric_value) for result in second.data.eval_results}
        assert values == {("coco", 99.0), ("my own test", 81.23)}
        assert "| mAP | 99.0 |" in second.text and "81.2" not in second.text


def test_a_card_without_a_generated_part_is_kept_above_it(model, tmp_path):
    card(tmp_path, model)
    keep_what_the_author_wrote(tmp_path / "README.md", "---\nlicense: mit\n---\n# Mine\n")
    both = ModelCard.load(tmp_path / "README.md")
    assert both.data.license == "mit" and both.text.strip().startswith("# Mine") and BEGIN in both.text


def test_a_license_that_is_given_wins(model, tmp_path):
    card(tmp_path, model, license="mit")
    keep_what_the_author_wrote(tmp_path / "README.md", "---\nlicense: apache-2.0\n---\n")
    assert ModelCard.load(tmp_path / "README.md").data.license == "mit"
