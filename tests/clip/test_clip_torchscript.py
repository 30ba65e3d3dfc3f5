import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from tiny_clip import save_torchscript, write_torchscript

from hf_mlrpl.clip.tensor_files import read_tensors
from hf_mlrpl.clip.torchscript import is_torchscript


class ListsAndTypes(torch.nn.Module):
    """Attributes of every kind, of which only the tensors are read."""

    sizes: list[int]
    names: dict[str, float]

    def __init__(self):
        super().__init__()
        self.sizes, self.names, self.factor = [1, 2], {"a": 0.5}, 2.5
        self.inner = torch.nn.BatchNorm1d(3)
        whole = torch.arange(12.0).view(3, 4)
        self.register_buffer("whole", whole)
        self.register_buffer("transposed", whole.t())  # shares the storage, with other strides
        self.register_buffer("part", whole[1:, 2])
        self.register_buffer("empty", torch.zeros(0, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) * self.sizes[0] * self.factor


def test_tensors_are_those_of_the_state_dict(tmp_path):
    module = ListsAndTypes()
    save_torchscript(module, tmp_path / "a.pt")
    actual, expected = read_tensors(tmp_path / "a.pt"), module.state_dict()
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(actual[name], tensor) and actual[name].dtype == tensor.dtype, name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.uint8, torch.bool])
def test_types_of_numbers(dtype, tmp_path):
    tensor = torch.tensor([0, 1, 3]).to(dtype)
    write_torchscript({"a.b": tensor}, tmp_path / "a.pt")
    assert torch.equal(read_tensors(tmp_path / "a.pt")["a.b"], tensor)


def test_only_archives_with_code_are_torchscript(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pt")
    write_torchscript({"a": torch.zeros(2)}, tmp_path / "b.pt")
    (tmp_path / "c.pt").write_bytes(b"no zip file")
    assert [is_torchscript(tmp_path / name) for name in ("a.pt", "b.pt", "c.pt")] == [False, True, False]


class Call:
    """Pickled as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def write_archive(file: Path, pickled: bytes) -> None:
    """An archive with the tensors of a true one and another pickle."""
    write_torchscript({"a.b": torch.zeros(2)}, file)
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, pickled if name.endswith("/data.pkl") else data)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "call",
    [
        lambda marker: Call(os.mkdir, marker),
        lambda marker: Call(os.system, f"mkdir {marker}"),
        lambda marker: Call(eval, f"__import__('os').mkdir({marker!r})"),
        lambda marker: Call(getattr, Call(__import__, "os"), "mkdir"),
        lambda marker: {"a": [Call(exec, f"open({marker!r}, 'w')")]},
        lambda marker: Call(torch.load, marker),
        lambda marker: Call(torch._utils._rebuild_parameter, None, False, {}),
    ],
    ids=["mkdir", "system", "eval", "getattr", "exec", "torch", "torch_utils"],
)
def test_an_archive_that_calls_a_function_is_refused_and_runs_nothing(call, protocol, tmp_path):
    marker = tmp_path / "marker"
    write_archive(tmp_path / "evil.pt", pickle.dumps(call(str(marker)), protocol))
    with pytest.raises(ValueError, match=r"evil.pt is no TorchScript archive that can be read: .*it names"):
        read_tensors(tmp_path / "evil.pt")
    assert not marker.exists()


def test_classes_of_the_archive_are_never_looked_up(tmp_path):
    """A class of the archive with the name of a function is not that function."""
    marker = tmp_path / "marker"
    pickled = b"\x80\x02c__torch__.posix\nmkdir\n(X" + len(str(marker)).to_bytes(4, "little")
    write_archive(tmp_path / "evil.pt", pickled + str(marker).encode() + b"tR.")
    with pytest.raises(ValueError, match="evil.pt is no TorchScript archive"):
        read_tensors(tmp_path / "evil.pt")
    assert not marker.exists()


class OneStorage(pickle.Pickler):
    """A pickle of a tensor that is outside of the pickle at `place`."""

    def __init__(self, file, place):
        super().__init__(file, 2)
        self.place = place

    def persistent_id(self, value):
        return self.place if value == "here" else None


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        (("module", torch.FloatStorage, "0", "cpu", 2), "has a 'module' outside of the pickle"),
        (("storage", torch.FloatStorage, "0", "cpu", 3), "has 8 bytes for 3 numbers"),
        (("storage", torch.FloatStorage, "../../x", "cpu", 2), "There is no item named"),
        (("storage", "text", "0", "cpu", 2), "outside of the pickle, where only tensors may be"),
    ],
)
def test_a_storage_that_is_none_is_an_error(place, fault, tmp_path):
    pickled = io.BytesIO()
    OneStorage(pickled, place).dump(["here"])
    write_archive(tmp_path / "a.pt", pickled.getvalue())
    with pytest.raises(ValueError, match=fault):
        read_tensors(tmp_path / "a.pt")


@pytest.mark.parametrize("pickled", [b"", b"no pickle", b"\x80\x02}.", b"\x80\x02K\x01."])
def test_damaged_archives_are_errors(pickled, tmp_path):
    write_archive(tmp_path / "a.pt", pickled)
    with pytest.raises(ValueError, match="a.pt is no TorchScript archive"):
        read_tensors(tmp_path / "a.pt")


def test_a_module_that_contains_itself_is_an_error(tmp_path):
    write_archive(tmp_path / "a.pt", b"\x80\x02c__torch__\nNode\n)\x81q\x00}X\x01\x00\x00\x00ah\x00sb.")
    with pytest.raises(ValueError, match="a.pt is no TorchScript archive"):
        read_tensors(tmp_path / "a.pt")
