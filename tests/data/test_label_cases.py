"""Labels as people really have them: every case is read right, or refused with the way out."""

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from photos import write_photos

from hf_mlrpl.data.columns import label_matrix, label_names
from hf_mlrpl.data.tables.table import load_table
from hf_mlrpl.registry import DATASETS, recognise
from hf_mlrpl.registry import load as load_target


def _cases() -> list[dict]:
    beside_the_project = Path(__file__).parents[3] / "shared" / "cases"
    file = Path(os.environ.get("HF_MLRPL_CASES", beside_the_project)) / "label_cases.json"
    return json.loads(file.read_text(encoding="utf-8"))["cases"] if file.is_file() else []


CASES = {case["name"]: case for case in _cases()}

# What is said where the default is not enough; `None` is a case without a setting.
SETTINGS: dict[str, dict | None] = {
    "comma_list": {"separator": "comma"},
    "space_list": {"label_columns": "tags", "separator": "blank"},
    "python_list_text": None,
    "danbooru_tag": {"separator": "blank"},
    "chexpert_two_columns": {
        "labels": ["Cardiomegaly", "Lung Opacity"],
        "image_column": "Path",
        "values": "zero_absent",
    },
    "own_alphabet": {"values": {0: "unknown", -1: "absent"}},
    "minus_one_absent": {"values": {-1: "absent"}},
    "split_mixes_conventions": None,
    "true_false": None,
    "yes_no_na": {"values": {"NA": "unknown", "?": "unknown"}},
    "is_train_column": {"ignore": "is_train"},
    "pandas_index": {"ignore": ["Unnamed: 0"]},
    "extra_columns": {"ignore": ["annotator", "width"]},
    "label_called_path": {"image_column": "image", "label_columns": ["person", "path", "car"]},
    "label_called_negative": None,
    "foreign_image_column": {
        "image_column": "Id",
        "image_suffix": ".png",
        "image_folder": "images",
        "label_columns": "Target",
        "separator": "blank",
    },
    "unused_column": None,
    "choose_from_lists": {"labels": ["dog", "cat"]},
    "spellings": {"rename": "lowercase"},
    "json_duplicate_key": None,
    "label_studio_csv": None,
    "label_studio_json": None,
    "roboflow_classes": None,
    "cvat_xml": None,
    "cvat_coco": None,
    "lvis_federated": None,
    "voc_own_classes": None,
}
# What the default does: labels as expected, or an error that shows this.
READ_BY_DEFAULT = {"python_list_text", "true_false", "yes_no_na", "label_called_path", "label_called_negative"}
READ_BY_DEFAULT |= {"unused_column", "label_studio_csv", "label_studio_json", "roboflow_classes", "cvat_xml"}
READ_BY_DEFAULT |= {"cvat_coco", "lvis_federated", "voc_own_classes"}
ERRORS = {
    "comma_list": r"'dog, cat' and 'dog, bird': they contain a comma.*data.separator=comma",
    "space_list": r"they share words|their words occur in other names, too.*data.separator=blank",
    "danbooru_tag": r"row 2|row 3.*data.separator=blank",
    "chexpert_two_columns": r"-1 \(row 2, column `Cardiomegaly`\).*data.values=zero_absent",
    "own_alphabet": r"0 \(row 2, column `cat`\).*data.values=zero_absent.*data.values=zero_unknown",
    "minus_one_absent": r"-1 \(row 3, column `dog`\).*data.values=minus_one_absent \(-1 absent\)",
    "split_mixes_conventions": r"-1 \(row 5, column `dog`\) and 0 \(row 3, column `dog`\)",
    "is_train_column": r"""`is_train`, .*hardly labels.*data.ignore='\["is_train"\]'.*data.label_columns=""",
    "pandas_index": r"""`Unnamed: 0`.*data.ignore='\["Unnamed: 0"\]'""",
    "extra_columns": r"""`annotator` \('anna'\), `width` .*data.ignore='\["annotator", "width"\]'""",
    "foreign_image_column": "data.image_column=Id",
    "spellings": r"'DOG' \(1\), 'Dog' \(1\), 'dog' \(1\).*data.rename=lowercase",
    "json_duplicate_key": r"line 1: an object must have every key once.*'dog' \(2 times\)",
}


