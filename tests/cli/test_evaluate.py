import contextlib
import csv
import io
import json
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image
from tiny import tiny_content, without_clock, write_recipe
from transformers import pipeline

import hf_mlrpl.auto  # noqa: F401
from hf_mlrpl.cli.main import main


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    with contextlib.redirect_stdout(io.StringIO()):
        recipe = write_recipe(folder, training={"num_train_epochs": 1, "save_strategy": "no"})
        assert main(["train", recipe, "--output", str(folder / "run")]) == 0
    return folder / "run"


def evaluate(capsys, *arguments: object) -> dict[str, float]:
    capsys.readouterr()
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    return without_clock(json.loads(capsys.readouterr().out))


def fail(capsys, *arguments: object) -> str:
    capsys.readouterr()
    assert main(["evaluate", *map(str, arguments)]) == 2
    _, found, message = capsys.readouterr().err.rpartition("error: ")
    assert found and "Traceback" not in message
    return message


def test_the_numbers_are_those_of_the_run(checkpoint, capsys):
    expected = json.loads((checkpoint / "metrics.json").read_text())
    actual = evaluate(capsys, checkpoint)
    assert "test_map" in actual and "test_loss" in actual
    assert actual == {name: pytest.approx(expected[name], rel=1e-6) for name in actual}


def test_chosen_thresholds_go_with_the_checkpoint(tmp_path, capsys):
    settings = {"num_train_epochs": 1, "save_strategy": "no", "choose_thresholds": True}
    recipe = write_recipe(tmp_path, "partial_bce", training=settings)
    output = tmp_path / "run"
    assert main(["train", recipe, "--output", str(output)]) == 0
    thresholds = json.loads((output / "config.json").read_text())["thresholds"]
    assert len(thresholds) == 10 and len(set(thresholds)) > 1
    trained = json.loads((output / "metrics.json").read_text())
    assert evaluate(capsys, output)["test_mean_f1_chosen"] == pytest.approx(trained["test_mean_f1_chosen"], rel=1e-6)
    validation = evaluate(capsys, output, "--split", "validation")
    assert validation["validation_mean_f1_chosen"] == pytest.approx(trained["validation_mean_f1_chosen"], rel=1e-6)
    tagger, photo = pipeline("image-tagging", model=str(output)), str(output / "examples" / "000.png")
    expected = [tag for tag in tagger(photo, threshold=0.0) if tag["score"] >= thresholds[int(tag["label"])]]
    assert tagger(photo) == expected


def test_the_size_of_a_batch_changes_nothing(checkpoint, capsys):
    small = evaluate(capsys, checkpoint, "training.per_device_eval_batch_size=5")
    assert small == pytest.approx(evaluate(capsys, checkpoint), rel=1e-6)


def test_other_parts_of_the_data(checkpoint, capsys):
    validation = evaluate(capsys, checkpoint, "--split", "validation")
    expected = json.loads((checkpoint / "metrics.json").read_text())["validation_map"]
    assert validation["validation_map"] == pytest.approx(expected, rel=1e-6)
    assert "train_map" in evaluate(capsys, checkpoint, "--split", "train")


