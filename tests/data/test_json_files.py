"""JSON files read in blocks, which may end anywhere."""

import json

import pytest

from hf_mlrpl.data import json_files
from hf_mlrpl.data.json_files import JsonObject, read_lists


class Segment(JsonObject):
    category_id: int


class Annotation(JsonObject):
    image_id: int | str
    segments: list[Segment] = []


CONTENT = {
    "info": {"braces": "}, {", "n": [1, 2.5, None, True], "list": []},
    "note": 'a "quoted" } text\u00e9',
    "number": 12345,
    "others": [{"a": [{"b": "]}"}]}] * 5,
    "annotations": [
        {"bbox": [1.5, 2], "image_id": i, "text": "}, {]", "segments": [{"category_id": j} for j in range(i % 4)]}
        for i in range(20)
    ],
    "empty": [],
    "images": [{"image_id": "a"}],
}


def read(file):
    found = {}
    for name, block in read_lists(file, {"annotations": Annotation, "images": Annotation, "empty": Annotation}):
        found[name] = found.get(name, []) + block
    return found


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("block", [1, 7, 64, 500, 1 << 20])
def test_blocks_of_any_size(tmp_path, monkeypatch, block, indent):
    monkeypatch.setattr(json_files, "BLOCK", block)
    file = tmp_path / "a.json"
    file.write_text(json.dumps(CONTENT, indent=indent), encoding="utf-8")
    found = read(file)
    assert list(found) == ["annotations", "empty", "images"] and found["empty"] == []
    assert [annotation.image_id for annotation in found["annotations"]] == list(range(20))
    assert [len(annotation.segments) for annotation in found["annotations"]] == [i % 4 for i in range(20)]
    assert found["images"] == [Annotation("a")]


@pytest.mark.parametrize("block", [5, 1 << 20])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:500], "a.json is not valid JSON, perhaps an incomplete download"),
        (
            lambda text: text.replace('"image_id": 3,', '"image_id": 3.5,'),
            "entry 3 of `annotations` must have a whole",
        ),
        (lambda text: text.replace('"image_id": 3,', ""), "entry 3 of `annotations` lacks image_id"),
        (
            lambda text: text.replace('{"category_id": 1}', "{}", 1),
            r"entry 1 of `annotations\[2\].segments` lacks cat",
        ),
        (lambda text: text.replace('"empty": []', '"empty": 3'), "`empty` must be a list of JSON objects"),
        (
            lambda text: text.replace('"empty"', '"other"'),
            "has no section `empty`; it needs annotations, images, empty",
        ),
        (lambda text: text.replace('"number"', '"info"'), "a.json has the section 'info' twice. Leave one out."),
        (
            lambda text: text.replace('"image_id": 3,', '"image_id": 3, "image_id": 4,'),
            r"entry 3 of `annotations` in .*a.json: .* repeated: 'image_id' \(2 times\)",
        ),
        (
            lambda text: text.replace('"segments": []', '"segments": [], "segments": [{"category_id": 1}]', 1),
            r"entry 0 of `annotations` in .*a.json: .* repeated: 'segments' \(2 times\)",
        ),
        (
            lambda text: text.replace('{"category_id": 1}', '{"category_id": 1, "category_id": 0}', 1),
            r"entry 2 of `annotations` in .*a.json: .* repeated: 'category_id' \(2 times\)",
        ),
        (lambda text: "[]", "must hold one JSON object, got a list"),
        (lambda text: "", "must hold one JSON object, got nothing"),
    ],
)
def test_mistakes_name_file_and_place(tmp_path, monkeypatch, damage, message, block):
    monkeypatch.setattr(json_files, "BLOCK", block)
    file = tmp_path / "a.json"
    file.write_text(damage(json.dumps(CONTENT)), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read(file)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="a.json does not exist"):
        read(tmp_path / "a.json")
