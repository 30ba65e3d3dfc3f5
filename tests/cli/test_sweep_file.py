from pathlib import Path

import pytest
from tiny import write_recipe

from hf_mlrpl.cli import sweep
from hf_mlrpl.cli.main import main
from hf_mlrpl.cli.sweep_file import read_sweep
from hf_mlrpl.cli.sweep_lines import digests_of, line_of
from hf_mlrpl.hub.shipped import sweep_files
from hf_mlrpl.recipe.document import Recipe

SWEEP = """
seeds: [0, 1]
metrics: [test_map]
average: data.proportion
shared:
  - &quick [training.max_steps=1, training.save_strategy=no]
grid: {{data.proportion: [0.5, 1.0]}}
runs:
  - {{name: A, column: here, recipe: {recipe}, overrides: [*quick, data.seed=3], published: [10, 20, 15.5]}}
  - {{name: A, column: there, recipe: {recipe}, overrides: [objective.vote=sum], published: 30}}
  - {{name: B, column: here, recipe: {recipe}, overrides: [objective.bank_size=3]}}
"""


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "table.yaml"
    path.write_text(SWEEP.format(recipe=write_recipe(tmp_path)))
    return path


def results_of(file, value) -> dict:
    """Results of runs for which `value(run)` is a number."""
    runs = [run for run in read_sweep(file).runs if value(run) is not None]
    return {run.key: {"metrics": {"test_map": value(run)}} for run in runs}


def table_of(file, results) -> list[str]:
    return sweep.make_table(read_sweep(file), results).to_markdown().splitlines()


def test_columns_averages_and_published_numbers_of_several_entries_are_one_row(file):
    assert table_of(file, {}) == [
        "| method | test_map here, proportion 0.5 | test_map here, proportion 1.0 | test_map here, average "
        "| test_map there, proportion 0.5 | test_map there, proportion 1.0 | test_map there, average |",
        "|---|---|---|---|---|---|---|",
        "| A | not run | not run | not run | not run | not run | not run |",
        "| A, published | 10 | 20 | 15.5 |  |  | 30 |",
        "| B | not run | not run | not run |  |  |  |",
    ]


def test_an_average_is_over_the_columns_of_a_seed_that_has_all_of_them(file):
    def value(run):
        missing = (run.row, run.cell[0][1], run.seed) == ("B", 1.0, 1)
        return None if missing else 10 * run.cell[0][1] + run.seed

    lines = table_of(file, results_of(file, value))
    assert lines[2].startswith("| A | 5.5 ± 0.7 | 10.5 ± 0.7 | 8.0 ± 0.7 |")
    assert lines[4].startswith("| B | 5.5 ± 0.7 | 10.0 (1 of 2 seeds) | 7.5 (1 of 2 seeds) |")


def test_only_the_averages(file):
    file.write_text(file.read_text().replace("average:", "only_average: true\naverage:", 1))
    assert table_of(file, {})[0] == "| method | test_map here, average | test_map there, average |"


def test_a_shared_list_stands_for_its_overrides(file):
    run = read_sweep(file).runs[0]
    assert run.overrides == ("training.max_steps=1", "training.save_strategy=no", "data.seed=3", "data.proportion=0.5")


def test_a_seed_may_draw_the_known_labels_too(file):
    file.write_text(file.read_text().replace("seeds:", "seed_settings: [training.seed, data.seed]\nseeds:", 1))
    assert read_sweep(file).runs[1].settings[-2:] == ["training.seed=1", "data.seed=1"]


