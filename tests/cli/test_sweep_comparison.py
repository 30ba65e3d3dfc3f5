import pytest
from scipy.stats import ttest_rel
from test_sweep_file import results_of
from tiny import write_recipe

from hf_mlrpl.cli.main import main
from hf_mlrpl.cli.sweep import describe_comparison, show
from hf_mlrpl.cli.sweep_comparison import compare, critical_difference, difference, mean_ranks
from hf_mlrpl.cli.sweep_file import read_sweep
from hf_mlrpl.visualization.ranks import _groups, plot_mean_ranks

SWEEP = """
seeds: [0, 1, 2]
metrics: [test_map]
baseline: A
grid: {{data.proportion: [0.5]}}
runs:
  - {{name: A, recipe: {recipe}}}
  - {{name: B, recipe: {recipe}, overrides: [training.max_steps=1]}}
  - {{name: C, recipe: {recipe}, overrides: [training.max_steps=2], grid: {{data.proportion: [0.5, 1.0]}}}}
claims:
  - {{better: B, worse: A, columns: [proportion 0.5], source: Table 1}}
  - {{better: A, worse: B, columns: [proportion 0.5]}}
  - {{better: C, worse: A, columns: [proportion 0.5]}}
"""
VALUES = {"A": (50.0, 60.0, 70.0), "B": (52.0, 61.5, 72.5), "C": (40.0, 65.0, 71.0)}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "table.yaml"
    path.write_text(SWEEP.format(recipe=write_recipe(tmp_path)))
    return path


@pytest.fixture
def results(file):
    return results_of(file, lambda run: None if "1.0" in run.column else VALUES[run.row][run.seed])


def test_differences_are_those_of_equal_seeds_with_their_interval(file, results):
    seen = difference(read_sweep(file), results, "B", "A", "proportion 0.5", "test_map")
    assert seen.values == [2.0, 1.5, 2.5] and seen.verdict == "confirmed"
    interval = ttest_rel(VALUES["B"], VALUES["A"]).confidence_interval(0.95)
    assert seen.half_width == pytest.approx((interval.high - interval.low) / 2)
    assert difference(read_sweep(file), results, "A", "B", "proportion 0.5", "test_map").verdict == "reversed"


def test_a_table_with_differences_and_mean_ranks(file, results):
    assert compare(read_sweep(file), results, "A", "test_map").to_markdown().splitlines()[2:] == [
        "| A |  |  | 2.7 |",
        "| B | +2.0 ± 1.2 |  | 1.3 |",
        "| C | -1.3 ± 19.3 |  | 2.0 |",
    ]


def test_claims_are_judged(file, results):
    lines = describe_comparison(read_sweep(file), results, "test_map").splitlines()
    assert lines[-3:] == [
        "| B over A (Table 1) | proportion 0.5 | +2.0 ± 1.2 | confirmed |",
        "| A over B | proportion 0.5 | -2.0 ± 1.2 | reversed |",
        "| C over A | proportion 0.5 | -1.3 ± 19.3 | within chance |",
    ]


def test_one_pair_says_nothing_and_none_is_not_run(file):
    one = results_of(file, lambda run: VALUES[run.row][0] if run.seed == 0 and run.row != "C" else None)
    lines = describe_comparison(read_sweep(file), one, "test_map").splitlines()
    assert lines[-3].endswith("| +2.0 (one pair) | within chance |")
    assert lines[-1].endswith("| not run | not run |")


def test_rows_that_did_not_run_everywhere_have_no_rank(file):
    some = results_of(file, lambda run: None if (run.row, run.seed) == ("C", 2) else VALUES[run.row][run.seed])
    assert mean_ranks(read_sweep(file), some, "test_map") == {"A": 2.0, "B": 1.0}


def test_ranks_are_those_of_the_columns_of_the_baseline(file, results):
    elsewhere = results_of(file, lambda run: 99.0 if "1.0" in run.column else None)
    assert mean_ranks(read_sweep(file), results | elsewhere, "test_map") == pytest.approx(
        {"A": 8 / 3, "B": 4 / 3, "C": 2}
    )


def test_the_critical_difference_is_that_of_the_literature():
    """Demsar, JMLR 2006, section 3.2.2: 4 classifiers on 14 data sets."""
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.01)


