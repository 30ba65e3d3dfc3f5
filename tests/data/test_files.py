import logging

import pytest
from photos import write_photos

from hf_mlrpl.data.files import find_photos, numbered_lines, packaged_label_names


def test_each_photo_comes_from_the_first_folder_that_has_it(tmp_path):
    write_photos(tmp_path / "one", "a.jpg", "sub/b.jpg")
    write_photos(tmp_path / "two", "a.jpg", "c.jpg")
    photos = find_photos(["c.jpg", "a.jpg", "sub/b.jpg"], [tmp_path / "none", tmp_path / "one", tmp_path / "two"], "x")
    assert photos == [str(tmp_path / name) for name in ("two/c.jpg", "one/a.jpg", "one/sub/b.jpg")]


def test_photos_that_do_not_exist_are_an_error_or_left_out(tmp_path, caplog):
    write_photos(tmp_path, "a.jpg")
    names = ["b.jpg", "a.jpg", "c.jpg"]
    with pytest.raises(FileNotFoundError, match="2 of 3 photos of the list do not exist: b.jpg, c.jpg. Folders"):
        find_photos(names, [tmp_path], "the list")
    with caplog.at_level(logging.WARNING):
        assert find_photos(names, [tmp_path], "the list", missing="skip") == ["", str(tmp_path / "a.jpg"), ""]
    assert "2 of 3 photos of the list do not exist" in caplog.text and "left out" in caplog.text
    with pytest.raises(FileNotFoundError, match="1 of 1 photos"):
        find_photos(["b.jpg"], [tmp_path], "the list", missing="skip")
    with pytest.raises(ValueError, match="`missing` must be one of error, skip, got 'ignore'"):
        find_photos(names, [tmp_path], "the list", missing="ignore")


def test_lines_keep_their_numbers(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa b \r\n\r\n  c")
    assert numbered_lines(tmp_path / "list.txt") == {1: "a b", 3: "c"}
    with pytest.raises(FileNotFoundError, match="none.txt does not exist"):
        numbered_lines(tmp_path / "none.txt")


@pytest.mark.parametrize("dataset, count, last", [("voc", 20, "tvmonitor"), ("coco", 80, "toothbrush")])
def test_packaged_label_names(dataset, count, last):
    names = packaged_label_names(dataset)
    assert len(set(names)) == len(names) == count and names[-1] == last


def test_packaged_names_of_concepts_and_attributes():
    nus_wide, cub = packaged_label_names("nus_wide"), packaged_label_names("cub")
    assert len(nus_wide) == 81 and nus_wide == sorted(nus_wide)
    assert len(set(cub)) == 312 and cub[0] == "curved bill"


def test_a_list_in_another_encoding_is_named(tmp_path):
    (tmp_path / "labels.txt").write_bytes("chien\nbébé\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"labels\.txt is not UTF-8 text"):
        numbered_lines(tmp_path / "labels.txt")
