import json

import numpy as np
import pytest

from hf_mlrpl.data.columns import label_matrix, make_dataset
from hf_mlrpl.data.containers.fiftyone import read_fiftyone
from hf_mlrpl.review.answers import merge_answers
from hf_mlrpl.review.exports import ReviewedImage, write_fiftyone, write_label_studio
from hf_mlrpl.review.sheet import Question, read_answers, write_questions

LABELS = np.array([[1, -1], [0, 0], [0, 1]], dtype=np.int8)
ASKED = [("a", "cat", 1), ("b", "cat", 0), ("b", 'big "dog", brown', 0), ("c", 'big "dog", brown', 1)]


@pytest.fixture
def parts():
    return {"train": make_dataset(["a.jpg", "b.jpg", "c.jpg"], ["a", "b", "c"], LABELS, ["cat", 'big "dog", brown'])}


def sheet(tmp_path, answers, edit=lambda text: text):
    """The table with these answers, saved again by some program."""
    file = tmp_path / "review.csv"
    questions = [
        Question(part="train", image_id=i, image=f"{i}.jpg", label=label, why="ask", known=known, score=0.5)
        for i, label, known in ASKED
    ]
    write_questions(file, questions)
    lines = file.read_text(encoding="utf-8").splitlines()
    filled = [lines[0], *(line + answer for line, answer in zip(lines[1:], answers, strict=False))]
    file.write_text(edit("\n".join([*filled, *lines[len(filled) :]])), encoding="utf-8")
    return file


def test_answers_are_merged_and_counted(tmp_path, parts):
    answers, unanswered = read_answers(sheet(tmp_path, ["absent", "1", "", "?"], lambda text: "\ufeff" + text))
    merged, counts = merge_answers(parts, answers)
    assert label_matrix(merged["train"]).tolist() == [[-1, -1], [1, 0], [0, 0]] and unanswered == 1
    assert merged["train"]["positives"][:] == [[], [0], []]
    assert counts == {"present to absent": 1, "unknown to present": 1, "present to unknown": 1}
    assert label_matrix(parts["train"]).tolist() == LABELS.tolist(), "the old ones stay"
    again, counts = merge_answers(merged, answers)
    assert label_matrix(again["train"]).tolist() == label_matrix(merged["train"]).tolist()
    assert counts == {"absent confirmed": 1, "present confirmed": 1, "still unknown": 1}


@pytest.mark.parametrize(
    "answers, edit, message",
    [
        (["maybe"], None, "review.csv, row 2: `answer` must be present, absent, unknown or nothing, got 'maybe'"),
        (["1", "1"], ("cat,ask,unknown", "cat,ask,who knows"), "row 3: `known` must be one of"),
        (["1", "1"], ("b,b.jpg", "x,x.jpg"), "row 3: the data have no image 'x'"),
        (["1", "1"], ("cat,ask,unknown", "cow,ask,unknown"), "row 3: the data have no label 'cow'"),
        (["1"], ("train,a", "test,a"), "row 2: the data have no part 'test'. Available: train."),
        (
            ["no", "1"],
            ("b,b.jpg,cat", "a,a.jpg,cat"),
            "row 3 says that 'cat' is present in a, but .*row 2 says absent",
        ),
        (["1"], ("label", "name"), "has no column 'label'"),
        (["1"], ("a,a.jpg,cat,ask,present,0.5000,1", "a,a.jpg,cat,ask,absent,0.5000,?"), "contradict data that have"),
    ],
)
def test_mistakes_in_a_table_are_named(answers, edit, message, tmp_path, parts):
    file = sheet(tmp_path, answers, (lambda text: text.replace(*edit)) if edit else lambda text: text)
    with pytest.raises(ValueError, match=message):
        merge_answers(parts, read_answers(file)[0])


IMAGE = ReviewedImage(
    file="/photos/a.jpg",
    image_id="a",
    part="train",
    asked=["cat"],
    present=["dog & bone"],
    absent=[],
    scores={"cat": 0.7},
)


def test_tasks_for_label_studio(tmp_path):
    write_label_studio(tmp_path / "tasks.json", [IMAGE], ["cat", "dog & bone"], "user/model")
    (task,) = json.loads((tmp_path / "tasks.json").read_text())
    assert task["data"] == {"image": "/photos/a.jpg", "image_id": "a", "part": "train", "ask": "asked: cat"}
    (prediction,) = task["predictions"]
    assert prediction["model_version"] == "user/model" and prediction["score"] == 0.7
    assert prediction["result"][0]["value"] == {"choices": ["cat"]}
    assert '<Choice value="dog &amp; bone"/>' in (tmp_path / "tasks.xml").read_text()


def test_samples_for_fiftyone_are_read_again(tmp_path):
    write_fiftyone(tmp_path / "samples.json", [IMAGE], ["cat", "dog & bone"], "user/model")
    assert read_fiftyone(tmp_path / "samples.json", "predictions")["train"].names == ["cat"]
    rows = read_fiftyone(tmp_path / "samples.json", "present")["train"]
    assert rows.names == ["dog & bone"] and rows.files == ["/photos/a.jpg"]
