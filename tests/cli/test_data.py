import pytest
from PIL import Image

from hf_mlrpl.cli.main import main

SMALL = "data.num_scenes=12"


@pytest.fixture
def photos(tmp_path):
    """Six photos and a table with known and unknown labels."""
    rows = ["file_name,cat,dog"]
    for i, labels in enumerate(["1,0", "1,", ",1", "0,1", "1,1", ",0"]):
        Image.new("RGB", (40, 30), (40 * i, 100, 0)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{labels}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "labels.csv"


def test_numbers_and_a_picture(tmp_path, capsys):
    picture = tmp_path / "new" / "picture.png"
    assert main(["data", SMALL, "--picture", str(picture), "--examples", "3"]) == 0
    printed = capsys.readouterr().out
    assert "labels hidden by the protocol random_known" in printed
    assert "10 labels" in printed and f"3 examples: {picture}" in printed
    with Image.open(picture) as image:
        assert image.width > 100


def test_test_images_have_all_labels(tmp_path, capsys):
    assert main(["data", SMALL, "--split", "test", "--examples", "0"]) == 0
    printed = capsys.readouterr().out
    assert "12 images, 10 labels, 100.0% of the entries known" in printed
    assert printed.splitlines()[-1].startswith("kind of labels: full: every label is known. Any method")


@pytest.mark.parametrize(
    "settings, kind",
    [
        (["proportion=0.5"], "partly known: some present"),
        (["protocol=single_positive", "proportion="], "one positive: each image has one"),
    ],
)
def test_the_kind_of_labels(settings, kind, capsys):
    assert main(["data", SMALL, *settings, "--examples", "0"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"kind of labels: {kind}")


def test_own_photos(photos, tmp_path, capsys):
    assert main(["data", "table", f"path={photos}", "--picture", str(tmp_path / "p.png")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["cat", "3", "1", "2"] in lines and ["dog", "3", "2", "1"] in lines
    assert (tmp_path / "p.png").is_file()


def test_nothing_is_drawn_on_request(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["data", SMALL, "--examples", "0"]) == 0
    assert list(tmp_path.iterdir()) == []


def test_unreadable_photos_are_an_error_or_left_out_of_the_picture(photos, tmp_path, capsys):
    (tmp_path / "1.png").write_bytes(b"no image")
    command = ["data", "table", f"path={photos}", "--picture", str(tmp_path / "p.png"), "--examples", "3"]
    assert main(command) == 2
    assert "1.png" in capsys.readouterr().err
    assert main([*command, "on_bad_image=skip"]) == 0
    assert "3 examples" in capsys.readouterr().out and (tmp_path / "p.png").is_file()
    for photo in tmp_path.glob("*.png"):
        photo.write_bytes(b"no image")
    assert main([*command, "on_bad_image=skip"]) == 2
    assert "None of the first images can be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["tabel", "path=x"], "Unknown data set 'tabel'. Did you mean 'table'?"),
        (["table", "path"], "A setting must look like key=value, got 'path'"),
        (["table", "pth=x"], "Recipe section `data` has no key `pth`. Did you mean `path`?"),
        (["table"], "The data set 'table' needs `data.path`"),
        (["table", "path=/nowhere/labels.csv"], "/nowhere/labels.csv"),
    ],
)
def test_mistakes_end_with_one_line(arguments, message, capsys):
    assert main(["data", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_path_is_recognised_and_said(photos, tmp_path, capsys):
    assert main(["data", str(photos), "--examples", "0", "--write", str(tmp_path / "clean.parquet")]) == 0
    printed = capsys.readouterr().out
    assert f"{photos} is read as `table`" in printed
    assert f"In a recipe: data: {{name: table, path: {photos}}}" in printed
    assert "2 labels" in printed and "written: " in printed
    assert main(["data", str(tmp_path / "clean.parquet"), "labels=[dog]", "--examples", "0"]) == 0
    assert "6 images, 1 labels" in capsys.readouterr().out


def test_a_path_that_may_be_two_things(tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    table = "annotation_id,annotator,id,image,choice\n1,1,1,/data/upload/1/a.jpg,dog\n"
    (tmp_path / "export.csv").write_text(table)
    assert main(["data", str(tmp_path / "export.csv"), "--examples", "0"]) == 0
    printed = capsys.readouterr().out
    assert "is read as `label_studio`" in printed and "It may also be `table`: hf-mlrpl data table path=" in printed


def test_reasons_why_a_path_is_not_recognised(tmp_path, capsys):
    assert main(["data", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "is recognised as none of the data sets" in error and "cvat: no .xml file in the folder" in error


def test_only_tables_and_folders_are_written(photos, tmp_path, capsys):
    assert main(["data", str(photos), "--examples", "0", "--write", str(tmp_path / "x.csv")]) == 2
    assert "`--write` must name a .parquet file or a new folder" in capsys.readouterr().err
    assert main(["data", SMALL, "--examples", "0", "--write", str(tmp_path / "scenes")]) == 0
    assert "random_known, proportion " in (tmp_path / "scenes" / "README.md").read_text()


def test_a_picture_of_somebody_else_stays(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["data", SMALL, "--examples", "2"]
    for _ in range(2):  # its own picture is replaced
        assert main(command) == 0
    Image.new("RGB", (8, 8)).save("examples.png")
    before = (tmp_path / "examples.png").read_bytes()
    assert main(command) == 2
    assert "examples.png that this command has not written. Name another one" in capsys.readouterr().err
    assert (tmp_path / "examples.png").read_bytes() == before
    assert main([*command, "--picture", "other.png"]) == 0 and (tmp_path / "other.png").is_file()
