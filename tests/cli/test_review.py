import contextlib
import csv
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from tiny import tiny_content

from hf_mlrpl.cli.main import main

NAMES = ["cat", "dog"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """60 photos with a table, and a run on them that has held out 20 and completes labels."""
    folder = tmp_path_factory.mktemp("review")
    random = np.random.RandomState(0)
    rows = ["image,cat,dog"]
    for i in range(60):
        Image.fromarray(random.randint(0, 255, (32, 32, 3), np.uint8)).save(folder / f"{i:02d}.png")
        rows.append(f"{i:02d}.png," + ",".join(random.choice(["1", "0", ""], size=2)))
    (folder / "photos.csv").write_text("\n".join(rows) + "\n")
    content = tiny_content("role", training={"num_train_epochs": 1, "save_strategy": "no"})
    content["data"] = {"name": "table", "path": str(folder / "photos.csv"), "validation": 20 / 60, "view": "shift"}
    (folder / "photos.yaml").write_text(yaml.safe_dump(content))
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["train", str(folder / "photos.yaml"), "--output", str(folder / "run"), "--no-pictures"]) == 0
    return folder


def review(folder: Path, *arguments: str) -> int:
    return main(["review", str(folder / "run"), *arguments])


def read(file: Path) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text))


def answer(file: Path, answers: dict[int, str]) -> None:
    rows = read(file)
    for row, value in answers.items():
        rows[row]["answer"] = value
    with open(file, "w", newline="", encoding="utf-8") as text:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_from_a_table_to_questions_to_a_new_table(folder, tmp_path, capsys):
    out = tmp_path / "review.csv"
    settings = ["--ask", "8", "--sample", "5", "--per-photo", "1", "--export", "fiftyone"]
    assert review(folder, str(folder / "photos.csv"), "--out", str(out), *settings) == 0
    assert "among the known labels of 20 photos" in capsys.readouterr().out, "those that were held out"
    rows = read(out)
    asked = [row for row in rows if "ask" in row["why"]]
    assert len(asked) == 8 == len({row["image"] for row in asked})
    assert {row["known"] for row in asked} == {"unknown"}
    assert all(row["known"] != "unknown" for row in rows if row["why"] == "suspect")
    completed = pq.read_table(tmp_path / "review.completed.parquet").to_pylist()
    unknown = Counter(cell for row in read(folder / "photos.csv") for cell in (row["cat"], row["dog"]))[""]
    assert len(completed) == unknown
    decided = Counter(row["completed"] for row in completed)
    assert decided["present"] + decided["absent"] and decided[None], "nothing is completed in photos held out"
    with Image.open(tmp_path / "review.png") as picture:
        assert picture.width > 300
    samples = json.loads((tmp_path / "review.fiftyone.json").read_text())["samples"]
    assert {sample["filepath"] for sample in samples} == {row["image"] for row in rows}

    first = next(i for i, row in enumerate(rows) if "ask" in row["why"])
    answer(out, {first: "yes", first + 1: "absent"})
    assert main(["review", "apply", str(out), "--write", str(tmp_path / "new.parquet")]) == 0
    printed = capsys.readouterr().out
    assert "2 answers" in printed and "1 unknown to present" in printed and "1 unknown to absent" in printed
    table = {row["image_id"]: row for row in pq.read_table(tmp_path / "new.parquet").to_pylist()}
    assert table[rows[first]["image_id"]][rows[first]["label"]] == 1
    assert table[rows[first + 1]["image_id"]][rows[first + 1]["label"]] == 0
    assert sum(row[name] is None for row in table.values() for name in NAMES) == unknown - 2
    assert main(["review", "apply", str(out), "--write", str(tmp_path / "new.parquet")]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["data", str(tmp_path / "new.parquet"), "--examples", "0"]) == 0


def test_folds_score_all_photos_of_the_run_by_others(folder, tmp_path, capsys):
    out = tmp_path / "review.csv"
    assert review(folder, "--folds", "2", "--out", str(out)) == 0
    printed = capsys.readouterr().out
    assert "among the known labels of 60 photos" in printed
    assert {row["part"] for row in read(out)} == {"train", "validation"}
    assert len(list((tmp_path / "review.folds").iterdir())) == 2
    stored = {file: file.stat().st_mtime_ns for file in (tmp_path / "review.folds").iterdir()}
    assert review(folder, "--folds", "2", "--out", str(out)) == 0
    assert stored == {file: file.stat().st_mtime_ns for file in (tmp_path / "review.folds").iterdir()}


def test_photos_of_which_only_present_labels_are_known(folder, tmp_path, capsys):
    (tmp_path / "positives.csv").write_text(f"image,cat,dog\n{folder}/00.png,1,\n{folder}/01.png,,1\n")
    assert review(folder, str(tmp_path / "positives.csv"), "--unseen", "--out", str(tmp_path / "review.csv")) == 0
    assert "no suspects among labels with too few known present or absent photos: cat, dog" in capsys.readouterr().out
    (tmp_path / "swapped.csv").write_text(f"image,dog,cat\n{folder}/00.png,1,\n{folder}/01.png,0,1\n")
    command = [str(tmp_path / "swapped.csv"), "--unseen", "--out", str(tmp_path / "review.csv")]
    assert review(folder, *command) == 2
    assert """data.labels='["cat", "dog"]'""" in capsys.readouterr().err
    assert review(folder, *command, 'labels=["cat", "dog"]') == 0


def test_photos_that_a_model_was_trained_on_have_no_suspects(folder, tmp_path, capsys):
    other = tmp_path / "run"
    other.mkdir()
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (other / name).write_bytes((folder / "run" / name).read_bytes())
    command = ["review", str(other), str(folder / "photos.csv"), "--out", str(tmp_path / "review.csv")]
    assert main(command) == 0
    assert "No suspects: it is not known which photos the model was trained on" in capsys.readouterr().out
    assert main([*command, "--unseen"]) == 0
    assert "among the known labels of 60 photos" in capsys.readouterr().out
    assert main([*command, "--folds", "3"]) == 2
    assert "trains with the recipe of the run" in capsys.readouterr().err
    assert main(["review", str(other)]) == 2
    assert "name a table or folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--out", "review.txt"], "must name a .csv file"),
        (["--ask", "-1"], "`--ask` must be at least 0"),
        (["--write", "x.parquet"], "belongs to `hf-mlrpl review apply"),
        (["digit_scenes", "num_scenes=4"], "have different labels"),
        (["/nowhere/photos.csv"], "/nowhere/photos.csv"),
    ],
)
def test_mistakes_end_with_one_line(folder, arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert review(folder, *arguments) == 2
    assert message in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_answers_need_the_file_that_tells_their_data(folder, tmp_path, capsys):
    (tmp_path / "review.csv").write_text("part,image_id,label,known,answer\n")
    assert main(["review", "apply", str(tmp_path / "review.csv")]) == 2
    assert "review.json, which says where the labels came from" in capsys.readouterr().err
    assert main(["review", "apply"]) == 2
    assert "takes one table with answers" in capsys.readouterr().err
