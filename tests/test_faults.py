"""Files that are to blame."""

import errno
import os
import zipfile

import pytest
import torch

from hf_mlrpl.cli.main import main
from hf_mlrpl.clip.tensor_files import read_tensors
from hf_mlrpl.faults import UNEXPECTED, blamed_on, check_zip, writing
from hf_mlrpl.models.parts.backbone import _read_weights


def bomb(file, name="archive/data/0", megabytes=40, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("archive/data.pkl", b"")
        archive.writestr(name, bytes(megabytes << 20))
    return file


@pytest.mark.parametrize("read", [check_zip, read_tensors, lambda file: _read_weights(str(file))])
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_small_file_that_unpacks_to_a_large_one_is_not_read(read, method, tmp_path):
    with pytest.raises(ValueError, match="bomb.pt has 0 MiB and would unpack to 40 MiB"):
        read(bomb(tmp_path / "bomb.pt", method=method))


@pytest.mark.parametrize("read", [read_tensors, lambda file: _read_weights(str(file))])
@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_damaged_file_is_named(read, cut, overwrite, tmp_path):
    torch.save({"a": torch.rand(100)}, tmp_path / "w.pt")
    content = (tmp_path / "w.pt").read_bytes()
    place = int(len(content) * cut)
    damaged = content[:place] + b"\xff" * 40 + content[place + 40 :] if overwrite else content[:place]
    (tmp_path / "w.pt").write_bytes(damaged)
    try:
        read(tmp_path / "w.pt")
    except ValueError as error:
        assert "w.pt" in str(error)
    else:
        assert overwrite, "a file that is cut off cannot be read"


@pytest.mark.parametrize(
    "content",
    [
        [torch.zeros(2)],
        torch.zeros(2),
        3,
        None,
        "text",
        {"a": 1},
        {"state_dict": [1]},
        {"state_dict": None},
        {1: torch.zeros(2)},
        (torch.zeros(1),),
        {"model": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("read", [read_tensors, lambda file: _read_weights(str(file))])
def test_other_content_is_no_state_dict(read, content, tmp_path):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="w.pt holds no"):
        read(tmp_path / "w.pt")


@pytest.mark.parametrize("kind", UNEXPECTED)
def test_errors_of_code_become_one_about_the_file(kind):
    with pytest.raises(ValueError, match=r"config.json cannot be used: .*first line. Copy it again."):
        with blamed_on("config.json", "Copy it again."):
            raise kind("first line\nsecond line")
    with pytest.raises(ZeroDivisionError):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("number", "way_out"),
    [
        (errno.ENOSPC, "Make room on that disk, or choose another place. Then resume."),
        (errno.EACCES, "Choose another place, or change its permissions. Then resume."),
        (errno.EMFILE, "Raise the limit of open files"),
    ],
)
def test_what_could_not_be_written_is_named_with_the_way_out(number, way_out):
    with pytest.raises(OSError, match=rf"a/b.csv could not be written: \[Errno {number}\] .*\. {way_out}"):
        with writing("the run"), writing("a/b.csv", "Then resume."):
            raise OSError(number, os.strerror(number))


def test_other_errors_than_those_of_the_system_pass():
    for error in (FileExistsError("The folder exists. Name a new one."), ValueError("the label")):
        with pytest.raises(type(error), match=f"^{error}$"), writing("a/b.csv"):
            raise error


def test_errors_of_the_system_say_what_to_do(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["data", "digit_scenes", "num_scenes=20", "--examples", "0", "--write", f"{tmp_path}/file/a.parquet"])
    message = capsys.readouterr().err
    assert "a.parquet could not be written: [Errno 17] File exists" in message and "Check the path." in message
