import json
import math
import multiprocessing
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image
from processes import CONTEXT, exit_codes, serve
from tiny import write_recipe

from hf_mlrpl import __version__
from hf_mlrpl.cli import main as cli_main
from hf_mlrpl.cli import sweep
from hf_mlrpl.cli.main import main
from hf_mlrpl.cli.sweep_lines import read_finished
from hf_mlrpl.cli.sweep_results import in_words
from hf_mlrpl.recipe.document import Recipe

SWEEP = """
seeds: [0, 1]
grid:
  data.proportion: [0.5, 1.0]
runs:
  - {{name: SST, recipe: {recipe}}}
  - name: no pair loss
    recipe: {recipe}
    overrides: [objective.cooccurrence_weight=0]
    grid: {{data.proportion: [0.5]}}
metrics: [test_map]
"""


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "table.yaml"
    path.write_text(SWEEP.format(recipe=write_recipe(tmp_path)))
    return path


class Started:
    """Stands for the processes of a sweep: writes the metrics of each run; runs whose folder is in `failing` fail."""

    def __init__(self):
        self.commands, self.failing, self.without_number = [], (), ()

    def __call__(self, command, log):
        self.commands.append(command)
        folder = Path(command[command.index("--output") + 1])
        if folder.name in self.failing:
            log.write_text("error: the reason\n")
            return sweep.Ended(2, 0.0)
        seed = int(folder.name[-1])
        (folder / "checkpoint-3").mkdir()
        number = math.nan if folder.name in self.without_number else 60.0 + 2 * seed
        (folder / "metrics.json").write_text(json.dumps({"test_map": number, "train_seconds": 5.0}))
        return sweep.Ended(0, 3600.0)


@pytest.fixture
def started(monkeypatch) -> Started:
    started = Started()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # a sweep sets it
    monkeypatch.setattr(sweep, "_run_command", started)
    return started


def results_in(file: Path, output: Path) -> dict:
    return read_finished(sweep.read_sweep(file).runs, output / "results.jsonl").results


def test_runs_are_all_combinations(file):
    table = sweep.read_sweep(file)
    runs, metrics = table.runs, table.metrics
    assert [(run.row, run.column, run.seed) for run in runs] == [
        ("SST", "proportion 0.5", 0),
        ("SST", "proportion 0.5", 1),
        ("SST", "proportion 1.0", 0),
        ("SST", "proportion 1.0", 1),
        ("no pair loss", "proportion 0.5", 0),
        ("no pair loss", "proportion 0.5", 1),
    ]
    assert metrics == ["test_map"] and len({run.key for run in runs}) == len({run.folder for run in runs}) == 6
    assert runs[4].overrides == ("objective.cooccurrence_weight=0", "data.proportion=0.5")


def test_a_table_of_means_and_deviations(file, started, tmp_path, capsys):
    output = tmp_path / "out"
    assert main(["sweep", str(file), "--output", str(output)]) == 0
    table = (output / "table.md").read_text()
    assert table.splitlines() == [
        "| method | test_map proportion 0.5 | test_map proportion 1.0 |",
        "|---|---|---|",
        "| SST | 61.0 ± 1.4 | 61.0 ± 1.4 |",
        "| no pair loss | 61.0 ± 1.4 |  |",
        "",
        "6 runs, 0.0 minutes of processes, 6.0 hours of processors.",
    ]
    assert table in capsys.readouterr().out
    lines = [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]
    assert len(lines) == 6 and {line["seed"] for line in lines} == {0, 1}
    assert list(output.rglob("checkpoint-*")) == []
    assert all("--resume" in command and command[0] == "train" for command in started.commands)


def test_the_same_table_for_latex(file, started, tmp_path):
    file.write_text(file.read_text().replace("name: no pair loss", 'name: "no L_p & 50 %"'))
    output = tmp_path / "out"
    started.failing = ("SST-proportion_0.5-seed1",)
    assert main(["sweep", str(file), "--output", str(output)]) == 2
    assert main(["sweep", str(file), "--output", str(output), "--table"]) == 0
    assert (output / "table.tex").read_text().splitlines() == [
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"method & test\_map proportion 0.5 & test\_map proportion 1.0 \\",
        r"\midrule",
        r"SST & 60.0 (1 of 2 seeds) & 61.0 $\pm$ 1.4 \\",
        r"no L\_p \& 50 \% & 61.0 $\pm$ 1.4 &  \\",
        r"\bottomrule",
        r"\end{tabular}",
        "% 5 runs, 0.0 minutes of processes, 5.0 hours of processors.",
    ]


