"""Names of labels: joined where one label has several spellings, renamed, chosen."""

import numpy as np
import pytest

from hf_mlrpl.data.names import (
    UNLISTED,
    Conflict,
    check_spellings,
    choose,
    folded,
    join_columns,
    likely_mistakes,
    new_names,
)

NAMES = ["DOG", "Dog", "cat"]


@pytest.mark.parametrize(
    ("rename", "expected"),
    [
        (None, NAMES),
        ("exact", NAMES),
        ("lowercase", ["dog", "dog", "cat"]),
        ({"DOG": "dog", "Dog": "dog"}, ["dog", "dog", "cat"]),
    ],
)
def test_new_names(rename, expected):
    assert new_names(rename, NAMES) == expected


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("ids.csv", "7,traffic light\n8,cat\n"),
        ("ids.tsv", "7\ttraffic light\n8\tcat\n"),
        ("ids.txt", "7 traffic light\n\n8 cat\n"),
        ("ids.json", '{"7": "traffic light", "8": "cat"}'),
        ("ids.yaml", "7: traffic light\n8: cat\n"),
    ],
)
def test_names_of_ids_from_a_file(tmp_path, file, content):
    (tmp_path / file).write_text(content)
    assert new_names(tmp_path / file, ["8", "7", "9"]) == ["cat", "traffic light", "9"]


def test_mistakes_in_renaming(tmp_path):
    with pytest.raises(ValueError, match="`rename` names 'dgo', which is no label. Did you mean 'DOG'"):
        new_names({"dgo": "dog"}, NAMES)
    with pytest.raises(FileNotFoundError, match="there is no file 'lower'"):
        new_names("lower", NAMES)
    (tmp_path / "ids.csv").write_text("7,traffic,light\n")
    with pytest.raises(ValueError, match=r"ids.csv, line 1: expected two names with a comma or tab between"):
        new_names(tmp_path / "ids.csv", ["7"])
    (tmp_path / "ids.json").write_text("[1]")
    with pytest.raises(ValueError, match="ids.json must be one mapping of names to names, got a list"):
        new_names(tmp_path / "ids.json", ["7"])


def test_both_forms_of_unicode_are_one_name():
    assert new_names(None, ["cafe\u0301", "caf\u00e9 "]) == ["caf\u00e9", "caf\u00e9"]


def test_joined_labels_are_present_where_one_is_and_absent_where_all_are():
    labels = np.array([[1, -1], [-1, -1], [-1, 0], [-1, UNLISTED], [0, UNLISTED], [0, 1]], dtype=np.int8)
    joined, names = join_columns(labels, ["cat", "dog"], ["animal", "animal"])
    assert names == ["animal"] and joined[:, 0].tolist() == [1, -1, 0, UNLISTED, 0, 1]


def test_one_spelling_is_enough_to_be_absent():
    labels = np.array([[-1, UNLISTED], [UNLISTED, 1], [0, -1], [UNLISTED, UNLISTED]], dtype=np.int8)
    joined, _ = join_columns(labels, ["Dog", "dog"], ["dog", "dog"])
    assert joined[:, 0].tolist() == [-1, 1, -1, UNLISTED]
    with pytest.raises(Conflict, match="dog is both present and absent") as caught:
        join_columns(np.array([[1, 1], [1, -1]], dtype=np.int8), ["Dog", "dog"], ["dog", "dog"])
    assert caught.value.row == 1


@pytest.mark.parametrize("other", ["Traffic Light", "traffic_light", "traffic  light", "traffic-light"])
def test_spellings_are_told_with_the_way_to_join_them(other):
    assert folded(other) == folded("traffic light")
    with pytest.raises(ValueError, match="spells 1 label.*data.rename=.*To keep them apart: data.rename=exact") as e:
        check_spellings(["traffic light", other, "car"], [5, 1, 2], "t.csv")
    assert f"'traffic light' (5), {other!r} (1)" in str(e.value)
    assert ("data.rename=lowercase" in str(e.value)) == (other == "Traffic Light")


def test_rare_names_beside_a_frequent_one_are_likely_mistakes():
    names = ["dog", "dgo", "dogs", "do", "doge", "cat", "dot", "dog 1", "dog 2"]
    counts = [500, 1, 2, 1, 100, 300, 6, 500, 1]
    assert likely_mistakes(names, counts) == {"dgo": "dog", "dogs": "dog", "do": "dog"}


def test_chosen_labels():
    labels = np.array([[1, -1, 0], [1, 1, UNLISTED]], dtype=np.int8)
    chosen, left_out = choose(labels, ["cat", "dog", "bird"], ["bird", "cow", "cat"], "t.csv")
    assert chosen.tolist() == [[0, UNLISTED, 1], [UNLISTED, UNLISTED, 1]] and left_out == {"dog": 1}
    with pytest.raises(ValueError, match="t.csv has no label 'Dog'. Did you mean 'dog'"):
        choose(labels, ["cat", "dog", "bird"], ["Dog"], "t.csv")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("new.csv", "dgo,dog\ncta,cat\ndgo,cat\n"),
        ("new.txt", "dgo dog\ndgo cat\n"),
        ("new.json", '{"dgo": "dog", "dgo": "cat"}'),
        ("new.yaml", "dgo: dog\ndgo: cat\n"),
        ("new.json", "[" * 100_000),
    ],
)
def test_a_name_gets_one_new_name(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name):
        new_names(tmp_path / name, ["dgo", "cat"])