def test_lines_join_all_that_chance_may_have_ordered():
    assert _groups([1.0, 1.5, 2.4, 4.0], 1.0) == [(0, 1), (1, 2)]
    assert _groups([1.0, 3.0], 1.0) == []
    figure = plot_mean_ranks({"A": 2.0, "B": 1.0, "C": 1.5}, 0.8)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["B", "C", "A"]


def test_less_is_better_where_a_metric_says_what_it_costs(file, results):
    seconds = {key: {"metrics": {"train_seconds": run["metrics"]["test_map"]}} for key, run in results.items()}
    sweep = read_sweep(file)
    assert mean_ranks(sweep, seconds, "train_seconds") == pytest.approx({"A": 4 / 3, "B": 8 / 3, "C": 2.0})
    lines = describe_comparison(sweep, seconds, "train_seconds").splitlines()
    assert [line.split(" | ")[-1] for line in lines[-3:]] == ["reversed |", "confirmed |", "within chance |"]


def test_columns_of_averages_are_compared_where_both_rows_average_the_same(file):
    text = file.read_text().replace("grid: {data.proportion: [0.5]}", "grid: {data.proportion: [0.5, 1.0]}")
    text = text.replace("overrides: [training.max_steps=2], grid: {data.proportion: [0.5, 1.0]}", "overrides: [a.b=2]")
    text = text.replace("better: B, worse: A, columns: [proportion 0.5]", "better: B, worse: A, columns: [average]")
    file.write_text(text.replace("baseline:", "average: data.proportion\nonly_average: true\nbaseline:", 1))
    sweep = read_sweep(file)
    runs = results_of(file, lambda run: VALUES[run.row][run.seed] + 10 * run.cell[0][1] * (run.row == "B"))
    lines = describe_comparison(sweep, runs, "test_map").splitlines()
    assert lines[2] == "| method | test_map average | mean rank |" and lines[5].startswith("| B | +9.5 ± 1.2 |")
    assert "| B over A (Table 1) | average | +9.5 ± 1.2 | confirmed |" in lines
    file.write_text(file.read_text().replace("overrides: [a.b=2]", "grid: {data.proportion: [0.5]}"))
    assert difference(read_sweep(file), runs, "C", "A", "average", "test_map").planned == 0


def test_rows_may_be_numbers_as_their_names_may(file):
    text = (
        file.read_text()
        .replace("name: B", "name: 2")
        .replace("better: B", "better: 2")
        .replace("worse: B", "worse: 2")
    )
    file.write_text(text)
    assert read_sweep(file).claims[0].better == "2"


def test_nothing_of_earlier_rows_is_left(file, results, tmp_path):
    sweep = read_sweep(file)
    known = {run.key: None for run in sweep.runs}
    show(sweep, results, known, tmp_path)
    assert {"comparison.md", "ranks.png"} <= {path.name for path in tmp_path.iterdir()}
    show(sweep.select(["C"]), results, known, tmp_path)
    assert not {"comparison.md", "ranks.png"} & {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("baseline: A", "baseline: D", "`baseline` is 'D'"),
        ("better: B", "better: D", "'D' in 'proportion 0.5', which is not in the table"),
        ("columns: [proportion 0.5]}", "columns: [proportion 0.7]}", "'proportion 0.7'"),
        ("source: Table 1", "sauce: Table 1", "an entry of `claims` must have"),
        ("better: B, ", "", "an entry of `claims` must have"),
        ("better: B, worse: A", "better: A, worse: A", "'A' with itself"),
        ("columns: [proportion 0.5]", "columns: proportion 0.5", "must be a list of at least one column, got 'prop"),
        ("columns: [proportion 0.5]", "columns: []", "must be a list of at least one column, got []"),
        ("columns: [proportion 0.5]", "columns: ", "must be a list of at least one column, got None"),
        ("better: B", "better: [B]", "\"['B']\" in 'proportion 0.5', which is not in the table"),
        (
            "columns: [proportion 0.5]",
            "columns: [0.5]",
            "'0.5', which is not in the table. Available: proportion 0.5.",
        ),
        ("seeds: [0, 1, 2]", "seeds: []", "`seeds` is an empty list"),
        ("metrics: [test_map]", "metrics: []", "`metrics` is an empty list"),
    ],
)
def test_what_is_not_in_the_table_cannot_be_compared(file, old, new, message, capsys):
    file.write_text(file.read_text().replace(old, new, 1))
    assert main(["sweep", str(file), "--table"]) == 2
    assert message in capsys.readouterr().err