def test_any_setting_is_the_x_axis(tmp_path, monkeypatch, capsys):
    file, output = tmp_path / "x.yaml", tmp_path / "out"
    file.write_text(
        f"metrics: [test_map]\nx: objective.bank_size\ngrid: {{objective.bank_size: [5, 10]}}\n"
        f"runs: [{{name: A, recipe: {write_recipe(tmp_path)}, published: [1.5, 2]}}]\n"
    )
    output.mkdir()
    runs = read_sweep(file).runs
    digests = digests_of(runs)
    lines = [line_of(run, digests[run.key], "", 1.0, 1.0, {"test_map": 3.0}) for run in runs]
    (output / "results.jsonl").write_text("".join(lines))
    charts = []
    monkeypatch.setattr(sweep, "chart", lambda *what: charts.append(what))
    assert main(["sweep", str(file), "--output", str(output), "--table"]) == 0
    assert charts == [({"A": {5: [3.0], 10: [3.0]}}, "test_map", "objective.bank_size", {"A": {5: 1.5, 10: 2}})]
    monkeypatch.undo()
    assert main(["sweep", str(file), "--output", str(output), "--table"]) == 0
    assert (output / "chart.png").is_file()


def test_rows_are_chosen_by_name(file, tmp_path, capsys):
    command = ["sweep", str(file), "--output", str(tmp_path / "out"), "--table", "--rows"]
    assert main([*command, "B"]) == 0
    assert [line[:5] for line in capsys.readouterr().out.splitlines()[2:]] == ["| B |"]
    assert main([*command, "b"]) == 2
    assert "The sweep has no row 'b'. Did you mean 'B'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("published: 30", "published: [1, 2]", ""),
        ("published: 30", "published: [1]", "`published` of A must be 2 numbers, one for each column, and one more"),
        ("published: 30", "published: {test_mpa: 3}", "such numbers for each of test_map. Got"),
        ("published: 30", "published: many", "must hold numbers, or null for none, got 'many'"),
        ("average: data.proportion", "average: data.fraction", "`average` is data.fraction, which no `grid` has"),
        ("average:", "x: objective.vote\naverage:", "`x` is objective.vote, which no `grid` has"),
    ],
)
def test_mistakes_of_a_sweep_file(file, tmp_path, old, new, message, capsys):
    file.write_text(file.read_text().replace(old, new, 1))
    code = main(["sweep", str(file), "--output", str(tmp_path / "out"), "--table"])
    assert code == (2 if message else 0) and message in capsys.readouterr().err


def test_places_of_data_are_asked_for_before_a_run_and_are_no_part_of_it(tmp_path, monkeypatch, capsys):
    commands = []

    def start(command, log):
        commands.append(command)
        (Path(command[command.index("--output") + 1]) / "metrics.json").write_text('{"test_map": 1}')
        return sweep.Ended(0, 1.0)

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(sweep, "_run_command", start)
    command = ["sweep", "sst_figure_3", "--rows", "CST, proportion 0.2", "--output", str(tmp_path / "out")]
    assert main(command) == 2
    assert "Nothing has run yet: say where the data are, `--data coco.path=...`" in capsys.readouterr().err
    assert commands == [] and not (tmp_path / "out").exists()
    assert main([*command, "--data", "coco.path=/data/coco"]) == 0
    assert len(commands) == 7 and all("data.path=/data/coco" in started for started in commands)
    assert "/data" not in (tmp_path / "out" / "results.jsonl").read_text()
    for wrong, message in (("coco.proportion=1", "one of the keys path, list, labels"), ("coc.path=1", "mean 'coco'")):
        assert main([*command, "--data", wrong]) == 2
        assert message in capsys.readouterr().err


def test_an_unknown_sweep_is_an_error_that_offers_the_closest(capsys):
    assert main(["sweep", "sst_tabel_1"]) == 2
    assert "Did you mean 'sst_table_1'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(sweep_files(".yaml")))
def test_rows_of_a_shipped_sweep_are_different_runs(name):
    """A setting that a recipe has already would make two rows the same run under two names."""
    runs: dict[str, str] = {}
    planned = read_sweep(sweep_files(".yaml")[name]).runs
    for run in planned:
        if run.seed == planned[0].seed:
            recipe = Recipe.load(run.recipe, run.settings).to_yaml()
            assert runs.setdefault(recipe, run.key) == run.key, f"{run.row} in {run.column}"
