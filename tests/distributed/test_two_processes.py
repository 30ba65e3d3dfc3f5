"""Two processes on the CPU."""

import json
import runpy
import socket
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import kill
import pytest
from driver import REMEMBERING, image_mean_recipe, loss_curve, prototypes, selection, write_report
from interruptions import SIGNS_OF_MEMORY, results
from processes import KILLED, exit_codes, start
from safetensors.torch import load_file
from tiny import make_trainer, without_clock, write_recipe
from torch.testing import assert_close

from hf_mlrpl.cli.main import main

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).parents[2] / "training" / "accelerate"


def together(folder: Path, work: Callable[..., int | None], *arguments: Any) -> list[BaseProcess]:
    """Two processes with the environment of those that torchrun starts; each prints to `folder`/<rank>.txt."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "tests"}
    told |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return [
        start(
            work,
            *arguments,
            environment=told | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            assets=folder / "assets",  # they compute their features themselves
            output=folder / f"{rank}.txt",
        )
        for rank in (0, 1)
    ]


def succeed(folder: Path, work: Callable[..., int | None], *arguments: Any) -> list[str]:
    """What both processes print, which must end well."""
    processes = together(folder, work, *arguments)
    assert exit_codes(*processes) == [0, 0], (folder / "0.txt").read_text()[-3000:]
    return [(folder / f"{rank}.txt").read_text() for rank in (0, 1)]


def launched(folder: Path, *command: object) -> str:
    """What `python -m COMMAND` prints, a launcher whose processes must end well; itself has its imports behind it."""
    process = start(run_module, *map(str, command), output=folder / "printed.txt")
    assert exit_codes(process) == [0], (folder / "printed.txt").read_text()[-3000:]
    return (folder / "printed.txt").read_text()


def run_module(*command: str) -> None:
    sys.argv = list(command)
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)


def torchrun(folder: Path, *command: object) -> str:
    return launched(folder, "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *command)


def accelerate(folder: Path, config: str, *command: object) -> str:
    options = ("--main_process_port", "0", "--config_file", CONFIGS / config)
    return launched(folder, "accelerate.commands.launch", *options, *command)


# ---- the library, in both processes ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the driver has put what it saw."""
    folder = tmp_path_factory.mktemp("driver")
    succeed(folder, write_report, folder)
    return folder


@pytest.fixture(scope="module")
def reports(folder) -> list[dict]:
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("method", SIGNS_OF_MEMORY)
def test_weights_memory_thresholds_and_logs_are_the_same_in_both_processes(method, reports):
    first, second = reports
    assert len(first["unbroken"][method]["thresholds"]) == 10
    assert first["processes"] == second["processes"] == "2 processes on cpu"
    assert first["unbroken"][method] == second["unbroken"][method]
    for sign in SIGNS_OF_MEMORY[method]:
        assert any(entry.get(sign, 0) > 0 for entry in first["unbroken"][method]["logs"])


@pytest.mark.parametrize("method", REMEMBERING)
def test_what_a_method_remembers_is_the_same_in_both_processes(method, reports):
    first, second = (report["with_memory"][method] for report in reports)
    assert first == second
    completed = [value for entry in first["logs"] for name, value in entry.items() if name.startswith("pseudo_")]
    assert not completed or any(value > 0 for value in completed)


@pytest.mark.parametrize("method", SIGNS_OF_MEMORY)
def test_two_processes_resume_exactly(method, reports):
    for report in reports:
        assert report["resumed"][method] == report["unbroken"][method]


def test_parameters_without_a_gradient_stay_as_they_are_in_two_processes(reports):
    """SARB blends from the second epoch on; a gradient of 0 would let weight decay move its coefficients before."""
    alphas = [entry["alpha"] for entry in reports[0]["unbroken"]["sarb"]["logs"] if "alpha" in entry]
    assert alphas[0] == 0.5 and alphas[-1] != 0.5


def test_neighbours_are_the_same_in_both_processes(reports):
    first, second = (report["memories"]["soft_exposure"] for report in reports)
    assert first == second != reports[0]["memories"]["partial_bce"]