def test_a_chart_over_the_known_proportion(file, started, tmp_path, monkeypatch):
    charts = []
    monkeypatch.setattr(sweep, "chart", lambda *what: charts.append(what))
    assert main(["sweep", str(file), "--output", str(tmp_path / "out")]) == 0
    lines = {"SST": {0.5: [60.0, 62.0], 1.0: [60.0, 62.0]}, "no pair loss": {0.5: [60.0, 62.0]}}
    assert charts == [(lines, "test_map", "data.proportion", {})]
    assert list((tmp_path / "out").glob("*.png")) == []

    monkeypatch.undo()
    assert main(["sweep", str(file), "--output", str(tmp_path / "out"), "--table"]) == 0
    with Image.open(tmp_path / "out" / "chart.png") as picture:
        assert picture.width > 800


def test_other_settings_of_the_grid_are_lines_of_their_own():
    for name in ("proportion", "fraction"):
        run = sweep.Run("SST", ((f"data.{name}", 0.1), ("objective.bank_size", 50)), 0, "recipe", ())
        assert (run.column, run.line(f"data.{name}")) == (f"{name} 0.1, bank_size 50", "SST, bank_size 50")


def test_a_list_of_grids_is_tried_one_after_the_other(file):
    single = '{data.protocol: [single_positive], data.proportion: [""]}'
    grids = f"grid:\n  - {{data.proportion: [0.5, 1.0]}}\n  - {single}"
    file.write_text(file.read_text().replace("grid:\n  data.proportion: [0.5, 1.0]", grids))
    runs = sweep.read_sweep(file).runs
    columns = list(dict.fromkeys(planned.column for planned in runs if planned.row == "SST"))
    assert columns == ["proportion 0.5", "proportion 1.0", "protocol single_positive"]
    recipe = Recipe.load(runs[4].recipe, list(runs[4].overrides))
    assert recipe.data.settings["protocol"] == "single_positive" and "proportion" not in recipe.data.settings


def test_a_column_without_the_setting_of_the_axis_is_not_in_the_chart(file, tmp_path):
    single = '{data.protocol: [single_positive], data.proportion: [""]}'
    grids = f"grid:\n  - {{data.proportion: [0.5, 1.0]}}\n  - {single}"
    file.write_text(file.read_text().replace("grid:\n  data.proportion: [0.5, 1.0]", grids))
    assert main(["sweep", str(file), "--output", str(tmp_path / "out"), "--table"]) == 0


