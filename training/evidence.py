"""Writes the tables of EVIDENCE.md and of the README, and the chart of ranks, from the results of the sweeps:
`python training/evidence.py`.

A table stands between `<!-- table: SWEEP METRIC ... -->` and `<!-- end -->`; `differences` in the place of `table` has
differences to the baseline of the sweep, `summary` has both, `completed` the labels that methods completed, `claims`
judges what papers say. `rows: A; B` chooses rows, `columns: proportion 0.1 = 10 % known` columns and their titles.
"""

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hf_mlrpl.cli.sweep import make_table, ranks_chart
from hf_mlrpl.cli.sweep_comparison import compare, judge
from hf_mlrpl.cli.sweep_file import Sweep, find_sweep, read_sweep
from hf_mlrpl.cli.sweep_lines import Finished, read_finished
from hf_mlrpl.cli.sweep_results import HasText, Published, Table

PAGE = Path(__file__).with_name("EVIDENCE.md")
README = Path(__file__).parents[1] / "README.md"
COMPLETED = "pseudo_labels_"
BLOCK = re.compile(
    r"(?P<head><!-- (?P<kind>table|differences|summary|completed|claims): (?P<sweep>\w+) (?P<metrics>[\w ]+?)"
    r"(?: columns: (?P<columns>[^>]+?))?(?: rows: (?P<rows>[^>]+))? -->\n).*?<!-- end -->",
    re.DOTALL,
)


def with_tables(text: str) -> str:
    """`text` with the tables that the results say now."""

    def renew(block: re.Match) -> str:
        rows = block["rows"].split("; ") if block["rows"] else None
        titles = dict(column.split(" = ") for column in block["columns"].split("; ")) if block["columns"] else {}
        table = _table(block["kind"], block["sweep"], block["metrics"].split(), rows, titles)
        return f"{block['head']}{table}\n<!-- end -->"

    return BLOCK.sub(renew, text)


@cache
def _finished(name: str) -> Finished:
    return read_finished(read_sweep(find_sweep(name)).runs, find_sweep(name, ".jsonl"))


def _table(kind: str, name: str, metrics: list[str], rows: list[str] | None, titles: dict[str, str]) -> str:
    sweep = replace(read_sweep(find_sweep(name)), metrics=metrics)
    if rows is not None:
        sweep = sweep.select(rows)
    results = _finished(name).results
    done = [run for run in sweep.runs if run.key in results]
    empty = [column for column in sweep.columns() if all(run.column != column for run in done)]
    shown = replace(sweep, runs=[run for run in sweep.runs if run.column not in empty])
    if kind == "differences":
        return compare(shown, results, shown.baseline, metrics[0]).to_markdown().strip()
    if kind == "summary":
        return _summary(sweep, results, metrics[0], titles).to_markdown().strip()
    if kind == "completed":
        return _completed(sweep, results, titles).to_markdown().strip()
    if kind == "claims":
        return judge(sweep, results, metrics[0]).strip()
    if not done:
        return f"0 of {len(sweep.runs)} runs."
    not_run = f" (nothing: {'; '.join(empty)})" if empty else ""
    time_taken = Finished({run.key: results[run.key] for run in done}).describe_time()
    runs = f"{len(done)} of {len(sweep.runs)} runs{not_run}{f' ({time_taken})' if time_taken else ''}"
    return f"{runs}:\n\n{make_table(shown, results).to_markdown().strip()}"


def _summary(sweep: Sweep, results: dict[str, Any], metric: str, titles: dict[str, str]) -> Table:
    """What `make_table` says of each column of `titles`, beside it differences to the baseline, if it has run."""
    names: list[str] = []
    rows: dict[str, list[HasText]] = {row: [] for row in sweep.rows()}
    for column, title in titles.items():
        part = replace(sweep, runs=[run for run in sweep.runs if run.column == column])
        tables = {title: make_table(part, results)}
        if sweep.baseline in part.rows():
            tables[f"to {sweep.baseline}"] = compare(part, results, sweep.baseline, metric)
        names += tables
        for row, cells in rows.items():
            cells += [table.rows[row][0] if row in table.rows else Published(None) for table in tables.values()]
    return Table(names, rows)


def _completed(sweep: Sweep, results: dict[str, Any], titles: dict[str, str]) -> Table:
    """Number and precision of the labels that each rule of a method completed in the last epoch."""
    found = [(run, name) for run in sweep.runs for name in results.get(run.key, {"metrics": {}})["metrics"]]
    rules = dict.fromkeys((run.row, rule) for run, name in found if (rule := name.removeprefix(COMPLETED)) != name)
    rows: dict[str, list[HasText]] = {}
    for row, rule in rules:
        cells = rows[f"{row}, {rule}"] = []
        for column in titles:
            runs = [run for run in sweep.runs if (run.row, run.column) == (row, column)]
            part = replace(sweep, runs=runs, metrics=[COMPLETED + rule, f"pseudo_precision_{rule}"])
            cells += make_table(part, results).rows.get(row, [Published(None)] * 2)
    return Table([name for title in titles.values() for name in (title, "right, in percent")], rows)


if __name__ == "__main__":
    for page in (PAGE, README):
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
    for name in dict.fromkeys(block["sweep"] for page in (PAGE, README) for block in BLOCK.finditer(page.read_text())):
        if outdated := _finished(name).describe_outdated():
            print(f"{name}: {outdated}", end="")
    photos = read_sweep(find_sweep("voc_photos_frozen"))
    chart = ranks_chart(photos, _finished("voc_photos_frozen").results)
    if chart is not None:
        chart.savefig(PAGE.with_name("voc_photos_ranks.png"), dpi=110)
