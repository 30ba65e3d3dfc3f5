import argparse
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_model
from transformers import ResNetConfig

from hf_mlrpl import (
    BaselineConfig,
    BaselineForMultiLabelClassification,
    SsgrlConfig,
    SsgrlForMultiLabelClassification,
)
from hf_mlrpl.cli import tag
from hf_mlrpl.data.images.photos import BadImageError
from hf_mlrpl.models.image_processing import processor_for

NAMES = ["person", "dog", "dining table"]
TINY = {
    "backbone": "test_resnet",
    "image_size": 48,
    "id2label": dict(enumerate(NAMES)),
    "label2id": {name: i for i, name in enumerate(NAMES)},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ssgrl")
    torch.manual_seed(0)
    sizes = {"representation_dim": 16, "attention_dim": 8, "output_dim": 16, "word_embedding_dim": 8}
    model = SsgrlForMultiLabelClassification(SsgrlConfig(feature_pool=1, thresholds=0.0, **sizes, **TINY))
    model.save_pretrained(folder)
    processor_for(model.config).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg", "more/a.png"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(folder / name)
    return folder


def run(*arguments):
    parser = argparse.ArgumentParser()
    tag.add_parser(parser.add_subparsers())
    args = parser.parse_args(["tag", *map(str, arguments)])
    args.run(args)


def test_the_table_has_a_line_per_label(checkpoint, photos, capsys):
    run(checkpoint, photos)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["photo", "label", "score"]
    assert len(lines) == 1 + 3 * 3
    assert [line.split()[0] for line in lines[1::3]] == [
        f"...{str(photos / name)[-37:]}" for name in ("a.png", "b.jpg", "more/a.png")
    ]
    starts = {line.index(name) for line in lines[1:] for name in NAMES if name in line[40:]}
    assert len(starts) == 1, "labels stand in one column"


def test_json_lines_can_be_read_back(checkpoint, photos, capsys):
    run(checkpoint, photos / "a.png", photos / "more", "--json", "--top-k", 2, "--batch-size", 1)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["file"] for row in rows] == [str(photos / "a.png"), str(photos / "more/a.png")]
    for row in rows:
        assert len(row["tags"]) == 2 and row["tags"][0]["score"] >= row["tags"][1]["score"]
        assert {found["label"] for found in row["tags"]} < set(NAMES)


def test_batches_do_not_mix_up_photos(checkpoint, photos, capsys):
    outputs = []
    for batch_size in (1, 2, 3):
        run(checkpoint, photos, "--json", "--batch-size", batch_size)
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        outputs.append({(row["file"], found["label"]): found["score"] for row in rows for found in row["tags"]})
    assert outputs[0] == pytest.approx(outputs[1], abs=1e-5) and outputs[0] == pytest.approx(outputs[2], abs=1e-5)


def test_a_photo_without_labels_is_listed(checkpoint, photos, capsys):
    run(checkpoint, photos / "a.png", "--threshold", 1)
    assert capsys.readouterr().out.splitlines()[1].endswith("no label reaches its threshold")


def test_pictures_of_photos_with_equal_names_are_kept_apart(checkpoint, photos, tmp_path, capsys):
    run(checkpoint, photos, "--pictures", tmp_path / "out" / "deep")
    pictures = sorted((tmp_path / "out" / "deep").iterdir())
    assert [picture.name for picture in pictures] == ["a_2_tags.png", "a_tags.png", "b_tags.png"]
    assert all(Image.open(picture).width > 600 for picture in pictures), "photo, labels and three maps"