def test_one_proportion_makes_no_chart(file, started, tmp_path):
    file.write_text(file.read_text().replace("[0.5, 1.0]", "[0.5]"))
    assert main(["sweep", str(file), "--output", str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out" / "chart.png").exists()


def test_results_of_another_sweep_count(file, started, tmp_path, capsys):
    assert main(["sweep", str(file), "--output", str(tmp_path / "first")]) == 0
    more = ["sweep", str(file), "--output", str(tmp_path / "second"), "--results"]
    assert main([*more, str(tmp_path / "first" / "results.jsonl")]) == 0
    assert len(started.commands) == 6, "nothing ran again"
    tables = [(tmp_path / folder / "table.md").read_text() for folder in ("first", "second")]
    assert tables[0] == tables[1] and "61.0 ± 1.4" in tables[0]
    assert main([*more, str(tmp_path / "nothing.jsonl")]) == 2
    assert "nothing.jsonl, neither as a file nor among the shipped ones" in capsys.readouterr().err


@pytest.mark.parametrize(
    "metric, words",
    [("test_map", "mAP on test images"), ("validation_mean_f1", "mean F1 on validation images"), ("a_b", "a b")],
)
def test_numbers_in_words(metric, words):
    assert in_words(metric) == words


@pytest.mark.slow
def test_a_run_has_a_process_of_its_own(tmp_path):
    serve()
    began = time.monotonic()
    ended = sweep._run_command(["list", "recipes"], tmp_path / "log.txt")
    assert ended.code == 0 and 0 < ended.cpu_seconds <= time.monotonic() - began + 1
    assert "sst/digit_scenes_10" in (tmp_path / "log.txt").read_text()
    assert sweep._run_command(["train", "nothing"], tmp_path / "log.txt").code == 2
    assert "error: There is no recipe 'nothing'" in (tmp_path / "log.txt").read_text()


def say_how_workers_start(log, cpu_seconds):
    """The life of a run, with another command."""
    cli_main.main = lambda command: print(multiprocessing.get_start_method())
    sweep._command_process([], log, cpu_seconds)


@pytest.mark.slow
def test_workers_of_a_run_start_as_those_of_any_other(tmp_path):
    """Else each imports everything, and lives on when the run is killed."""
    serve()
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=say_how_workers_start, args=(tmp_path / "log.txt", sender))
    process.start()
    assert exit_codes(process) == [0] and receiver.poll()
    assert (tmp_path / "log.txt").read_text().strip() == multiprocessing.get_start_method()


@pytest.mark.slow
def test_a_run_ends_with_its_sweep(tmp_path):
    """Else it would still write into the folder in which the next sweep resumes it."""
    os.mkfifo(tmp_path / "pipe")  # a command that reads it waits for what is written
    script = (
        "import sys; from pathlib import Path; from hf_mlrpl.cli import sweep; sweep._PRELOADED.clear(); "
        "sweep._run_command(['sweep', sys.argv[1]], Path(sys.argv[2]))"
    )
    log = tmp_path / "log.txt"
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "pipe"), str(log)])
    deadline = time.monotonic() + 90
    pipe = None
    while pipe is None:
        assert time.monotonic() < deadline, log.read_text()
        with suppress(OSError):  # nobody reads it yet
            pipe = os.open(tmp_path / "pipe", os.O_WRONLY | os.O_NONBLOCK)
        time.sleep(0.05)
    process.kill()
    process.wait()
    with pytest.raises(BrokenPipeError):
        while time.monotonic() < deadline:
            os.write(pipe, b"\n")
            time.sleep(0.05)
    os.close(pipe)


def test_finished_runs_are_kept(file, started, tmp_path):
    command = ["sweep", str(file), "--output", str(tmp_path / "out")]
    assert main(command) == 0
    with open(tmp_path / "out" / "results.jsonl", "a") as results:
        results.write('{"key": "half a li')  # interrupted while writing
    assert main(command) == 0
    assert len(started.commands) == 6
    file.write_text(file.read_text().replace("seeds: [0, 1]", "seeds: [0, 1, 2]"))
    for _ in range(2):
        assert main(command) == 0
        assert len(started.commands) == 9, "the next result does not end up in the line that was cut off"
    assert "62.0 ± 2.0" in (tmp_path / "out" / "table.md").read_text()


def test_a_failed_run_is_named_and_tried_again(file, started, tmp_path, capsys):
    command = ["sweep", str(file), "--output", str(tmp_path / "out")]
    started.failing = ("SST-proportion_0.5-seed1",)
    assert main(command) == 2
    message = capsys.readouterr().err
    assert "1 of 6 runs failed" in message and "SST-proportion_0.5-seed1: exit code 2, error: the reason" in message
    assert len(results_in(file, tmp_path / "out")) == 5, "the others went on"
    assert main([*command, "--table"]) == 0
    assert "| SST | 60.0 (1 of 2 seeds) | 61.0 ± 1.4 |" in capsys.readouterr().out
    started.failing = ()
    assert main(command) == 0
    assert len(started.commands) == 7


def test_a_run_with_other_settings_is_not_resumed(file, started, tmp_path):
    """The folder is named after row, column and seed alone, and an interrupted run left its checkpoints there."""
    command, folder = ["sweep", str(file), "--output", str(tmp_path / "out")], "SST-proportion_0.5-seed0"
    started.failing = (folder,)
    assert main(command) == 2
    settings = [*sweep.read_sweep(file).runs[0].settings, "training.report_to=none", "training.disable_tqdm=true"]
    recipe = Recipe.load(tmp_path / "tiny.yaml", settings)
    recipe.save(tmp_path / "out" / folder / "recipe.yaml")
    assert main(command) == 2 and started.commands[-1][-1] == "--resume"
    file.write_text(file.read_text().replace("grid:", "overrides: [training.learning_rate=0.5]\ngrid:", 1))
    assert main(command) == 2
    again = [command for command in started.commands[-6:] if folder in command[-2]]
    assert [command[-1] for command in again] == ["--overwrite"]