def test_a_table_for_readers(checkpoint, capsys):
    assert main(["evaluate", str(checkpoint)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines][:2] == ["test_loss", "test_map"]
    assert not [line for line in lines if "epoch" in line or "preparation" in line]
    assert not [line for line in lines if len(line.split()) < 4], "each number is explained"


def test_a_report_of_each_label(checkpoint, tmp_path, capsys):
    assert main(["evaluate", str(checkpoint), "--report", "--output", str(tmp_path / "report")]) == 0
    printed = capsys.readouterr().out
    content = json.loads((tmp_path / "report" / "report.json").read_text())
    with open(tmp_path / "report" / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [row["label"] for row in content["labels"]] and len(rows) == 10
    averages = [row["average_precision"] for row in content["labels"]]
    assert averages == sorted(averages)
    assert content["metrics"]["test_map"] == pytest.approx(sum(averages) / 10)
    assert "worst labels" in printed and f"report of each label: {tmp_path / 'report'}" in printed
    assert {path.name for path in (checkpoint / "report_test").iterdir()} == {
        path.name for path in (tmp_path / "report").iterdir()
    }, "training has written the same"


def test_the_data_of_another_recipe(checkpoint, tmp_path, capsys):
    recipe = write_recipe(tmp_path, "partial_bce", data={"num_scenes": 30, "seed": 5})
    other = evaluate(capsys, checkpoint, "--recipe", recipe)
    assert other["test_map"] != evaluate(capsys, checkpoint)["test_map"]


def test_nothing_is_written_into_the_checkpoint(checkpoint, capsys):
    before = sorted(path.name for path in checkpoint.iterdir())
    evaluate(capsys, checkpoint)
    assert sorted(path.name for path in checkpoint.iterdir()) == before


def test_json_stays_json_where_an_image_cannot_be_read(checkpoint, tmp_path, capsys):
    for i in range(4):
        Image.new("RGB", (40, 40), (60 * i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "2.png").write_bytes(b"no image")
    rows = "".join(f"{i}.png,{i % 2};5,3;{1 - i % 2}\n" for i in range(4))
    (tmp_path / "test.csv").write_text("image,positive,negative\n" + rows)
    content = tiny_content()
    content["data"] = {"name": "table", "path": str(tmp_path), "labels": [str(i) for i in range(10)], "view": "shift"}
    (tmp_path / "photos.yaml").write_text(yaml.safe_dump(content))
    command = ["evaluate", checkpoint, "--recipe", tmp_path / "photos.yaml", "--json", "data.on_bad_image=skip"]
    assert main([str(part) for part in command]) == 0
    output = capsys.readouterr()
    assert "test_map" in json.loads(output.out)
    assert output.err.endswith("warning: 1 unreadable image(s) were skipped.\n")


# ---- mistakes ----


def test_a_checkpoint_with_other_labels_is_an_error(checkpoint, tmp_path, capsys):
    other = shutil.copytree(checkpoint, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["id2label"]["3"] = "three"
    config["label2id"] = {name: int(i) for i, name in config["id2label"].items()}
    (other / "config.json").write_text(json.dumps(config))
    message = fail(capsys, other)
    assert (
        "different labels: the checkpoint has 10 (three missing in the data), the data 10 (3 missing in the" in message
    )


def test_labels_in_another_order_are_an_error(checkpoint, tmp_path, capsys):
    other = shutil.copytree(checkpoint, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["id2label"] |= {"0": "1", "1": "0"}
    del config["label2id"]
    (other / "config.json").write_text(json.dumps(config))
    assert "in the same order" in fail(capsys, other)


def test_a_checkpoint_of_another_library_is_an_error(tmp_path, capsys):
    from transformers import ResNetConfig

    ResNetConfig().save_pretrained(tmp_path)
    assert "not of hf-mlrpl" in fail(capsys, tmp_path)


@pytest.mark.parametrize("damage", ["cut off", "missing"])
def test_damaged_weights_are_an_error(checkpoint, tmp_path, capsys, damage):
    other = shutil.copytree(checkpoint, tmp_path / "other")
    weights = other / "model.safetensors"
    if damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:1000])
    assert str(other) in fail(capsys, other)


def test_a_checkpoint_without_a_recipe_needs_one(checkpoint, tmp_path, capsys):
    other = shutil.copytree(checkpoint, tmp_path / "other")
    (other / "recipe.yaml").unlink()
    assert "has no recipe.yaml. Say with --recipe which data to evaluate on" in fail(capsys, other)


def test_a_folder_that_does_not_exist_is_an_error(tmp_path, capsys):
    assert "does not exist" in fail(capsys, tmp_path / "nothing")


def test_a_recipe_without_a_validation_part_is_an_error(checkpoint, tmp_path, capsys):
    content = tiny_content(data={"validation": 0.0})
    (tmp_path / "none.yaml").write_text(yaml.safe_dump(content))
    message = fail(capsys, checkpoint, "--recipe", tmp_path / "none.yaml", "--split", "validation")
    assert "set `data.validation`" in message


# ---- models with CLIP, and other labels ----


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> Path:
    """A checkpoint of SCPNet for the digits 0 to 9, and a table of photos with other labels."""
    folder = tmp_path_factory.mktemp("words")
    training = {"num_train_epochs": 1, "save_strategy": "no"}
    with contextlib.redirect_stdout(io.StringIO()):
        recipe = write_recipe(folder, "scpnet", training=training)
        assert main(["train", recipe, "--output", str(folder / "run"), "--no-pictures"]) == 0
    photos = folder / "photos"
    photos.mkdir()
    rows = ["image,3,cat,hot dog,7"]
    for number in range(8):
        Image.new("RGB", (32, 32), (30 * number, 0, 0)).save(photos / f"{number}.png")
        rows.append(f"{number}.png,{number % 2},{number // 2 % 2},{int(number > 3)},{int(number < 3)}")
    (photos / "photos.csv").write_text("\n".join(rows))
    return folder


def other_labels(words: Path) -> list[object]:
    table = words / "photos" / "photos.csv"
    unset = [f"data.{key}=" for key in ("num_scenes", "proportion", "validation")]
    return ["--split", "train", "data.name=table", f"data.path={table}", "data.protocol=none", *unset]


def test_a_model_with_words_is_measured_on_other_labels(words, capsys):
    arguments = [words / "run", *other_labels(words)]
    metrics = evaluate(capsys, *arguments)
    assert {"train_map", "train_seen_map", "train_unseen_map", "train_unseen_of1_top3"} <= set(metrics)
    assert metrics["train_map"] == pytest.approx((metrics["train_seen_map"] + metrics["train_unseen_map"]) / 2)
    assert main(["evaluate", *map(str, arguments)]) == 0
    note = capsys.readouterr().err
    assert "asked about the 4 labels of the data; 2 of them are among the 10" in note


def test_a_model_with_numbers_is_not(words, checkpoint, capsys):
    assert "have different labels" in fail(capsys, checkpoint, *other_labels(words))
