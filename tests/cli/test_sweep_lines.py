import json
from pathlib import Path

import pytest
from test_sweep import Started, results_in
from tiny import write_recipe

from hf_mlrpl.cli import sweep
from hf_mlrpl.cli.main import main
from hf_mlrpl.cli.sweep_file import read_sweep
from hf_mlrpl.cli.sweep_lines import Finished, digests_of, line_of, read_finished, read_lines

SWEEP = """
seeds: [0, 1]
grid: {{data.proportion: [0.5]}}
runs:
  - {{name: SST, recipe: {recipe}}}
  - {{name: no pair loss, recipe: {recipe}, overrides: [objective.cooccurrence_weight=0]}}
metrics: [test_map]
baseline: SST
claims: [{{better: no pair loss, worse: SST, columns: [proportion 0.5]}}]
"""


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "table.yaml"
    path.write_text(SWEEP.format(recipe=write_recipe(tmp_path)))
    return path


@pytest.fixture
def started(monkeypatch) -> Started:
    started = Started()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(sweep, "_run_command", started)
    return started


def write_lines(file: Path, output: Path, **changes) -> None:
    """Results of all runs, each with what `changes` says."""
    runs = read_sweep(file).runs
    digests = digests_of(runs)
    lines = [json.loads(line_of(run, digests[run.key], "code", 60.0, 30.0, {"test_map": 50.0})) for run in runs]
    output.mkdir(exist_ok=True)
    text = "".join(json.dumps({k: v for k, v in (line | changes).items() if v is not None}) + "\n" for line in lines)
    (output / "results.jsonl").write_text(text)


def test_a_changed_recipe_makes_other_runs_of_the_same_name(file, started, tmp_path, capsys):
    command = ["sweep", str(file), "--output", str(tmp_path / "out")]
    assert main(command) == 0 and len(started.commands) == 4
    assert main(command) == 0 and len(started.commands) == 4
    assert "another recipe" not in capsys.readouterr().out
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(recipe.read_text() + "# a comment\n")
    assert main(command) == 0 and len(started.commands) == 4, "comments do not count"
    recipe.write_text(recipe.read_text().replace("cooccurrence_dim: ", "cooccurrence_dim: 1"))
    assert main([*command, "--table"]) == 0
    shown = capsys.readouterr().out
    assert "4 runs of SST, no pair loss have results of another recipe" in shown and "| SST | not run |" in shown
    assert main(command) == 0 and len(started.commands) == 8
    assert "They do not count" in capsys.readouterr().out
    assert main(command) == 0 and len(started.commands) == 8
    assert "They do not count" not in capsys.readouterr().out, "there are new ones of all"


def test_results_that_do_not_say_what_was_run_do_not_count(file, started, tmp_path, capsys):
    write_lines(file, tmp_path / "out", digest=None)
    assert main(["sweep", str(file), "--output", str(tmp_path / "out"), "--table"]) == 0
    assert "4 runs of SST, no pair loss have results" in capsys.readouterr().out
    assert results_in(file, tmp_path / "out") == {}


def test_runs_of_a_recipe_that_changes_while_they_wait_do_not_start(file, started, tmp_path, capsys):
    recipe = tmp_path / "tiny.yaml"

    def start_and_edit(command, log):
        recipe.write_text(recipe.read_text().replace("cooccurrence_dim: ", "cooccurrence_dim: 1", 1))
        return started(command, log)

    sweep._run_command = start_and_edit  # the fixture `started` puts the real one back
    assert main(["sweep", str(file), "--output", str(tmp_path / "out")]) == 2
    assert len(started.commands) == 1
    assert "3 of 4 runs failed" in (message := capsys.readouterr().err)
    assert f"the recipe {recipe} has changed since the sweep began; start it again" in message


def test_the_folder_of_a_file_is_no_part_of_a_run(tmp_path):
    def digest(*overrides: str) -> str:
        text = f"runs: [{{name: A, recipe: ssgrl/voc2007_frozen_10, overrides: {list(overrides)}}}]"
        (tmp_path / "one.yaml").write_text(text)
        return next(iter(digests_of(read_sweep(tmp_path / "one.yaml").runs).values()))

    here = digest("data.path=../photos", "model.pretrained=/weights/b0.safetensors")
    assert here == digest("model.pretrained=b0.safetensors", "data.path=/data/photos/")
    assert here == digest("data.path=C:\\data\\photos", "model.pretrained=\\weights\\b0.safetensors")
    assert here == digest("data.path=../photos", "model.pretrained=b0.safetensors", "training.allow_no_negatives=true")
    assert here != digest("data.path=../photos", "model.pretrained=b1.safetensors")
    assert here != digest("data.path=../photos", "model.pretrained=b0.safetensors", "training.max_steps=1")


def test_results_of_runs_that_differ_in_a_folder_alone_would_be_mixed(file, tmp_path, capsys):
    recipe = write_recipe(tmp_path, model={"pretrained": False})
    runs = [f"{{name: {name}, recipe: {recipe}, overrides: [model.pretrained=/{name}/best]}}" for name in "AB"]
    file.write_text(f"runs: [{', '.join(runs)}]")
    assert main(["sweep", str(file), "--output", str(tmp_path / "out")]) == 2
    assert "B--seed0 and A--seed0 differ only in the folders" in capsys.readouterr().err