def test_a_result_names_the_code_that_made_it(file, started, tmp_path):
    assert main(["sweep", str(file), "--output", str(tmp_path / "out")]) == 0
    results = results_in(file, tmp_path / "out")
    assert {result["code"] for result in results.values()} == {sweep.code_version()}
    assert re.fullmatch(r"[0-9a-f]{12}(-dirty)?|" + re.escape(__version__), sweep.code_version())


def test_a_sweep_needs_a_job(file, tmp_path, capsys):
    assert main(["sweep", str(file), "--output", str(tmp_path / "out"), "--jobs", "0"]) == 2
    assert "`--jobs` must be at least 1, got 0" in capsys.readouterr().err


def test_runs_at_the_same_time_share_the_cores(file, started, tmp_path):
    assert main(["sweep", str(file), "--output", str(tmp_path / "out"), "--jobs", "3"]) == 0
    assert os.environ["OMP_NUM_THREADS"] == str(max(1, os.cpu_count() // 3))
    assert len(results_in(file, tmp_path / "out")) == 6


def test_a_table_before_anything_has_run(file, tmp_path, capsys):
    assert main(["sweep", str(file), "--output", str(tmp_path / "out"), "--table"]) == 0
    assert "| SST | not run | not run |" in capsys.readouterr().out


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("runs:", "rnus:", "must have a list `runs`"),
        ("seeds:", "seed:", "has no key `seed`. Did you mean `seeds`?"),
        ("overrides:", "override:", "has no key `override`. Did you mean `overrides`?"),
        ("objective.cooccurrence_weight", "objective.cooccurence_weight", "Did you mean `cooccurrence_weight`?"),
        ("data.proportion: [0.5, 1.0]", "data.proportion: 0.5", "`grid` must"),
        ("grid:", "grid: [", "is not valid YAML"),
        ("recipe:", "overrides:", "must be a mapping with at least `recipe`"),
        ("seeds: [0, 1]", "seeds: 2", "Recipe key `sweep.seeds` must be a list, got 2"),
        ("metrics: [test_map]", "metrics: test_map", "Recipe key `sweep.metrics` must be a list, got 'test_map'"),
        ("no pair loss", "SST", "2 runs would share the folder SST-proportion_0.5-seed0. Give each of `runs`"),
    ],
)
def test_a_mistake_in_the_file_is_found_before_a_run_starts(file, started, tmp_path, old, new, message, capsys):
    file.write_text(file.read_text().replace(old, new, 1))
    assert main(["sweep", str(file), "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert started.commands == []


def test_a_file_that_does_not_exist_is_an_error(tmp_path, capsys):
    assert main(["sweep", str(tmp_path / "nothing.yaml")]) == 2
    assert "nothing.yaml" in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_trains(tmp_path, monkeypatch):
    serve()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    recipe = write_recipe(tmp_path, "partial_bce", training={"max_steps": 1})
    (tmp_path / "one.yaml").write_text(f"runs: [{{name: BCE, recipe: {recipe}}}]")
    output = tmp_path / "out"
    assert main(["sweep", str(tmp_path / "one.yaml"), "--output", str(output)]) == 0
    (result,) = results_in(tmp_path / "one.yaml", output).values()
    assert 0 < result["metrics"]["test_map"] <= 100 and result["metrics"]["train_seconds"] > 0
    assert result["seconds"] > 0 and result["cpu_seconds"] > 0
    run = output / "BCE--seed0"
    assert (run / "model.safetensors").is_file() and (run / "report_test" / "labels.csv").is_file()
    assert not list(run.rglob("*.png"))


def test_a_number_that_a_method_does_not_have_is_a_dash(file, started, tmp_path, capsys):
    command = ["sweep", str(file), "--output", str(tmp_path / "out")]
    assert main(command) == 0
    capsys.readouterr()
    assert main([*command, "--table", "--metrics", "pseudo_labels_intra"]) == 0
    assert "| SST | - | - |" in capsys.readouterr().out