def test_a_model_without_attention_draws_plain_pictures(photos, tmp_path, capsys):
    model = BaselineForMultiLabelClassification(BaselineConfig(**TINY))
    model.save_pretrained(tmp_path / "baseline")  # without a preprocessor_config.json
    run(tmp_path / "baseline", photos / "a.png", "--pictures", tmp_path / "out", "--threshold", 0)
    assert Image.open(tmp_path / "out" / "a_tags.png").width < 700
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_bad_images_stop_or_are_skipped(checkpoint, photos, capsys):
    (photos / "b.jpg").write_bytes(b"")
    with pytest.raises(BadImageError, match=r"b\.jpg: the file is empty"):
        run(checkpoint, photos)
    capsys.readouterr()
    run(checkpoint, photos, "--on-bad-image", "skip", "--json")
    output = capsys.readouterr()
    assert [json.loads(line)["file"][-9:] for line in output.out.splitlines()] == ["tos/a.png", "ore/a.png"]
    assert "b.jpg: the file is empty (0 bytes)\n" in output.err
    assert output.err.endswith("skipped 1 of 3 photos\n")


def test_nothing_but_bad_images_is_an_error(checkpoint, tmp_path):
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ValueError, match="None of the 1 photos can be read"):
        run(checkpoint, tmp_path / "empty.jpg", "--on-bad-image", "skip")


def test_missing_photos_and_empty_folders_are_named(checkpoint, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file or folder `.*gone\.jpg`"):
        run(checkpoint, tmp_path / "gone.jpg")
    with pytest.raises(FileNotFoundError, match="holds no image"):
        run(checkpoint, tmp_path)


def test_missing_checkpoints_are_named(photos, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"gone` does not exist"):
        run(tmp_path / "gone", photos)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="`photos/sst` does not exist"):  # not taken for a name on the Hub
        run("photos/sst", photos)
    (tmp_path / "run" / "checkpoint-9").mkdir(parents=True)
    (tmp_path / "run" / "checkpoint-9" / "config.json").touch()
    with pytest.raises(FileNotFoundError, match=r"no config\.json\. Did you mean .*run/checkpoint-9"):
        run(tmp_path / "run", photos)


def test_foreign_checkpoints_are_refused(photos, tmp_path):
    ResNetConfig().save_pretrained(tmp_path / "resnet")
    with pytest.raises(ValueError, match="a model of the type 'resnet', not of hf-mlrpl"):
        run(tmp_path / "resnet", photos)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    with pytest.raises(ValueError, match="broken` cannot be read"):
        run(tmp_path / "broken", photos)


def test_damaged_and_missing_weights_are_named(photos, tmp_path):
    BaselineConfig(**TINY).save_pretrained(tmp_path / "bare")
    with pytest.raises(OSError, match="bare"):
        run(tmp_path / "bare", photos)
    (tmp_path / "bare" / "model.safetensors").write_bytes(b"garbage" * 10)
    with pytest.raises(ValueError, match="weights of .*bare.* are damaged"):
        run(tmp_path / "bare", photos)


@pytest.mark.parametrize(
    "option, message",
    [
        (("--threshold", 50), "Fifty percent is 0.5"),
        (("--top-k", 0), "`top_k` must be"),
        (("--batch-size", 0), "`--batch-size` must be at least 1"),
        (("--device", "toaster"), "`--device` must be cpu"),
    ],
)
def test_wrong_options_are_explained(checkpoint, photos, option, message):
    with pytest.raises(ValueError, match=message):
        run(checkpoint, photos, *option)


def test_other_labels_need_a_model_that_reads_names(checkpoint, photos):
    with pytest.raises(ValueError, match="labels of a SsgrlForMultiLabelClassification cannot change"):
        run(checkpoint, photos, "--labels", "zebra, traffic light")


@pytest.mark.parametrize("names", ["", "zebra,,bus", "zebra, Zebra"])
def test_names_of_other_labels_are_checked(photos, tmp_path, names):
    tiny_model("scpnet").save_pretrained(tmp_path / "scpnet")
    with pytest.raises(ValueError, match="is empty, got ''|read alike: 'zebra' and 'Zebra'"):
        run(tmp_path / "scpnet", photos, "--labels", names)


def test_the_parser_imports_nothing_heavy():
    code = (
        "import argparse, sys; from hf_mlrpl.cli import tag;"
        "tag.add_parser(argparse.ArgumentParser().add_subparsers());"
        "print([name for name in ('torch', 'transformers', 'PIL', 'numpy') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