def test_a_result_that_is_not_a_number_is_left_out_and_named(file, started, tmp_path, capsys):
    started.without_number = ("SST-proportion_0.5-seed1",)
    command = ["sweep", str(file), "--output", str(tmp_path / "out")]
    assert main(command) == 0
    text = (tmp_path / "out" / "results.jsonl").read_text()
    assert '"test_map": null' in text and "NaN" not in text
    for content in (text, text.replace("null", "NaN")):  # as earlier versions wrote it
        (tmp_path / "out" / "results.jsonl").write_text(content)
        assert main([*command, "--table"]) == 0
        shown = capsys.readouterr().out
        assert "| SST | 60.0 (1 of 2 seeds) |" in shown and "| no pair loss | +0.0 (one pair) |" in shown
        assert "not a number are left out: SST, proportion 0.5, seed 1 has none for test_map." in shown
    assert main([*command, "--table", "--metrics", "train_seconds"]) == 0
    assert "left out" not in capsys.readouterr().out
    assert main(command) == 0 and len(started.commands) == 4, "it has run"


def test_the_lines_say_how_long_all_of_it_took(file, tmp_path):
    write_lines(file, tmp_path / "out", seconds=2700, cpu_seconds=1800)
    runs = read_sweep(file).runs
    done = read_finished(runs, tmp_path / "out" / "results.jsonl")
    assert done.describe_time() == "4 runs, 3.0 hours of processes, 2.0 hours of processors"
    del done.results[runs[0].key]["seconds"]
    assert done.describe_time().endswith("3 runs, 2.2 hours of processes, 1.5 hours of processors; 1 more do not say")
    assert Finished({}).describe_time() == ""


@pytest.mark.parametrize("time", [None, "a day", [1], -1.0, float("nan"), True])
@pytest.mark.parametrize("name", ["seconds", "cpu_seconds"])
def test_a_time_that_is_none_is_a_run_that_does_not_say(file, tmp_path, name, time):
    write_lines(file, tmp_path / "out")
    runs = read_sweep(file).runs
    done = read_finished(runs, tmp_path / "out" / "results.jsonl")
    done.results[runs[0].key][name] = time
    assert done.describe_time() == "3 runs, 3.0 minutes of processes, 1.5 minutes of processors; 1 more do not say"


@pytest.mark.parametrize("number", ["true", "1" + 400 * "0", "[50]"])
def test_what_only_looks_like_a_number_is_none(file, tmp_path, number):
    write_lines(file, tmp_path / "out")
    results = tmp_path / "out" / "results.jsonl"
    results.write_text(results.read_text().replace("50.0", number, 1))
    done = read_finished(read_sweep(file).runs, results)
    assert [name for _, name in done.without_number] == ["test_map"]


@pytest.mark.parametrize(
    "line",
    ["null", "5", "[]", "{}", '{"digest": "a", "metrics": null}', '{"digest": [1], "metrics": {}}']
    + ['{"key": [1], "metrics": {}}', '{"digest": "a"}'],
)
def test_a_line_that_is_no_result_is_named(file, tmp_path, capsys, line):
    write_lines(file, tmp_path / "out")
    with open(tmp_path / "out" / "results.jsonl", "a") as results:
        results.write(line)
    assert main(["sweep", str(file), "--output", str(tmp_path / "out"), "--table"]) == 2
    assert "results.jsonl, line 5 must be the result of a run" in capsys.readouterr().err


def test_lines_are_read_as_editors_write_them_and_what_is_left_out_is_named(file, tmp_path, caplog):
    write_lines(file, tmp_path / "out")
    results = tmp_path / "out" / "results.jsonl"
    whole = results.read_text()
    for text in (whole.replace("\n", "\r\n"), "\ufeff" + whole, whole.replace('"code": "', '"code": "\u2028')):
        results.write_bytes(text.encode())
        assert len(read_lines(results)) == 4 and not caplog.text
    results.write_text(whole.replace("\n", "", 1)[:-30])
    assert len(read_lines(results)) == 1
    assert (
        f"Not read, for they are cut off or not one result a line: {results}, line 1, {results}, line 3."
        in caplog.text
    )
    results.write_bytes(whole.encode("utf-16"))
    with pytest.raises(ValueError, match=r"results\.jsonl"):
        read_lines(results)


def test_runs_that_share_all_but_an_empty_section_share_a_result(tmp_path):
    recipe = tmp_path / "one.yaml"
    recipe.write_text("method: partial_bce\ndata: {name: digit_scenes, protocol: random_known, proportion: 0.5}\n")
    same = f"{{name: A, recipe: {recipe}}}, {{name: B, recipe: {recipe}, grid: {{training.max_steps: ['', 5]}}}}"
    (tmp_path / "sweep.yaml").write_text(f"runs: [{same}]")
    digests = digests_of(read_sweep(tmp_path / "sweep.yaml").runs)
    assert len(digests) == 3 and len({*digests.values()}) == 2
