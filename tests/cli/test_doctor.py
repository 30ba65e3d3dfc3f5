"""What `hf-mlrpl doctor` finds, on this machine and on worse ones."""

import json
from collections import namedtuple
from importlib import metadata

import pytest
import torch
import torchvision
from tiny import write_recipe

from hf_mlrpl.cli import doctor_machine, doctor_places, doctor_recipe, doctor_software
from hf_mlrpl.cli.main import main, parse_arguments

Usage = namedtuple("Usage", "total used free")


def report_of(*arguments, capsys) -> dict:
    main(["doctor", *arguments, "--json"])
    return json.loads(capsys.readouterr().out)


def test_the_report(capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    report = report_of("sst/digit_scenes_10", capsys=capsys)
    assert report["packages"]["torch"] == torch.__version__.split("+")[0]
    assert "process on" in report["machine"]["processes"] and report["extras"]["train"] == "installed"
    assert report["recipe"]["feature map"] == "4x4, 96 channels" and report["recipe"]["attention maps"] is True
    assert report["places"]["logged in"] == "with a token" and "hf_secret" not in json.dumps(report)
    main(["doctor"])
    assert "transformers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("side", "problem"), [(8, "1x1 places for images of 8x8: pictures of attention show nothing"), (16, "coarse")]
)
def test_a_map_with_few_places(side, problem, capsys):
    problems = report_of("sst/digit_scenes_10", f"model.image_size={side}", capsys=capsys)["problems"]
    assert any(problem in text for text in problems)


def test_networks_without_attention_may_have_one_place(capsys):
    report = report_of("partial_bce/digit_scenes_10", "model.image_size=8", capsys=capsys)
    assert report["recipe"]["feature map"].startswith("1x1") and not any("1x1" in t for t in report["problems"])


@pytest.mark.parametrize(("method", "attends"), [("dualcoop", True), ("scpnet", None)])
def test_networks_of_prompts(method, attends, tmp_path, capsys):
    recipe = report_of(write_recipe(tmp_path, method), capsys=capsys)["recipe"]
    assert recipe.get("attention maps") is attends


def test_data_that_are_not_there_and_a_missing_extra(monkeypatch, capsys):
    settings = ("data.name=table", "data.path=/nowhere", "training.dataloader_num_workers=1000")
    problems = " ".join(report_of("partial_bce/digit_scenes_10", *settings, capsys=capsys)["problems"])
    assert "/nowhere, which does not exist" in problems and "is 1000, but there are" in problems
    monkeypatch.setattr(doctor_recipe, "find_spec", lambda name: None)
    found = []
    doctor_recipe.examine_recipe(parse_arguments(["doctor", "sst/digit_scenes_10"]), found)
    assert 'pip install "hf-mlrpl[train]"' in found[0]


def test_packages_that_do_not_fit(monkeypatch):
    wanted = ["torch>=999", "no-such-package>=1", "datasets>=999; extra == 'train'", "ruff>=999; extra == 'dev'"]
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    problems = []
    doctor_software.examine_packages(problems)
    assert [text.split()[0] for text in problems] == ["torch", "no-such-package", "datasets"]


def test_a_broken_pair_of_torch_and_torchvision(monkeypatch):
    def nms(*args):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", nms)
    problems = []
    assert not doctor_software.are_usable(problems)
    assert "torchvision cannot be used" in problems[0] and "--force-reinstall torch torchvision" in problems[0]


def test_a_gpu_that_torch_does_not_see(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor_machine.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    for hidden, problem in (("", "CUDA_VISIBLE_DEVICES hides"), ("0", "has an NVIDIA driver, but torch")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        problems = []
        assert doctor_machine._devices(problems) == ["cpu"] and problem in problems[0]


def test_a_small_container(monkeypatch, tmp_path):
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    monkeypatch.setattr(doctor_machine, "_CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(doctor_machine, "_cores", lambda: 16)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(doctor_machine.shutil, "disk_usage", lambda place: Usage(64 * 2**20, 0, 0))
    problems = []
    doctor_machine._threads(problems)
    doctor_machine._shared_memory(problems)
    assert "16 threads for 1 cores" in problems[0] and "--shm-size" in problems[1]


def test_one_thread_of_many(monkeypatch):
    monkeypatch.setattr(doctor_machine, "_cores", lambda: 16)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for world, count in (("1", 1), ("8", 0)):
        monkeypatch.setenv("WORLD_SIZE", world)
        problems = []
        doctor_machine._threads(problems)
        assert len(problems) == count


def test_places_that_are_full_or_not_writable(monkeypatch, tmp_path):
    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor_places.shutil, "disk_usage", lambda place: Usage(1, 1, 1e9))
    problems = []
    doctor_places._examine("results", tmp_path / "not" / "there", problems)
    monkeypatch.setattr(doctor_places.tempfile, "TemporaryFile", refuse)
    doctor_places._examine("results", tmp_path, problems)
    assert "only 1.0 GB free" in problems[0] and "cannot be written to" in problems[1]
    assert not list(tmp_path.iterdir()), "nothing is left"