@pytest.fixture(params=sorted(SETTINGS))
def case(request, tmp_path):
    return write_case(tmp_path, request.param)


def write_case(tmp_path, name):
    assert CASES, (
        "The tests need the cases of label_cases.json. Set the environment variable HF_MLRPL_CASES to their folder."
    )
    found = CASES[name]
    for name, content in found["files"].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    write_photos(tmp_path, *found["images"])
    return found


def load_path(path, **settings):
    """What a path holds, by the first data set that recognises it."""
    found, reasons = recognise(path)
    assert found, reasons
    return load_target(DATASETS[found[0]].target)(path, **settings)


def load(case, tmp_path, **settings):
    file = tmp_path / next(iter(case["files"]))
    if case["read"] == "the collection LVIS":
        return load_path(tmp_path, **settings)
    if case["read"] == "a table or container, by its path":
        return load_path(file, **settings)
    dataset = load_path(tmp_path, **settings)
    if case["read"] != "the folder":
        of_file = load_path(file, **settings)
        assert np.array_equal(label_matrix(of_file), label_matrix(dataset))
    return dataset


def check(dataset, case):
    assert dict(zip(label_names(dataset), label_matrix(dataset).T.tolist(), strict=True)) == case["expected"]
    photos = [Path(image["path"]).name for image in dataset.with_format("arrow")[:]["image"].to_pylist()]
    assert photos == [Path(image).name for image in case["images"]][: len(photos)]


def test_the_setting_that_is_named_gives_the_labels(case, tmp_path):
    settings = SETTINGS[case["name"]]
    if case["expected"] is not None:
        check(load(case, tmp_path, **settings or {}), case)


def test_every_case_is_here(case):
    assert CASES.keys() == SETTINGS.keys()
    assert READ_BY_DEFAULT.isdisjoint(ERRORS) and READ_BY_DEFAULT | ERRORS.keys() | {"choose_from_lists"} == set(CASES)


def test_the_default_is_right_or_shows_the_way(case, tmp_path):
    if case["name"] in ERRORS:
        with pytest.raises(ValueError, match=ERRORS[case["name"]]):
            load(case, tmp_path)
    elif case["name"] in READ_BY_DEFAULT:
        check(load(case, tmp_path), case)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("label_studio_json", {"unlisted": "absent"}, {"Boat": [1, -1, 0], "Car": [1, -1, 0]}),
        ("cvat_xml", {"unlisted": "absent"}, {"cat": [1, -1], "dog": [1, 1]}),
        ("cvat_coco", {"unlisted": "unknown"}, {"cat": [1, 0], "dog": [0, 0]}),
        ("voc_own_classes", {"difficult": "unknown"}, {"helmet": [1], "vest": [0]}),
    ],
)
def test_other_settings_of_cases(tmp_path, name, settings, expected):
    case = write_case(tmp_path, name)
    check(load(case, tmp_path, **settings), case | {"expected": expected})


def test_what_is_left_out_is_said(tmp_path, caplog):
    write_photos(tmp_path, "a.jpg", "b.jpg")
    with caplog.at_level(logging.WARNING):
        for name, settings in (("unused_column", {}), ("choose_from_lists", {"labels": ["dog", "cat"]})):
            (tmp_path / f"{name}.csv").write_text(next(iter(CASES[name]["files"].values())))
            load_table(tmp_path / f"{name}.csv", **settings)
    assert "this column is not used: `night`" in caplog.text
    assert "1 label(s) are left out: bird (1 photos)" in caplog.text
