"""Writes the tables of EVIDENCE.md from the results of the sweeps: `python training/evidence.py`.

A table stands between `<!-- table: SWEEP METRIC ... -->` and `<!-- end -->`; `differences` in the place of `table` has
differences to the baseline of the sweep, `claims` judges what papers say.
"""

import re
from dataclasses import replace
from pathlib import Path

from hf_mlrpl.cli.sweep import make_table, read_results
from hf_mlrpl.cli.sweep_comparison import compare, judge
from hf_mlrpl.cli.sweep_file import find_sweep, read_sweep

PAGE = Path(__file__).with_name("EVIDENCE.md")
BLOCK = re.compile(r"(<!-- (table|differences|claims): (\w+) ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """`text` with the tables that the results say now."""
    return BLOCK.sub(lambda block: f"{block[1]}{_table(block[2], block[3], block[4].split())}\n{block[5]}", text)


def _table(kind: str, name: str, metrics: list[str]) -> str:
    sweep = replace(read_sweep(find_sweep(name)), metrics=metrics)
    results = read_results(find_sweep(name, ".jsonl"))
    if kind == "differences":
        return compare(sweep, results, sweep.baseline, metrics[0]).to_markdown().strip()
    if kind == "claims":
        return judge(sweep, results, metrics[0]).strip()
    done = sum(run.key in results for run in sweep.runs)
    return f"{done} of {len(sweep.runs)} runs:\n\n{make_table(sweep, results).to_markdown().strip()}"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
