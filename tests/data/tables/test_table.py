"""Tables of the user's own photos: both layouts, all formats, and what every mistake is answered."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hf_mlrpl.data.columns import SplitNotFound, label_matrix, label_names
from hf_mlrpl.data.tables.table import load_table

COLUMNS_CSV = """image,dog,cat,sofa
a.jpg,1,0,
sub/b.jpg,,1,1
c.jpg,0,,0
"""
LISTS_CSV = """image,positive,negative
a.jpg,dog,cat
sub/b.jpg,cat;sofa,
c.jpg,,dog|sofa
"""
COLUMNS_LABELS = [[1, -1, 0], [0, 1, 1], [-1, 0, -1]]  # dog, cat, sofa
LISTS_LABELS = [[-1, 1, 0], [1, 0, 1], [0, -1, -1]]  # cat, dog, sofa: sorted


@pytest.fixture
def photos(tmp_path):
    """A folder with three photos."""
    (tmp_path / "sub").mkdir()
    for i, name in enumerate(("a.jpg", "sub/b.jpg", "c.jpg")):
        Image.new("RGB", (10 + i, 8)).save(tmp_path / name)
    return tmp_path


def write(folder, name, content, encoding="utf-8"):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode(encoding))
    return file


def refuses(message, path, error=ValueError, **arguments):
    with pytest.raises(error, match=message):
        load_table(path, **arguments)


# What is read


def test_one_column_per_label(photos):
    dataset = load_table(write(photos, "train.csv", COLUMNS_CSV))
    assert label_names(dataset) == ["dog", "cat", "sofa"], "order of the columns"
    assert np.array_equal(label_matrix(dataset), COLUMNS_LABELS)
    assert dataset["image_id"][:] == ["a.jpg", "sub/b.jpg", "c.jpg"]
    assert [row["image"].size for row in dataset] == [(10, 8), (11, 8), (12, 8)]


def test_list_columns(photos):
    dataset = load_table(write(photos, "train.csv", LISTS_CSV))
    assert label_names(dataset) == ["cat", "dog", "sofa"], "sorted"
    assert np.array_equal(label_matrix(dataset), LISTS_LABELS)
    complete = load_table(photos, unlisted="absent")
    assert np.array_equal(label_matrix(complete), np.where(np.array(LISTS_LABELS) == 0, -1, LISTS_LABELS))


@pytest.mark.parametrize("layout", [COLUMNS_CSV, LISTS_CSV])
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_json_lines_and_parquet_say_the_same_as_csv(photos, layout, suffix):
    csv = write(photos, "photos.csv", layout)
    expected = load_table(csv)
    rows = pd.read_csv(csv, dtype=object).replace(np.nan, None).to_dict("records")
    for row in rows:
        for name, value in row.items():
            if name in ("positive", "negative"):
                row[name] = value.replace("|", ";").split(";") if value else []
            elif name != "image":
                row[name] = None if value is None else int(value)
    if suffix == "jsonl":
        file = write(photos, "photos.jsonl", "\n".join(json.dumps(row) for row in rows) + "\n")
    else:
        file = photos / "photos.parquet"
        pd.DataFrame(rows).to_parquet(file)
    dataset = load_table(file)
    assert label_names(dataset) == label_names(expected)
    assert np.array_equal(label_matrix(dataset), label_matrix(expected))
    assert dataset["image_id"][:] == expected["image_id"][:]


def test_json_lines_may_leave_keys_out(photos):
    lines = ['{"file_name": "a.jpg", "dog": true}', "", '{"file_name": "c.jpg", "dog": false, "cat": 0}']
    dataset = load_table(write(photos, "train.jsonl", "\n".join(lines)))
    assert np.array_equal(label_matrix(dataset), [[1, 0], [-1, -1]])


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (COLUMNS_CSV, "utf-8-sig"),
        (COLUMNS_CSV.replace("\n", "\r\n"), "utf-8"),
        (COLUMNS_CSV.replace(",", ";"), "utf-8"),
        (COLUMNS_CSV.replace(",", "\t"), "utf-8"),
        ("image,dog,cat,sofa\na.jpg,1.0,0.0,\nsub/b.jpg,,1.0,1.0\nc.jpg,0.0,,0.0\n", "utf-8"),
        ("image,dog,cat,sofa\na.jpg,TRUE,no,?\nsub/b.jpg,NA,Yes,True\nc.jpg,false,n/a,N\n", "utf-8"),
        (",image,dog,cat,sofa\n0,a.jpg,1,0,\n1,sub/b.jpg,,1,1\n2,c.jpg,0,,0\n", "utf-8"),
        (COLUMNS_CSV.replace(",", " , "), "utf-8"),
        (COLUMNS_CSV.replace("sub/b.jpg", '"sub/b.jpg"') + "\n,,,\n", "utf-8"),
    ],
    ids=["byte order mark", "windows", "semicolon", "tab", "floats", "words", "index column", "blanks", "empty rows"],
)
def test_csv_as_spreadsheets_write_it(photos, content, encoding):
    dataset = load_table(write(photos, "train.csv", content, encoding))
    assert label_names(dataset) == ["dog", "cat", "sofa"]
    assert np.array_equal(label_matrix(dataset), COLUMNS_LABELS)


def test_labels_fix_the_set_and_the_order(photos):
    file = write(photos, "train.csv", "image,width,dog,sofa\na.jpg,640,1,\nc.jpg,480,0,1\n")
    dataset = load_table(file, labels=["sofa", "dog"])
    assert label_names(dataset) == ["sofa", "dog"]
    assert label_matrix(dataset).tolist() == [[0, 1], [1, -1]]
    names = write(photos, "names.txt", "sofa\n\ndog\ncat\nbird\n")
    dataset = load_table(write(photos, "lists.csv", LISTS_CSV), labels=names)
    assert label_names(dataset) == ["sofa", "dog", "cat", "bird"]
    assert label_matrix(dataset)[1].tolist() == [1, 0, 1, 0]


def test_images_by_absolute_path_and_by_id(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    file = write(folder, "train.csv", f"path,image_id,dog\n{photos / 'a.jpg'},007,1\n{photos / 'c.jpg'},8,0\n")
    dataset = load_table(file)
    assert dataset["image_id"][:] == ["007", "8"], "text stays text"
    assert dataset[1]["image"].size == (12, 8)


def test_a_relative_folder_stays_valid_when_the_working_directory_changes(photos, monkeypatch):
    write(photos, "train.csv", COLUMNS_CSV)
    monkeypatch.chdir(photos)
    dataset = load_table(".")
    monkeypatch.chdir(photos / "sub")
    assert dataset[0]["image"].size == (10, 8)


# Splits


def test_splits_as_files_agree_on_the_labels(photos):
    write(photos, "train.csv", "image,positive\na.jpg,dog\n")
    write(photos, "test.csv", "image,positive\nc.jpg,cat\n")
    train, test = load_table(photos), load_table(photos, "test")
    assert label_names(train) == label_names(test) == ["cat", "dog"]
    assert label_matrix(train).tolist() == [[0, 1]] and label_matrix(test).tolist() == [[1, 0]]


def test_splits_as_a_column(photos):
    write(photos, "metadata.csv", "image,split,dog\na.jpg,train,1\nc.jpg,test,0\nsub/b.jpg,train,0\n")
    assert load_table(photos)["image_id"][:] == ["a.jpg", "sub/b.jpg"]
    assert load_table(photos, "test")["image_id"][:] == ["c.jpg"]
    refuses("no split 'val' in .*Available splits: 'train', 'test'", photos, SplitNotFound, split="val")


def test_splits_as_folders(photos):
    write(photos, "sub/metadata.jsonl", '{"file_name": "b.jpg", "labels": ["dog", "cat"]}\n')
    (photos / "sub").rename(photos / "test")
    dataset = load_table(photos, "test")
    assert dataset["positives"][:] == [[0, 1]]
    refuses("no split 'train' in .*Available splits: 'test'", photos, SplitNotFound)


def test_a_file_is_the_split_of_its_name_or_train(photos):
    file = write(photos, "test.csv", COLUMNS_CSV)
    assert len(load_table(file, "test")) == 3
    refuses("no split 'train'.*Available splits: 'test'", file, SplitNotFound)
    file = write(photos, "photos.csv", COLUMNS_CSV)
    assert len(load_table(file)) == 3
    refuses("no split 'test'.*Available splits: 'train'", file, SplitNotFound, split="test")


def test_splits_must_have_the_same_label_columns(photos):
    write(photos, "train.csv", "image,dog,cat\na.jpg,1,0\n")
    write(photos, "test.csv", "image,dog,bird\nc.jpg,1,0\n")
    refuses("must have the same label columns, but .*train.csv lacks bird.*data.labels=", photos)
    assert label_names(load_table(photos, labels=["dog"])) == ["dog"]


# Mistakes in files and headers


def test_missing_tables(photos):
    refuses("There is no table file and no folder .*nothing.csv", photos / "nothing.csv", FileNotFoundError)
    refuses("no train.csv, test.csv or metadata.csv.*no table file at all", photos, FileNotFoundError)
    write(photos, "my photos.csv", COLUMNS_CSV)
    refuses("It has my photos.csv: name the file itself", photos, FileNotFoundError)
    refuses(r"must be a .csv, .tsv, .jsonl, .json or .parquet file, got '.jpg'", photos / "a.jpg")


def test_two_tables_for_one_split(photos):
    write(photos, "train.csv", COLUMNS_CSV)
    write(photos, "train.jsonl", "{}")
    refuses("several tables for train: train.csv, train.jsonl. Keep one", photos)


@pytest.mark.parametrize("content", ["", "image,dog\n", "image,dog,split\n\n\n"])
def test_empty_tables(photos, content):
    refuses("The table .*train.csv is empty", write(photos, "train.csv", content))


def test_an_empty_split_is_an_error_only_where_it_is_used(photos):
    write(photos, "train.csv", COLUMNS_CSV)
    write(photos, "test.csv", "image,dog,cat,sofa\n")
    assert len(load_table(photos)) == 3
    refuses("test.csv is empty: its split 'test' has no photos", photos, split="test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("foto,dog\na.jpg,1\n", "needs a column .*its columns are `foto`, `dog`. `foto` .*data.image_column=foto"),
        ("image,width,width\na.jpg,1,1\n", r"name every column once.*'width' \(2 times\)"),
        ("image\na.jpg\n", "train.csv has no labels. Expected one column per label.*Columns found: `image`"),
        ("image,positive\na.jpg,\n", "train.csv has no labels"),
        ("image,positive,labels\na.jpg,dog,dog\n", "`positive` and `labels`, which mean the same"),
        ("image,dog\na.jpg,1\nc.jpg,1,0\n", "train.csv, row 3 has 3 cells, but the header has 2"),
        ('image,dog\n"a.jpg,1\n', "train.csv cannot be read as CSV"),
        ("image,split,dog\na.jpg,,1\n", "row 2: the column `split` must name a split"),
    ],
)
def test_mistakes_in_the_shape_of_a_table(photos, content, message):
    refuses(message, write(photos, "train.csv", content))


def test_files_that_are_not_what_they_seem(photos):
    refuses("not UTF-8 text.*CSV UTF-8", write(photos, "a.csv", "image,chien,bébé\n", "latin-1"))
    refuses("b.parquet is no Parquet file", write(photos, "b.parquet", COLUMNS_CSV))
    refuses("c.jsonl, line 2 is not valid JSON", write(photos, "c.jsonl", '{"image": "a.jpg", "dog": 1}\n{"image":'))
    refuses(r"d.jsonl, line 1 must be an object such as .* got \[1\]", write(photos, "d.jsonl", "[1]\n"))


# Mistakes in rows; the header is row 1


@pytest.mark.parametrize("value", ["ja", "2", "0.5", "x y"])
def test_values_outside_the_alphabet(photos, value):
    file = write(photos, "train.csv", f"image,dog,cat\na.jpg,1,0\n\nc.jpg,0,{value}\n")
    message = r"train.csv, row 4, column `cat`: expected 1 \(present\), 0 \(absent\) or nothing \(unknown\), got "
    refuses(f"{message}'{value}'.*data.values=.*If `cat` is no label: data.ignore=", file)
    dataset = load_table(file, values={value: "unknown"})
    assert label_matrix(dataset).tolist() == [[1, -1], [-1, 0]]


def test_a_list_column_of_another_name(photos):
    file = write(photos, "train.csv", "image,positives\na.jpg,dog;cat\n")
    refuses(r"`positives` \('dog;cat'\).*If `positives` lists names of labels: data.label_columns=", file)
    assert label_matrix(load_table(file, label_columns="positives")).tolist() == [[1, 1]]


def test_zero_next_to_minus_one_is_ambiguous(photos):
    file = write(photos, "train.csv", "image,dog,cat\na.jpg,1,0\nc.jpg,-1,1\n")
    refuses(r"-1 \(row 3, column `dog`\) and 0 \(row 2, column `cat`\).*say which", file)
    refuses("0 .* and -1 .*, but `values` says nothing of 0", file, values={-1: "unknown"})
    refuses("`values` must be a mapping or one of zero_absent", file, values="chexpert")
    refuses("`values` must map 1 to present, absent, unknown, got 1", file, values={1: 1})
    assert label_matrix(load_table(file, values="zero_absent")).tolist() == [[1, -1], [0, 1]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.jpg,dog,Cat", "train.csv has no label 'cat'. Did you mean 'Cat'?"),
        ('a.jpg,"dog, cat",', "lists the labels 'dog, cat': they contain a comma. If each is several names: data.sep"),
        ("a.jpg,dog;;cat,", "row 2, column `positive`: there is an empty name in 'dog;;cat'"),
        ("a.jpg,dog;cat|sofa,", "row 2, column `positive`: there is both ; and | in cells such as 'dog;cat|sofa'"),
        ("a.jpg,dog;cat,cat", "train.csv, row 2: cat is both positive and negative"),
    ],
)
def test_mistakes_in_list_columns(photos, content, message):
    file = write(photos, "train.csv", f"image,positive,negative\n{content}\n")
    refuses(re.escape(message), file, labels=["cat", "dog"])


def test_a_comma_between_names_is_noticed_without_labels(photos):
    file = write(photos, "train.csv", 'image,positive\na.jpg,"dog, cat"\nsub/b.jpg,cat\nc.jpg,dog\n')
    refuses("lists the labels 'dog, cat': they contain a comma.*data.separator=comma", file)


def test_lists_must_hold_text(photos):
    file = write(photos, "train.jsonl", '{"image": "a.jpg", "positive": ["dog"]}\n{"image": "c.jpg", "positive": [3]}')
    refuses(r"train.jsonl, line 2, column `positive`: expected a list of label names.*got \[3\]", file)


def test_unknown_label_names(photos):
    file = write(photos, "train.csv", COLUMNS_CSV)
    refuses("no column for the label 'soffa'. Did you mean 'sofa'?", file, labels=["dog", "soffa"])
    refuses(r"`labels` must name every label once.*'dog' \(2 times\)", file, labels=["dog", "dog"])
    refuses("must name at least one label", file, labels=[])
    refuses("there is no file 'dog'", file, FileNotFoundError, labels="dog")


def test_unlisted_belongs_to_list_columns(photos):
    file = write(photos, "train.csv", COLUMNS_CSV)
    refuses("is for columns that list names.*write 0 where a label is absent", file, unlisted="absent")
    refuses("`unlisted` must be 'unknown' or 'absent', got 'negative'", file, unlisted="negative")


@pytest.mark.parametrize("again", ["a.jpg", "./a.jpg", "sub/../a.jpg"])
def test_repeated_images(photos, again):
    file = write(photos, "train.csv", f"image,dog\na.jpg,1\nc.jpg,1\n{again},0\n")
    refuses("train.csv, row 4: the image .*a.jpg stands in row 2 already.*merge them, or remove one", file)


def test_repeated_and_empty_image_ids(photos):
    file = write(photos, "train.csv", "image,image_id,dog\na.jpg,7,1\nc.jpg,7,1\n")
    refuses("row 3: the `image_id` 7 stands in row 2 already", file)
    file = write(photos, "train.csv", "image,image_id,dog\na.jpg,7,1\nc.jpg,,1\n")
    refuses("row 3: the column `image_id` is empty", file)


def test_missing_images_are_all_counted(photos):
    rows = "".join(f"no{i}.jpg,1\n" for i in range(5))
    file = write(photos, "train.csv", f"image,dog\na.jpg,1\n{rows}")
    message = (
        r"5 of 6 photos of .*train.csv do not exist: no0.jpg \(row 3\), no1.jpg \(row 4\), .* and 2 more. Folders"
    )
    refuses(message, file, FileNotFoundError)
    assert load_table(file, missing="skip")["image_id"][:] == ["a.jpg"]
    (photos / "elsewhere").mkdir()
    (photos / "a.jpg").rename(photos / "elsewhere" / "a.jpg")
    file = write(photos, "train.csv", "image,dog\na,1\n")
    refuses("There is .*elsewhere/a.jpg: data.image_folder=.*elsewhere.* data.image_suffix=", file, FileNotFoundError)
    assert len(load_table(file, image_folder="elsewhere", image_suffix=".jpg")) == 1


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("https://example.org/a.jpg", FileNotFoundError, "Addresses are not downloaded"),
        ("sub\\b.jpg", FileNotFoundError, "Write paths with / instead of"),
        ("sub", FileNotFoundError, "1 of 1 photos of"),
        ("", ValueError, "row 2: the column `image` must name an image file, got ''"),
    ],
)
def test_image_names_that_are_no_files(photos, name, error, message):
    refuses(message, write(photos, "train.csv", f"image,dog\n{name},1\n"), error)


def test_tables_with_the_images_in_them_are_sent_on(photos):
    file = photos / "train.parquet"
    pd.DataFrame([{"image": {"bytes": b"1", "path": None}, "dog": 1}]).to_parquet(file)
    refuses("must name an image file.*are for `load_from_dataset`", file)


# Warnings


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.name.startswith("hf_mlrpl")]


def test_warnings_about_labels(photos, caplog):
    load_table(write(photos, "train.csv", "image,dog,cat\na.jpg,1,0\nc.jpg,0,1\n"))
    assert warnings_of(caplog) == []
    load_table(write(photos, "train.csv", "image,dog,cat\na.jpg,1,0\nc.jpg,0,\n"))
    assert len(warnings_of(caplog)) == 1
    assert re.search("train.csv, split 'train': 1 label.*never present: cat", warnings_of(caplog)[0])


def test_warning_when_nothing_is_known(photos, caplog):
    load_table(write(photos, "train.csv", "image,dog,cat\na.jpg,,\nc.jpg,,\n"))
    assert len(warnings_of(caplog)) == 1
    assert "all labels of all 2 images are unknown" in warnings_of(caplog)[0]


# Columns that are no labels, and labels that do not look like it


@pytest.mark.parametrize(
    "name", ["is_train", "fold", "idx", "id", "width", "Unnamed: 0", "__index_level_0__", "split"]
)
def test_names_that_are_hardly_labels(photos, name):
    file = write(photos, "t.csv", f"image,dog,{name}\na.jpg,1,0\nsub/b.jpg,0,1\nc.jpg,1,1\n")
    refuses(f"`{name}`, which are hardly labels. Leave them out: data.ignore=.*data.label_columns=", file)
    assert label_names(load_table(file, ignore=[name])) == ["dog"]
    assert label_names(load_table(file, label_columns=["dog", name])) == ["dog", name]


def test_a_column_of_ids(photos):
    file = write(photos, "t.csv", "image,dog,id\na.jpg,1,0\nsub/b.jpg,0,1\n")
    refuses("If it names the photos: data.id_column=id", file)
    assert load_table(file, id_column="id")["image_id"][:] == ["0", "1"]


@pytest.mark.parametrize(
    "name", ["path", "file_name", "image_id", "negative", "positive", "labels", "filename", "train"]
)
def test_labels_with_the_name_of_another_column(photos, name):
    file = write(photos, "t.csv", f"image,dog,{name}\na.jpg,1,0\nsub/b.jpg,0,1\nc.jpg,1,1\n")
    if name == "image_id":
        refuses("`image_id`, which are hardly labels.*data.label_columns=", file)
    dataset = load_table(file, **({"label_columns": ["dog", name]} if name == "image_id" else {}))
    assert label_names(dataset) == ["dog", name]
    assert label_matrix(dataset).tolist() == [[1, -1], [-1, 1], [1, 1]]


def test_a_column_of_zeros_and_ones_that_is_called_labels(photos):
    file = write(photos, "t.csv", "image,labels\na.jpg,1\nsub/b.jpg,0\n")
    refuses("a label that is called 'labels', or names of labels", file)
    assert label_names(load_table(file, label_columns="labels")) == ["labels"]


def test_lists_beside_a_column_of_zeros_and_ones_that_is_called_positive(photos, caplog):
    file = write(photos, "t.csv", "image,labels,positive,night\na.jpg,cat;dog,1,1\nsub/b.jpg,cat,0,0\n")
    refuses('lists names in `labels`, and `positive` may have one label each.*data.ignore=\'\\["positive"', file)
    dataset = load_table(file, ignore="positive", unlisted="absent")
    assert label_names(dataset) == ["cat", "dog"] and label_matrix(dataset).tolist() == [[1, 1], [1, -1]]
    assert "not used: `night`" in warnings_of(caplog)[0]
    assert label_names(load_table(file, label_columns="positive")) == ["positive"]


def test_patterns_choose_columns(photos, caplog):
    file = write(photos, "t.csv", "image,attr_a,attr_b,meta_x,meta_y\na.jpg,1,0,u,v\nc.jpg,0,1,u,v\n")
    assert label_names(load_table(file, ignore="meta_*")) == ["attr_a", "attr_b"]
    assert warnings_of(caplog) == []
    assert label_names(load_table(file, label_columns="attr_*")) == ["attr_a", "attr_b"]
    assert "2 columns are not used: `meta_x`, `meta_y`" in warnings_of(caplog)[0]
    refuses("`ignore`: .* has no column 'meta'. Did you mean 'meta_", file, ignore="meta")
    refuses("The column `attr_a` of .* has two roles", file, label_columns="attr_*", id_column="attr_a")


def test_ticks(photos):
    file = write(photos, "t.csv", "image,dog,cat\na.jpg,x,\nc.jpg,,X\n")
    refuses("only x and empty cells.*If empty is absent: data.values=", file)
    assert label_matrix(load_table(file, values={"empty": "absent"})).tolist() == [[1, -1], [-1, 1]]
    refuses("both x .* and 1 ", write(photos, "t.csv", "image,dog,cat\na.jpg,x,1\nc.jpg,0,X\n"))
    file = write(photos, "t.csv", "image,dog,cat\na.jpg,x,\nc.jpg,no,X\n")
    assert label_matrix(load_table(file)).tolist() == [[1, 0], [-1, 1]]


def test_one_row_per_photo_and_label(photos, caplog):
    file = write(photos, "t.csv", "image,labels\na.jpg,dog\nc.jpg,cat\n./a.jpg,cat\na.jpg,dog\n")
    dataset = load_table(file)
    assert dataset["image_id"][:] == ["a.jpg", "c.jpg"]
    assert label_matrix(dataset).tolist() == [[1, 1], [1, 0]]
    assert "4 rows with one name each are the labels of 2 photos" in warnings_of(caplog)[0]
    file = write(photos, "t.csv", "image,positive,negative\na.jpg,dog,\na.jpg,,cat\na.jpg,,dog\n")
    refuses("row 4|row 2.*dog is present, and absent in another row", file)


def test_several_list_columns(photos):
    file = write(photos, "t.csv", "image,first,second\na.jpg,dog,cat\nc.jpg,bird,\n")
    dataset = load_table(file, label_columns=["first", "second"], unlisted="absent")
    assert label_names(dataset) == ["bird", "cat", "dog"]
    assert label_matrix(dataset).tolist() == [[-1, 1, 1], [1, -1, -1]]
    file = write(photos, "t.csv", "image,there,gone\na.jpg,dog,cat\nc.jpg,bird,\n")
    dataset = load_table(file, label_columns="there", negative_column="gone")
    assert label_matrix(dataset).tolist() == [[0, -1, 1], [1, 0, 0]]


def test_lists_of_one_number_per_label(photos):
    file = write(photos, "t.jsonl", '{"image": "a.jpg", "tags": [1, 0]}\n{"image": "c.jpg", "tags": [0, 1.0]}')
    refuses("lists of 2 numbers, which may be one per label.*Give the 2 names", file)
    assert label_matrix(load_table(file, labels=["dog", "cat"])).tolist() == [[1, -1], [-1, 1]]
    file = write(photos, "t.jsonl", '{"image": "a.jpg", "tags": [1, 0]}\n{"image": "c.jpg", "tags": [-1, 1]}')
    refuses("-1 .*say which", file, labels=["dog", "cat"])
    loaded = load_table(file, labels=["dog", "cat"], values="zero_unknown")
    assert label_matrix(loaded).tolist() == [[1, 0], [-1, 1]]


def test_names_for_ids(photos):
    write(photos, "names.csv", "3,dog\n17,traffic light\n")
    file = write(photos, "t.json", json.dumps([{"image": "a.jpg", "tags": [3, 17]}, {"image": "c.jpg", "tags": [17]}]))
    assert label_names(load_table(file, rename=photos / "names.csv")) == ["dog", "traffic light"]
    file = write(photos, "t.json", json.dumps({"a.jpg": ["dog"], "c.jpg": []}))
    assert label_matrix(load_table(file)).tolist() == [[1], [0]]


def test_renamed_columns_are_joined(photos):
    file = write(photos, "t.csv", "image,Dog,dog,cat\na.jpg,1,,0\nc.jpg,,0,0\n")
    refuses("spells 1 label", file)
    dataset = load_table(file, rename={"Dog": "dog"}, labels=["cat", "dog"])
    assert label_matrix(dataset).tolist() == [[-1, 1], [-1, -1]]
    dataset = load_table(file, rename={"Dog": "animal", "dog": "animal", "cat": "animal"})
    assert label_names(dataset) == ["animal"]
    assert label_matrix(dataset).tolist() == [[1], [-1]]
    file = write(photos, "t.csv", "image,Dog,dog\na.jpg,1,0\n")
    refuses("t.csv, row 2: dog is both present and absent", file, rename="lowercase")


@pytest.mark.parametrize("split", ["val", "valid", "validation"])
def test_the_validation_split_has_several_names(photos, split):
    write(photos, "valid.csv", "image,dog\na.jpg,1\nc.jpg,0\n")
    assert len(load_table(photos, split)) == 2


def test_near_names_of_chosen_labels_are_said(photos, caplog):
    file = write(photos, "t.csv", "image,labels\na.jpg,dog;dgo\nc.jpg,cat\n")
    load_table(file, labels=["cat", "dog"])
    assert "1 label(s) are left out: dgo (1 photos)" in warnings_of(caplog)[0]
    assert "'dgo' looks like 'dog'" in warnings_of(caplog)[1] and "data.rename=" in warnings_of(caplog)[1]
