"""Cells that list names."""

import pytest

from hf_mlrpl.data.tables.cells import ListParser

VOC = ["aeroplane", "dining table", "potted plant", "tv monitor", "sofa"]
COCO = [
    "traffic light",
    "fire hydrant",
    "stop sign",
    "sports ball",
    "baseball bat",
    "baseball glove",
    "hot dog",
    "dog",
]


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("dog;cat", ["dog", "cat"]),
        (" dog | traffic light|", ["dog", "traffic light"]),
        ("['dog', 'cat']", ["dog", "cat"]),
        ("['dog' 'black cat'\n 'it''s']", ["dog", "black cat", "it", "s"]),
        ('["dog, cat", "bird"]', ["dog, cat", "bird"]),
        ('{"choices": ["dog", "cat"]}', ["dog", "cat"]),
        ("('dog', 'cat')", ["dog", "cat"]),
        ("{dog,cat}", ["dog", "cat"]),
        ("[dog, black cat]", ["dog", "black cat"]),
        ("[]", []),
        ("(small) dog", ["(small) dog"]),
        ("", []),
        (None, []),
        (["dog", "dog, cat", "dog"], ["dog", "dog, cat"]),
        ({"choices": ["dog"]}, ["dog"]),
        ("cafe\u0301", ["caf\u00e9"]),
    ],
)
def test_names_in_a_cell(cell, names):
    parser = ListParser()
    assert parser.names(cell) == names


@pytest.mark.parametrize(
    ("separator", "cell", "names"),
    [
        ("comma", "dog, cat", ["dog", "cat"]),
        ("blank", "1girl ;d  [x]", ["1girl", ";d", "[x]"]),
        ("hash", "dog#cat", ["dog", "cat"]),
        ("newline", "dog\ncat", ["dog", "cat"]),
        (" and ", "dog and cat", ["dog", "cat"]),
        ("semicolon", "dog, cat;a|b", ["dog, cat", "a|b"]),
    ],
)
def test_a_separator_cuts_and_does_nothing_else(separator, cell, names):
    parser = ListParser(separator)
    assert parser.names(cell) == names
    parser.check("t.csv")


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        (["dog, cat", "bird"], "comma"),
        (["dog#cat", "bird"], "hash"),
        (["dog\ncat", "bird"], "newline"),
        (["dog\tcat", "bird"], "tab"),
        (["dog cat", "dog", "cat"], "blank"),
        (["dog cat", "dog bird"], "blank"),
        (["16 0", "7 1"], "blank"),
        (["dog/cat", "cat", "dog"], "slash"),
        (["dog+cat", "cat", "dog"], "+"),
        ([f"word{i} other{i}" for i in range(30)], "blank"),
    ],
)
def test_names_that_look_like_several(cells, separator):
    parser = ListParser()
    for cell in cells:
        parser.names(cell)
    with pytest.raises(ValueError, match="If each is several names: data.separator=.*one name: data.sep") as caught:
        parser.check("t.csv")
    assert f"data.separator={separator}" in str(caught.value).replace("'", "").replace('"', "")
    parser.check("t.csv", known=cells)


@pytest.mark.parametrize("names", [VOC, COCO, ["hot dog", "dog"], ["salt & pepper", "pepper"], ["day/night", "sun"]])
def test_names_of_several_words_are_fine(names):
    parser = ListParser()
    parser.names(";".join(names))
    parser.check("t.csv")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1girl;;d", "an empty name in '1girl;;d'"),
        ("smile;|_|", "there is .*'smile;|_|'"),
        ("[dog: 1]", "expected a list of label names"),
        ('{"dog": 1, "cat": 0}', "expected a list of label names"),
        ([1, 2], r"expected a list of label names.*got \[1, 2\]"),
        (3, "expected a list of label names"),
    ],
)
def test_cells_that_are_no_lists(cell, message):
    with pytest.raises(ValueError, match=message):
        ListParser().names(cell)


def test_ids_are_names_where_they_get_names():
    assert ListParser(ids=True).names([3, 17]) == ["3", "17"]
    with pytest.raises(ValueError, match="`separator` must be one of comma"):
        ListParser("")
