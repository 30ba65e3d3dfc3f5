"""Tables that cannot be read name the file, and the row or column."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hf_mlrpl.cli.main import main
from hf_mlrpl.data.tables.table_files import read_table

GOOD = '{"image": "a.jpg", "dog": 1}'
LINES = {
    "twice": '{"image": "b.jpg", "dog": 1, "dog": 0}',
    "twice inside": '{"image": "b.jpg", "labels": {"dog": 1, "dog": 0}}',
    "twice in a list": '{"image": "b.jpg", "labels": [{"x": 1, "x": 2}]}',
    "deep": '{"image": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "deep mappings": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "digits": '{"image": "b.jpg", "dog": ' + "9" * 5000 + "}",
    "cut": '{"image": "b.jpg", ',
    "list": "[1]",
    "number": "3",
    "long": json.dumps("x" * 10**6),
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_line_that_is_no_row_is_named(line, tmp_path):
    file = tmp_path / "labels.jsonl"
    file.write_text(f"{GOOD}\n{line}\n")
    with pytest.raises(ValueError, match="labels.jsonl, line 2") as error:
        read_table(file)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("line", [line for name, line in LINES.items() if name not in ("list", "number", "long")])
def test_a_json_file_that_is_no_table_is_named(line, tmp_path):
    file = tmp_path / "labels.json"
    file.write_text(f"[{line}]")
    with pytest.raises(ValueError, match=r"labels.json"):
        read_table(file)


def photo(folder):
    Image.new("RGB", (8, 8)).save(folder / "a.jpg")


@pytest.mark.parametrize("value", ["9" * 400, "-" + "9" * 400, "1e400", "-Infinity"])
def test_numbers_that_are_no_labels_are_named(value, tmp_path, capsys):
    photo(tmp_path)
    file = tmp_path / "labels.jsonl"
    file.write_text(f'{{"image": "a.jpg", "dog": 1, "cat": {value}}}\n')
    assert main(["data", str(file), "--examples", "0"]) == 2
    error = capsys.readouterr().err
    assert "labels.jsonl" in error and "unexpected" not in error and len(error) < 1500


COLUMNS = {
    "timestamp of the year 300000": pa.array(np.array([9 * 10**15], "i8"), pa.timestamp("ms")),
    "largest timestamp": pa.array(np.array([2**63 - 1], "i8"), pa.timestamp("us")),
    "earliest timestamp": pa.array(np.array([-(2**62)], "i8"), pa.timestamp("us")),
    "largest date": pa.array(np.array([2**31 - 1], "i4"), pa.date32()),
}


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_a_parquet_column_that_cannot_be_read_is_named(column, tmp_path, capsys):
    photo(tmp_path)
    table = pa.table({"image": ["a.jpg"], "dog": [1], "taken": column})
    pq.write_table(table, tmp_path / "labels.parquet")
    assert main(["data", str(tmp_path / "labels.parquet"), "--examples", "0"]) == 2
    error = capsys.readouterr().err
    assert "labels.parquet" in error and "taken" in error and "unexpected" not in error


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 50 + b"PAR1", b"text"])
def test_a_file_that_is_no_parquet_is_named(content, tmp_path):
    (tmp_path / "labels.parquet").write_bytes(content)
    with pytest.raises(ValueError, match="labels.parquet is no Parquet file"):
        read_table(tmp_path / "labels.parquet")


def test_links_that_lead_round_in_circles_and_other_formats_do_not_stop_a_folder(tmp_path, caplog):
    from hf_mlrpl.data.images.photos import find_images

    photo(tmp_path)
    (tmp_path / "labels.csv").write_text("image,dog\na.jpg,1\n")
    for name in ("loop.jpg", "loop", "loop.csv"):
        (tmp_path / name).symlink_to(name)
    (tmp_path / "round").symlink_to(tmp_path)
    (tmp_path / "broken.jpg").symlink_to("nowhere")
    for name in ("b.HEIC", "c.heic", "d.nef", ".hidden.heic"):
        (tmp_path / name).touch()
    assert main(["data", str(tmp_path / "labels.csv"), "--examples", "0"]) == 0
    assert [image.name for image in find_images(tmp_path)] == ["a.jpg"]
    assert "left out: 2 .heic, 1 .nef. Save them as JPEG" in caplog.text
    links = ", ".join(str(tmp_path / name) for name in ("broken.jpg", "loop.jpg", "round"))
    assert f"Symbolic links to folders, or to nothing, are left out: {links}." in caplog.text
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="holds no image. .*2 .heic"):
        find_images(tmp_path)
