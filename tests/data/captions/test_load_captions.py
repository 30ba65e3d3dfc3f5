import json
import logging

import pytest

from hf_mlrpl import label_matrix, label_names, load_captions
from hf_mlrpl.data.captions.load_captions import _SHIPPED
from hf_mlrpl.data.columns import are_captions
from hf_mlrpl.data.files import packaged_label_names

LABELS = ["dog", "couch", "traffic_light"]
CAPTIONS = ["Two dogs on a couch.", "A green traffic light", "Nothing of it", "A puppy."]


def write(file, captions=CAPTIONS):
    """The captions in the format of the suffix of `file`."""
    if file.suffix == ".json":
        annotations = [{"id": i, "image_id": 7, "caption": caption} for i, caption in enumerate(captions)]
        text = json.dumps({"info": {"year": 2014}, "images": [], "annotations": annotations})
    else:
        lines = captions if file.suffix == ".txt" else [json.dumps({"caption": caption}) for caption in captions]
        text = "\n".join(lines) + "\n\n"
    file.write_text(text)
    return file


@pytest.mark.parametrize("name", ["captions_train2014.json", "captions.jsonl", "captions.txt"])
def test_captions_of_each_format(name, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        dataset = load_captions(write(tmp_path / name), LABELS, {"dog": ["puppy"]})
    assert are_captions(dataset) and label_names(dataset) == LABELS
    assert dataset["caption"] == [CAPTIONS[0], CAPTIONS[1], CAPTIONS[3]]
    assert label_matrix(dataset).tolist() == [[1, 1, -1], [-1, -1, 1], [1, -1, -1]]
    assert "1 of 4 captions name none of the labels and are left out." in caplog.text


def test_labels_may_be_given(tmp_path, caplog):
    rows = [
        {"caption": "It sleeps", "labels": ["dog", "cat"]},
        {"caption": "A dog", "labels": []},
        {"caption": "A dog"},
    ]
    (tmp_path / "some.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset = load_captions(tmp_path / "some.jsonl", LABELS)
    assert dataset["caption"] == ["It sleeps", "A dog"]
    assert label_matrix(dataset).tolist() == [[1, -1, -1], [1, -1, -1]]
    assert "1 label(s) are none of the data's and are left out: cat (1)." in caplog.text


def test_templates_are_captions_of_every_label(tmp_path):
    dataset = load_captions(write(tmp_path / "c.txt"), LABELS, templates=["a photo of a {}.", "{}s"])
    assert dataset["caption"][2:] == [
        *("a photo of a dog.", "a photo of a couch.", "a photo of a traffic light."),
        *("dogs", "couchs", "traffic lights"),
    ]
    assert label_matrix(dataset)[2:].tolist() == [[1, -1, -1], [-1, 1, -1], [-1, -1, 1]] * 2


@pytest.mark.parametrize("name", [file.stem for file in _SHIPPED.glob("*.json")])
def test_shipped_synonyms_belong_to_labels_and_tell_them_apart(name, tmp_path):
    names = packaged_label_names(name)
    assert set(json.loads((_SHIPPED / f"{name}.json").read_text())) <= set(names)
    captions = ["A woman next to her motorcycle", "kittens on a sofa, a TV and two televisions"]
    dataset = load_captions(write(tmp_path / "c.txt", captions), names, name)
    found = [{names[label] for label in row} for row in dataset["positives"]]
    if name == "coco":
        assert found == [{"person", "motorcycle"}, {"cat", "couch", "tv"}]
    else:
        assert found == [{"person", "motorbike"}, {"cat", "sofa", "tvmonitor"}]


def test_a_part_of_the_shipped_synonyms_and_those_of_a_file(tmp_path):
    (tmp_path / "mine.json").write_text('{"dog": ["puppy"]}')
    for synonyms in ("coco", tmp_path / "mine.json", str(tmp_path / "mine.json")):
        assert len(load_captions(write(tmp_path / "c.txt", ["A puppy"]), ["dog", "zebu"], synonyms)) == 1


@pytest.mark.parametrize(
    ("synonyms", "message"),
    [
        ("cocoo", "There are no synonyms 'cocoo', neither as a JSON file nor among the shipped ones: coco, voc"),
        ({"dgo": ["puppy"]}, "`synonyms` has no key `dgo`. Did you mean `dog`?"),
        ({"dog": "puppy"}, "`synonyms`: the further names of 'dog' must be a list of texts, got 'puppy'"),
        ({"dog": ["couch"]}, "'couch' names two labels, 'dog' and 'couch'"),
    ],
)
def test_wrong_synonyms(synonyms, message, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message.replace("(", r"\(")):
        load_captions(write(tmp_path / "c.txt"), LABELS, synonyms)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.csv", "caption", r"A file of captions must end in .json, .jsonl, .txt, got .*c\.csv"),
        ("c.txt", "nothing\nof it", r"None of the 2 captions of .*c\.txt names a label of the data"),
        ("c.txt", "", "None of the 0 captions"),
        (
            "c.jsonl",
            '{"caption": "a dog"}\n{"text": 3}',
            r"c\.jsonl, line 2 is no caption: .*field `caption`",
        ),
        ("c.jsonl", '{"caption": "a dog"', r"c\.jsonl, line 1 is not valid JSON: .* Expected"),
        ("c.jsonl", '{"caption": "a dog", "caption": "a cat"}', r"c\.jsonl, line 1: .* repeated: 'caption'"),
        (
            "c.json",
            '{"annotations": [{"caption": 3}]}',
            "entry 0 of `annotations` must have a text as caption",
        ),
        ("c.json", '{"images": []}', "has no section `annotations`"),
    ],
)
def test_wrong_files(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        load_captions(tmp_path / name, LABELS)


def test_a_file_that_is_missing_and_a_template_without_a_place(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file of captions .*c\.json. Name it with"):
        load_captions(tmp_path / "c.json", LABELS)
    with pytest.raises(ValueError, match="must have one {} for the name of a label, got 'a photo'"):
        load_captions(write(tmp_path / "c.txt"), LABELS, templates=["a photo"])