@pytest.mark.parametrize("method", ["ssgrl", "partial_bce", "soft_exposure"])
def test_one_batch_two_small_ones_and_two_processes_train_alike(method, folder, reports, tmp_path):
    """For a loss that is a mean over images."""
    whole = make_trainer(image_mean_recipe(method, per_device_train_batch_size=8), tmp_path)
    whole.train()
    halves = image_mean_recipe(method, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    accumulated = make_trainer(halves, tmp_path)
    accumulated.train()
    curve, initial = loss_curve(whole), make_trainer(halves, tmp_path).model.state_dict()
    assert len(curve) == 12 and len(set(curve)) == 12
    assert any(not value.equal(initial[name]) for name, value in whole.model.state_dict().items())
    closely = {"rtol": 1e-5, "atol": 1e-6}
    assert_close(loss_curve(accumulated), curve, **closely)
    assert_close(reports[0]["curves"][method], curve, **closely)
    assert_close(dict(accumulated.model.state_dict()), dict(whole.model.state_dict()), **closely)
    assert_close(load_file(folder / f"{method}.safetensors"), dict(whole.model.state_dict()), **closely)


def test_two_processes_train_on_features_that_they_stored_together_as_one_does_on_pixels(reports, tmp_path):
    pixels = image_mean_recipe("ssgrl", "flip", per_device_train_batch_size=8, store_features=False)
    trainer = make_trainer(pixels, tmp_path)
    trainer.train()
    assert reports[0]["curves"]["stored"] == reports[1]["curves"]["stored"]
    assert_close(reports[0]["curves"]["stored"], loss_curve(trainer), rtol=1e-5, atol=1e-6)


def test_both_processes_learn_from_the_same_teacher(reports):
    first, second = (report["taught"] for report in reports)
    assert first["teacher"] == second["teacher"] != first["weights"]


def test_two_processes_find_the_prototypes_of_one(reports):
    """In memory and in temporary files."""
    assert reports[0]["prototypes"] == reports[1]["prototypes"] == [prototypes(memory_limit=1)] * 2


def test_two_processes_select_the_labels_of_one(reports):
    """The table of SCPNet, where images repeat within a batch and between the processes."""
    assert reports[0]["selection"] == reports[1]["selection"] == selection()


# ---- the commands ----

SETTINGS = {
    "per_device_train_batch_size": 8,
    "save_strategy": "steps",
    "save_steps": 2,
    "dataloader_num_workers": 1,
    "ema_decay": 0.5,
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> str:
    return write_recipe(tmp_path_factory.mktemp("recipe"), training=SETTINGS)


@pytest.fixture(scope="module")
def trained(recipe, tmp_path_factory) -> tuple[Path, str]:
    """A run of `hf_mlrpl train` with torchrun, and what it printed."""
    folder = tmp_path_factory.mktemp("run")
    return folder / "run", torchrun(folder, "-m", "hf_mlrpl", "train", recipe, "--output", folder / "run")


def test_torchrun_starts_two_processes_and_says_so_once(trained):
    output, printed = trained
    assert printed.count("sst on digit_scenes, 2 processes on cpu") == 1
    assert printed.count("Tag photos with it") == 1
    assert (output / "metrics.json").is_file()


def test_the_metrics_are_those_of_the_saved_weights(trained, capsys):
    output, _ = trained
    assert main(["evaluate", str(output), "--json"]) == 0
    alone = without_clock(json.loads(capsys.readouterr().out))
    together = json.loads((output / "metrics.json").read_text())
    assert {name: together[name] for name in alone} == pytest.approx(alone, rel=1e-6)


def test_each_image_is_evaluated_exactly_once(trained, tmp_path, capsys):
    """37 images are padded to two equal shares, and the padding must not count."""
    output, _ = trained
    command = ["evaluate", str(output), "data.num_scenes=37", "training.per_device_eval_batch_size=7", "--json"]
    printed, nothing = succeed(tmp_path, main, command)
    assert main(command) == 0
    alone = without_clock(json.loads(capsys.readouterr().out))
    together = without_clock(json.loads(printed))
    assert together.keys() == alone.keys() and not nothing
    for name in alone:
        tolerance = 1e-6 if name == "test_loss" else 1e-12  # float32 logits differ a little with the batch size
        assert together[name] == pytest.approx(alone[name], rel=tolerance), name


def test_accelerate_goes_on_after_both_processes_were_killed(trained, recipe, tmp_path):
    output = tmp_path / "run"
    command = ["train", recipe, "--output", str(output), "--no-pictures"]
    first, second = together(tmp_path, kill.run, "checkpoint-4/optimizer.pt", command)
    assert exit_codes(first) == [KILLED]
    second.kill()
    assert (output / "checkpoint-2" / "rng_state_1.pth").is_file()
    assert not (output / "checkpoint-4" / "trainer_state.json").exists()
    printed = accelerate(tmp_path, "two_processes.yaml", "-m", "hf_mlrpl", *command, "--resume")
    assert "2 processes on cpu" in printed
    assert results(output) == results(trained[0])


def test_accelerate_says_when_there_is_one_process(recipe, tmp_path):
    settings = ("training.max_steps=1", "training.use_cpu=true", "--output", tmp_path / "run", "--no-pictures")
    assert "1 process on cpu" in accelerate(tmp_path, "one_gpu.yaml", "-m", "hf_mlrpl", "train", recipe, *settings)
