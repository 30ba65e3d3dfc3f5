"""Drawn tables: the labels are those of a slow plain reader, or an error says what to do."""

import csv
import json
import re
import unicodedata

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from photos import write_photos

from hf_mlrpl.data.columns import label_matrix, label_names
from hf_mlrpl.data.tables.table import load_table

PHOTOS = [f"{i}.jpg" for i in range(5)]
FORMATS = ("csv", "tsv", "jsonl", "json", "parquet")
PARTS = [
    "dog",
    "Dog",
    "hot dog",
    "cafe\u0301",
    "caf\u00e9",
    "a, b",
    "x|y",
    ";d",
    " cat ",
    "image_id",
    "positive",
    "0",
    "no",
]
MEANING = {"present": 1, "absent": -1, "unknown": 0}
PLAIN = {"1": 1, "1.0": 1, "yes": 1, "true": 1, "0": -1, "no": -1, "false": -1, "": 0, "na": 0, "?": 0, "none": 0}
examples = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
names = st.sampled_from(PARTS) | st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)


@pytest.fixture
def folder(tmp_path):
    write_photos(tmp_path, *PHOTOS)
    return tmp_path


def write(folder, suffix, rows):
    """The rows as a table; cells of text formats are text."""
    file = folder / f"t.{suffix}"
    if suffix in ("csv", "tsv"):
        with file.open("w", encoding="utf-8", newline="") as text:
            writer = csv.writer(text, delimiter="\t" if suffix == "tsv" else ",")
            writer.writerow(rows[0])
            writer.writerows(["" if cell is None else cell for cell in row.values()] for row in rows)
    elif suffix == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif suffix == "json":
        file.write_text(json.dumps(rows), encoding="utf-8")
    else:
        pd.DataFrame(rows).to_parquet(file)
    return file


def read(file, **arguments):
    """The labels by their names, or the message of the error."""
    try:
        dataset = load_table(file, **arguments)
    except ValueError as error:
        assert file.name in str(error) or "`" in str(error), error
        return str(error)
    return dict(zip(label_names(dataset), label_matrix(dataset).T.tolist(), strict=True))


def tidy(name):
    return unicodedata.normalize("NFC", name).strip()


@examples
@given(
    labels=st.lists(names, min_size=1, max_size=3, unique_by=str.strip),
    cells=st.lists(
        st.sampled_from([1, 0, 1.0, -1, True, False, None, "yes", "no", "?", "NA"]), min_size=15, max_size=15
    ),
    minus_one=st.sampled_from([None, "present", "absent", "unknown"]),
    suffix=st.sampled_from(FORMATS[:4]),
)
def test_one_column_per_label(folder, labels, cells, minus_one, suffix):
    columns = [cells[5 * i : 5 * i + 5] for i in range(len(labels))]
    rows = [
        {"image": photo} | dict(zip(labels, cells, strict=True))
        for photo, *cells in zip(PHOTOS, *columns, strict=True)
    ]
    values = None if minus_one is None else {-1: minus_one, 0: "absent"}
    found = read(write(folder, suffix, rows), values=values)
    used = {cell for column in columns for cell in column if type(cell) is int}
    if -1 in used and minus_one is None:
        assert isinstance(found, str)
    if isinstance(found, str):
        return
    meaning = PLAIN | ({} if minus_one is None else {"-1": MEANING[minus_one]})
    expected = {
        tidy(name): [meaning[str(cell).lower()] for cell in column]
        for name, column in zip(labels, columns, strict=True)
    }
    assert found == expected


@examples
@given(
    lists=st.lists(st.lists(names, max_size=3), min_size=5, max_size=5),
    unlisted=st.sampled_from(["unknown", "absent"]),
    suffix=st.sampled_from(FORMATS),
    written=st.sampled_from([";", "comma", "python", "json"]),
)
def test_list_columns(folder, lists, unlisted, suffix, written):
    text = suffix in ("csv", "tsv")
    between = {"comma": ",", ";": ";"}
    if not text:
        cells = lists
    elif written in between:
        cells = [between[written].join(row) for row in lists]
        lists = [cell.split(",") if written == "comma" else re.split("[;|]", cell) for cell in cells]
    else:
        cells = [json.dumps(row) if written == "json" else str(row) for row in lists]
    rows = [{"image": photo, "positive": cell} for photo, cell in zip(PHOTOS, cells, strict=True)]
    arguments = {"separator": "comma"} if text and written == "comma" else {}
    found = read(write(folder, suffix, rows), unlisted=unlisted, **arguments)
    if isinstance(found, str):
        return
    sets = [{tidy(name) for name in row} - {""} for row in lists]
    absent = -1 if unlisted == "absent" else 0
    assert found == {name: [1 if name in row else absent for row in sets] for name in sorted(set().union(*sets))}
