from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

from hf_mlrpl.clip.tensor_files import read_tensors

TENSORS = {"a": torch.ones(2), "b.c": torch.zeros(1)}


@pytest.mark.parametrize(
    "content",
    [
        TENSORS,
        OrderedDict(TENSORS),
        {"state_dict": TENSORS, "epoch": 3},
        {"state_dict": {f"module.{name}": tensor for name, tensor in TENSORS.items()}, "optimizer": {"step": 1}},
    ],
)
def test_a_state_dict_is_found(content, tmp_path):
    torch.save(content, tmp_path / "a.pt")
    assert read_tensors(tmp_path / "a.pt").keys() == TENSORS.keys()


def test_safetensors(tmp_path):
    save_file(TENSORS, tmp_path / "a.safetensors")
    assert torch.equal(read_tensors(tmp_path / "a.safetensors")["a"], TENSORS["a"])


@pytest.mark.parametrize("content", [[1], {"a": 1}, torch.ones(2), {"state_dict": {"a": "b"}}, {"epoch": 3}])
def test_a_file_without_a_state_dict_is_an_error(content, tmp_path):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="a.pt holds no state dict"):
        read_tensors(tmp_path / "a.pt")


def test_a_file_with_a_pickled_object_is_refused(tmp_path):
    torch.save({"state_dict": torch.nn.Linear(2, 2)}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="evil.pt is no .* that can be read .*it names "):
        read_tensors(tmp_path / "evil.pt")


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.bin"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02"])
def test_damaged_files_are_errors(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is no .* that can be read "):
        read_tensors(tmp_path / name)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.pt"):
        read_tensors(tmp_path / "nothing.pt")
