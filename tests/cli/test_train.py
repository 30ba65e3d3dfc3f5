import errno
import json
import re
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors import SafetensorError, safe_open
from tiny import tiny_content, tiny_recipe, without_clock, write_recipe
from transformers import PreTrainedModel

from hf_mlrpl import SstForMultiLabelClassification
from hf_mlrpl.cli import train as train_command
from hf_mlrpl.cli import train_folder, train_results
from hf_mlrpl.cli.main import main, parse_arguments
from hf_mlrpl.cli.train import _check_data
from hf_mlrpl.data.columns import make_dataset
from hf_mlrpl.hub.facts import TrainingFacts
from hf_mlrpl.recipe.data_part import Splits
from hf_mlrpl.recipe.document import Recipe
from hf_mlrpl.trainer.trainer import MultiLabelTrainer


def fail(capsys, *arguments: str) -> str:
    """What a command that must fail says last."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    return re.split(r"^error: ", printed, flags=re.MULTILINE)[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run, its recipe, and what was printed."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("train")
    recipe, printed = write_recipe(folder), io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["train", recipe, "--output", str(folder / "run")]) == 0
    return folder / "run", recipe, printed.getvalue()


def test_a_run_leaves_everything_that_is_needed(run):
    output, recipe, _ = run
    names = {path.name for path in output.iterdir()}
    assert names >= {
        "README.md",
        "attention.png",
        "config.json",
        "examples",
        "metrics.json",
        "model.safetensors",
        "preprocessor_config.json",
        "recipe.yaml",
    }
    assert not [path for path in output.rglob("*.bin")]
    assert Recipe.load(output / "recipe.yaml").to_dict() == tiny_content()
    assert len(list((output / "examples").glob("*.png"))) == 6
    with Image.open(output / "attention.png") as picture:
        assert picture.width > 200


def test_the_checkpoint_gives_the_printed_metrics(run):
    output, _, printed = run
    model = SstForMultiLabelClassification.from_pretrained(output)
    assert model.config.label_names == [str(digit) for digit in range(10)]
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["train_seconds"] > 0 and 0 < metrics["validation_map"] <= 100
    assert metrics["pseudo_labels_intra"] > 0 and "pseudo_precision_intra" in metrics
    assert f"test_map{metrics['test_map']:>36.4g}"[-10:] in printed
    with safe_open(output / "model.safetensors", "pt") as weights:
        assert {*weights.keys()} == {*model.state_dict()}


def test_the_validation_metrics_are_those_of_the_weights_that_are_kept():
    history = [
        {"step": 3, "epoch": 1.0, "pseudo_labels_intra": 1.0},
        {"step": 3, "epoch": 1.0, "eval_map": 70.0},
        {"step": 6, "epoch": 2.0, "pseudo_labels_intra": 2.0},
        {"step": 6, "epoch": 2.0, "eval_map": 60.0},
    ]
    last, best = train_results.training_metrics(history), train_results.training_metrics(history, kept_step=3)
    assert last == {"pseudo_labels_intra": 2.0, "validation_map": 60.0}
    assert best == {"pseudo_labels_intra": 2.0, "validation_map": 70.0}


def test_it_ends_with_the_lines_that_use_the_result(run):
    output, _, printed = run
    assert f"  hf-mlrpl tag {output} {output / 'examples'}" in printed
    assert "  from hf_mlrpl import SstForMultiLabelClassification" in printed
    assert f'  model = SstForMultiLabelClassification.from_pretrained("{output}")' in printed
    namespace: dict = {}
    for line in printed.splitlines()[-2:]:
        exec(line.strip(), namespace)
    assert namespace["model"].config.num_labels == 10


def test_it_names_photos_only_where_there_are_some(tmp_path, capsys):
    train_results.say_goodbye(tmp_path, TrainingFacts(method="SST"), {}, "SstForMultiLabelClassification")
    assert f"  hf-mlrpl tag {tmp_path} PHOTOS\n" in capsys.readouterr().out


def test_what_was_learned_from_is_said():
    facts = TrainingFacts(method="SST", num_images=100, present=[10, 5], absent=[20, 25])
    metrics = {"pseudo_labels_intra": 0, "pseudo_labels_cross": 12.0, "pseudo_precision_cross": 75.0}
    lines = train_results.describe_learning(facts, metrics)
    assert lines[0].startswith("learned from 60 known labels of 100 images, 30 % of all; 15 of them say")
    assert lines[1] == "completed 12 more in the last epoch (cross), 75 % of them right"
    assert len(lines) == 3 and "loss may rise" in lines[2]
    assert train_results.describe_learning(facts, {"test_map": 50.0}) == lines[:1]
    assert train_results.describe_learning(facts, {"pseudo_labels": 3.0})[1] == "completed 3 more in the last epoch"


def test_it_begins_with_what_it_does(run):
    output, _, printed = run
    first, second = printed.splitlines()[:2]
    assert re.fullmatch(rf"sst on digit_scenes, 1 process on \w+(, float32.*)?, results in {output}", first)
    assert second.startswith("48 images, 10 labels, 5")


def test_the_printed_tag_command_works(run, capsys):
    output, _, _ = run
    assert main(["tag", str(output), str(output / "examples"), "--threshold", "0"]) == 0
    assert "000.png" in capsys.readouterr().out


def test_the_card_has_the_results_and_the_recipe(run):
    output, _, _ = run
    card = (output / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["library_name"] == "transformers" and header["pipeline_tag"] == "image-classification"
    assert {entry["type"] for entry in header["model-index"][0]["results"][0]["metrics"]} >= {"f1", "recall"}
    assert "import hf_mlrpl.auto" in card


# ---- the folder ----


def test_a_used_folder_is_refused(run, capsys):
    output, recipe, _ = run
    before = (output / "model.safetensors").read_bytes()
    message = fail(capsys, "train", recipe, "--output", str(output))
    assert f"The output folder {output} has the results of an earlier run. Add --resume" in message
    assert (output / "model.safetensors").read_bytes() == before


@pytest.mark.slow
def test_overwrite_starts_afresh(tmp_path):
    recipe, output = write_recipe(tmp_path), tmp_path / "run"
    command = ["train", recipe, "--output", str(output)]
    assert main([*command, "training.seed=1", "--no-pictures"]) == 0
    (output / "checkpoint-99").mkdir()
    before = (output / "model.safetensors").read_bytes()
    assert main([*command, "model.backbone=resnet51", "--overwrite"]) == 2
    assert (output / "checkpoint-99").is_dir() and (output / "model.safetensors").read_bytes() == before
    (output / "attention.png").write_bytes(b"of the earlier run")
    assert main([*command, "training.num_train_epochs=1", "--overwrite"]) == 0
    assert (output / "attention.png").read_bytes() != b"of the earlier run"
    assert [path.name for path in output.glob("checkpoint-*")] == ["checkpoint-3"]
    assert Recipe.load(output / "recipe.yaml").training.settings["num_train_epochs"] == 1


@pytest.mark.slow
def test_overwrite_removes_results_of_the_earlier_run_and_no_file_of_yours(tmp_path):
    recipe, output = write_recipe(tmp_path), tmp_path / "run"
    pictures = ("attention.png", "curves.png", "examples/003.png", "report_test/average_precision.png")
    yours = ("report_test/notes.txt", "examples/mine.png")
    for name in (*pictures, *yours, "report_validation/report.json"):
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text("of the earlier run")
    assert main(["train", recipe, "--output", str(output), "--no-pictures", "--overwrite"]) == 0
    assert not (output / "report_validation").exists() and all((output / name).exists() for name in yours)
    left = {file.relative_to(output).as_posix() for file in output.rglob("*.png")}
    assert left == {"examples/mine.png"}


def test_a_mistake_leaves_no_trace(tmp_path, capsys):
    recipe, output = write_recipe(tmp_path), tmp_path / "run"
    command = ["train", recipe, "--output", str(output)]
    fail(capsys, *command, "data.path=nowhere", "data.name=table", "data.num_scenes=")
    assert not output.exists()
    (output / "checkpoint-9").mkdir(parents=True)
    fail(capsys, *command, "--overwrite", "model.pretrained=nowhere.safetensors")
    assert [path.name for path in output.iterdir()] == ["checkpoint-9"]


def test_what_a_run_leaves_that_failed_before_it_saved_blocks_none(tmp_path, monkeypatch, capsys):
    recipe, output = write_recipe(tmp_path, "partial_bce", training={"max_steps": 1}), tmp_path / "run"
    command = ["train", recipe, "--output", str(output), "--no-pictures"]

    def fail_at_once(trainer, *arguments, **settings):
        raise RuntimeError("the GPU is gone")

    with monkeypatch.context() as patched:
        patched.setattr(MultiLabelTrainer, "training_step", fail_at_once)
        assert "the GPU is gone" in fail(capsys, *command)
    assert (output / "recipe.yaml").is_file()
    assert main(command) == 0
    (output / "notes.txt").touch()
    assert "has the results of an earlier run" in fail(capsys, *command)


def test_the_recipe_of_a_run_is_that_of_the_last_that_went_on(tmp_path, capsys):
    training = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    recipe, output = write_recipe(tmp_path, "partial_bce", training=training), tmp_path / "run"
    command = ["train", recipe, "--output", str(output), "--no-pictures"]
    assert main(command) == 0
    before = (output / "recipe.yaml").read_text()
    for checkpoint in output.glob("checkpoint-*"):
        (checkpoint / "optimizer.pt").write_bytes(b"damaged")
    assert "can be resumed from" in fail(capsys, *command, "--resume", "training.logging_steps=2")
    assert (output / "recipe.yaml").read_text() == before


def test_an_output_that_cannot_be_written_is_refused(tmp_path, capsys):
    recipe, file = write_recipe(tmp_path), tmp_path / "file"
    file.touch()
    for output in (file, file / "run"):
        message = fail(capsys, "train", recipe, "--output", str(output))
        assert f"The results cannot go to {output}: {file} is a file. Name another folder" in message


def test_a_finished_run_can_be_resumed(run, tmp_path):
    import shutil

    output, recipe, _ = run
    again = shutil.copytree(output, tmp_path / "run")
    assert main(["train", recipe, "--output", str(again), "--resume", "--no-pictures"]) == 0
    first = without_clock(json.loads((output / "metrics.json").read_text()))
    assert without_clock(json.loads((again / "metrics.json").read_text())) == first
    assert (again / "model.safetensors").read_bytes() == (output / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["data.proportion=0.2"], "data.proportion is 0.2 and was 0.5"),
        (["objective.bank_size=9"], "objective.bank_size is 9 and was 4"),
        (["method=ssgrl", "objective={}"], "method is 'ssgrl' and was 'sst'"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(run, capsys, overrides, message):
    output, _, _ = run
    recipe = output.parent / "other.yaml"
    recipe.write_text(yaml.safe_dump(tiny_content()))
    if overrides[0].startswith("method"):
        recipe.write_text(yaml.safe_dump(tiny_content("ssgrl")))
        overrides = []
    error = fail(capsys, "train", str(recipe), *overrides, "--output", str(output), "--resume")
    assert "cannot be resumed with other settings" in error and message in error


def test_a_run_without_its_recipe_is_not_resumed(run, tmp_path, capsys):
    import shutil

    output, recipe, _ = run
    again = shutil.copytree(output, tmp_path / "run")
    (again / "checkpoint-1").mkdir(exist_ok=True)
    (again / "recipe.yaml").unlink()
    error = fail(capsys, "train", recipe, "--output", str(again), "--resume")
    assert f"{again / 'recipe.yaml'} is missing" in error and "--overwrite" in error


@pytest.mark.slow
def test_a_longer_training_is_resumed(tmp_path):
    recipe, output = write_recipe(tmp_path, training={"num_train_epochs": 1}), tmp_path / "run"
    command = ["train", recipe, "--output", str(output), "--no-pictures"]
    assert main(command) == 0
    assert main([*command, "training.num_train_epochs=2", "--resume"]) == 0
    assert (output / "checkpoint-6").is_dir()


@pytest.mark.parametrize("method", ["gr", "em_apl"])
def test_a_longer_training_is_another_one_where_the_objective_depends_on_its_end(method, tmp_path):
    saved = Path(write_recipe(tmp_path, method))
    longer = tiny_recipe(method, training={"num_train_epochs": 3})
    with pytest.raises(ValueError, match="cannot be resumed with other settings: .*num_train_epochs"):
        train_folder.check_same_recipe(longer, saved)
    assert len(train_folder.check_same_recipe(tiny_recipe(method, training={"logging_steps": 2}), saved)) == 1


@pytest.mark.slow
def test_resume_without_anything_to_resume_starts(tmp_path):
    command = ["train", write_recipe(tmp_path), "--output", str(tmp_path / "run"), "--no-pictures"]
    assert main([*command, "--resume"]) == 0


def test_the_output_folder_is_named_after_the_recipe():
    assert str(train_command.recipe_output(Recipe.load(), None)) == "runs/sst-digit_scenes_30"
    recipe = Recipe.load("ssgrl/digit_scenes_10", ["training.output_dir=elsewhere"])
    assert str(train_command.recipe_output(recipe, None)) == "elsewhere"
    assert str(train_command.recipe_output(recipe, "here")) == "here"


# ---- arguments ----


def arguments(*words: str):
    return parse_arguments(["train", *words])


def test_without_arguments_the_built_in_recipe_runs():
    assert train_command.load_recipe(arguments()).to_dict() == Recipe.load("sst/digit_scenes_30").to_dict()
    recipe = train_command.load_recipe(arguments("data.proportion=0.5", "training.seed=1"))
    assert recipe.data.settings["proportion"] == 0.5 and recipe.training.settings["seed"] == 1


def test_settings_may_stand_behind_options():
    parsed = arguments("--output", "here", "my.yaml", "training.seed=1", "--resume", "data.seed=2")
    assert (parsed.recipe, parsed.overrides) == ("my.yaml", ["training.seed=1", "data.seed=2"])
    assert (parsed.output, parsed.resume) == ("here", True)


def test_the_resolved_recipe_is_printed(capsys):
    assert main(["train", "ssgrl/digit_scenes_10", "training.seed=5", "--print-config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed == Recipe.load("ssgrl/digit_scenes_10", ["training.seed=5"]).to_dict()


@pytest.mark.parametrize(
    "words, message",
    [
        (["nothing.yaml"], "There is no recipe 'nothing.yaml'"),
        (["training.sede=1"], "Recipe section `training` has no key `sede`. Did you mean `seed`?"),
        (["sst/digit_scenes_10", "data.name=digits"], "Unknown data set 'digits'"),
        (["model.backbone=resnet51", "model.pretrained=false"], "Did you mean"),
        (["training.save_strategy=sometimes"], "sometimes"),
        (["training.load_best_model_at_end=true", "training.save_strategy=no"], "load_best_model_at_end"),
        (["sst/coco2014_10"], "The data set 'coco' needs `data.path`"),
        (["sst/coco2014_10", "data.path=/nowhere"], "/nowhere"),
        (["model.pretrained=nowhere.safetensors"], "There is no file nowhere.safetensors"),
        (["training.dataloader_persistent_workers=true"], "`dataloader_persistent_workers` must stay False"),
    ],
)
def test_mistakes_end_with_one_line(words, message, tmp_path, capsys):
    small = [] if "coco" in words[0] else ["data.num_scenes=16"]
    assert message in fail(capsys, "train", *words, *small, "--output", str(tmp_path / "run"))


def test_a_traceback_on_request(monkeypatch):
    with pytest.raises(FileNotFoundError):
        main(["train", "nothing.yaml", "--traceback"])
    monkeypatch.setenv("HF_MLRPL_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError):
        main(["train", "nothing.yaml"])


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), TypeError("x"), ZeroDivisionError(), OverflowError(), AssertionError("x\ny"), MemoryError()]
    + [EOFError(), AttributeError("x"), RecursionError("deep"), SafetensorError("x"), BadZipFile("x")],
    ids=lambda error: type(error).__name__,
)
def test_the_last_resort_is_one_line(error, monkeypatch, capsys):
    def fail_so(*args, **kwargs):
        raise error

    monkeypatch.setattr(Recipe, "load", fail_so)
    assert main(["train"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: an unexpected {type(error).__name__}") and "--traceback" in line


@pytest.mark.parametrize("kind", [errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC])
@pytest.mark.parametrize("variable", ["HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HOME"])
def test_a_cache_that_cannot_be_written_names_its_variable(kind, variable, tmp_path, monkeypatch, capsys):
    for name in ("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    inside = tmp_path / ".cache/huggingface" if variable == "HOME" else tmp_path

    def fail_at_once(*arguments):
        raise OSError(kind, "no", str(inside / "datasets" / "x.lock"))

    monkeypatch.setattr(train_command, "load_recipe", fail_at_once)
    named = "HF_HOME" if variable == "HOME" else variable
    assert f"set the variable {named} to a folder that can be written to" in fail(capsys, "train")
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    assert "variable" not in fail(capsys, "train")


def test_an_interruption_from_the_keyboard(monkeypatch, tmp_path, capsys):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(MultiLabelTrainer, "training_step", interrupt)
    assert main(["train", write_recipe(tmp_path), "--output", str(tmp_path / "run")]) == 130
    assert "interrupted" in capsys.readouterr().err


# ---- data ----


def test_labels_that_are_all_unknown_are_an_error(tmp_path, capsys):
    table = tmp_path / "labels.csv"
    table.write_text("file_name,cat,dog\n" + "".join(f"{i}.png,,\n" for i in range(4)))
    for i in range(4):
        Image.new("RGB", (32, 32)).save(tmp_path / f"{i}.png")
    data = {"name": "table", "path": str(table), "view": "plain"}
    recipe = tmp_path / "table.yaml"
    recipe.write_text(yaml.safe_dump({"method": "partial_bce", "data": data, "model": tiny_content()["model"]}))
    content = tiny_content("partial_bce")
    content["data"] = data
    recipe.write_text(yaml.safe_dump(content))
    assert "labels" in fail(capsys, "train", str(recipe), "--output", str(tmp_path / "run"))


def test_a_label_that_is_never_present_is_a_warning(tmp_path, capsys):
    """And photos without test images are measured on the validation part."""
    lines = [f"{i}.png,{i % 2},{1 - i % 2},0\n" for i in range(12)]
    (tmp_path / "labels.csv").write_text("file_name,cat,dog,unicorn\n" + "".join(lines))
    for i in range(12):
        Image.new("RGB", (40, 30), (20 * i, 0, 255 * (i % 2))).save(tmp_path / f"{i}.png")
    content = tiny_content("ssgrl", training={"per_device_train_batch_size": 3})
    content["data"] = {"name": "table", "path": str(tmp_path / "labels.csv"), "validation": 0.25, "view": "plain"}
    recipe = tmp_path / "photos.yaml"
    recipe.write_text(yaml.safe_dump(content))
    assert main(["train", str(recipe), "--output", str(tmp_path / "run"), "--no-pictures"]) == 0
    assert "warning: 1 label(s) are never present: unicorn." in capsys.readouterr().out
    assert "validation_map" in json.loads((tmp_path / "run" / "metrics.json").read_text())


def test_unreadable_images_are_an_error_or_skipped(tmp_path, capsys):
    lines = [f"{i}.png,{i % 2},{1 - i % 2}\n" for i in range(8)]
    (tmp_path / "labels.csv").write_text("file_name,cat,dog\n" + "".join(lines))
    for i in range(8):
        Image.new("RGB", (40, 30), (20 * i, 0, 255 * (i % 2))).save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_bytes(b"no image")
    content = tiny_content("ssgrl", training={"per_device_train_batch_size": 4, "num_train_epochs": 1})
    content["data"] = {"name": "table", "path": str(tmp_path / "labels.csv"), "view": "plain"}
    recipe = tmp_path / "photos.yaml"
    recipe.write_text(yaml.safe_dump(content))
    message = fail(capsys, "train", str(recipe), "--output", str(tmp_path / "run"))
    assert "3.png" in message and "data.on_bad_image=skip" in message
    command = ["train", str(recipe), "data.on_bad_image=skip", "--output", str(tmp_path / "skipped")]
    assert main(command) == 0
    assert "warning: 1 unreadable training image(s) were skipped." in capsys.readouterr().out


def test_a_full_disk_is_a_clear_error(tmp_path, monkeypatch, capsys):
    def fail_to_save(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail_to_save)
    message = fail(capsys, "train", write_recipe(tmp_path), "--output", str(tmp_path / "run"))
    assert "checkpoint-3 could not be written: [Errno 28] No space left on device. Make room on that disk" in message


def test_a_disk_that_is_full_at_the_end_is_a_clear_error(tmp_path, monkeypatch, capsys):
    def fail_to_save(*args, **kwargs):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", fail_to_save)
    recipe = write_recipe(tmp_path, training={"save_strategy": "no", "max_steps": 1})
    message = fail(capsys, "train", recipe, "--output", str(tmp_path / "run"))
    assert f"{tmp_path / 'run'} could not be written: SafetensorError: I/O error: No space left on device" in message
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[1, 0], [0, 1]], "present in some and absent in others"),
        ([[1, -1], [1, -1]], "present in some and absent in others"),
        ([[1, -1], [1, 0]], "present in some and absent in others"),
        ([[-1, 0], [-1, -1]], "is known to be present"),
        ([[0, 0], [0, 0]], "is known to be present"),
    ],
)
@pytest.mark.parametrize("part", ["validation", "test"])
def test_images_that_cannot_be_measured_are_found_before_the_training(part, labels, message):
    def images(labels):
        matrix = np.array(labels, dtype=np.int8)
        return make_dataset([Image.new("RGB", (1, 1))] * 2, ["a", "b"], matrix, ["boat", "car"])

    fine = images([[1, 0], [-1, 1]])
    _check_data(Splits(fine, **{part: fine}), lambda text: None)
    with pytest.raises(ValueError, match=f"No label of the {part} images .*{message}"):
        _check_data(Splits(fine, **{part: images(labels)}), lambda text: None)
