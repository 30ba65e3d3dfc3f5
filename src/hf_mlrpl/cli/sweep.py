"""`hf-mlrpl sweep`: many runs of recipes, and one table."""

import argparse
import itertools
import json
import multiprocessing
import os
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .sweep_results import Cell, Table, chart

# What every run imports, some seconds' worth. A fork server does it once; each run is a fresh process forked from it.
_PRELOADED = [
    "hf_mlrpl.trainer.trainer",
    "hf_mlrpl.recipe.document",
    "hf_mlrpl.models.baseline.modeling_baseline",
    "sklearn.datasets",
]

_EPILOG = """\
A sweep is a YAML file:

  seeds: [0, 1, 2]                      training.seed of the runs
  overrides: [training.eval_strategy=no]     settings of all runs
  grid:                                 every combination is a column group of the table; a list of grids is tried
    data.proportion: [0.1, 0.5]         one after the other, and "" as a value takes a setting out of the recipe
  runs:                                 a row of the table each
    - {name: SSGRL, recipe: ssgrl/digit_scenes_10}
    - {name: SST, recipe: sst/digit_scenes_10, overrides: [objective.bank_size=50], grid: {data.proportion: [0.1]}}
  metrics: [test_map, train_seconds]    columns (default: test_map, train_seconds); the chart shows the first

Results go to OUTPUT: results.jsonl has one line a run; table.md and table.tex (booktabs) the means and deviations over
the seeds; chart.png the first metric over the part of the labels that is known, where that has several values. An
interrupted sweep goes on where it was: finished runs are kept, the others resume from their last checkpoint.
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "sweep",
        help="run recipes x settings x seeds and make a table",
        description="Run every combination of recipes, settings and seeds, and make a table of means and deviations.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweep", metavar="SWEEP", help="YAML file, see below, or a name of `hf-mlrpl list sweeps`")
    parser.add_argument("--output", metavar="FOLDER", help="default: runs/<name of the file>")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at the same time (default: 1)")
    parser.add_argument("--table", action="store_true", help="only make tables and chart from the results so far")
    parser.add_argument(
        "--results",
        nargs="+",
        default=[],
        metavar="FILE",
        help="further results.jsonl whose runs count as finished; the name of a shipped sweep means those of ours",
    )
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help="columns, instead of those of the file")
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Run:
    """One training run: a row and a column of the table, and a seed."""

    row: str
    cell: tuple[tuple[str, Any], ...]
    seed: int
    recipe: str
    overrides: tuple[str, ...]

    @property
    def column(self) -> str:
        return _describe(self.cell)

    def line(self, axis: str) -> str:
        """Its line in the chart: the row, and what else than the setting `axis` makes the column."""
        others = _describe([(key, value) for key, value in self.cell if key != axis])
        return f"{self.row}, {others}" if others else self.row

    @property
    def settings(self) -> list[str]:
        """All that its recipe is overridden with."""
        return [*self.overrides, f"training.seed={self.seed}"]

    @property
    def key(self) -> str:
        """Everything that changes the outcome of the run; it identifies the run in the results."""
        return " ".join([self.recipe, *self.settings])

    @property
    def folder(self) -> str:
        name = f"{self.row}-{self.column}-seed{self.seed}"
        return "".join(c if c.isalnum() or c in "-._" else "_" for c in name)


def read_sweep(path: Path) -> tuple[list[Run], list[str]]:
    """The runs of a sweep file in the order of the table, and the metrics to show."""
    from ..settings import check_values, parse_yaml

    content = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(content, dict) or not content.get("runs"):
        raise ValueError(f"{path} must have a list `runs`, see `hf-mlrpl sweep --help`.")
    grids = dict | list | None
    check_values(content, {"seeds": list, "overrides": list, "grid": grids, "runs": list, "metrics": list}, "sweep")
    runs = []
    for entry in content["runs"]:
        if not isinstance(entry, dict) or "recipe" not in entry:
            raise ValueError(f"{path}: an entry of `runs` must be a mapping with at least `recipe`, got {entry!r}.")
        check_values(entry, {"name": Any, "recipe": str, "overrides": list, "grid": grids}, "runs")
        for cell in _cells(entry.get("grid", content.get("grid") or {}), path):
            chosen = (f"{key}={value}" for key, value in cell)
            overrides = (*content.get("overrides", []), *entry.get("overrides", []), *chosen)
            for seed in content.get("seeds", [0]):
                runs.append(Run(str(entry.get("name", entry["recipe"])), cell, seed, entry["recipe"], overrides))
    for folder, count in Counter(planned.folder for planned in runs).items():
        if count > 1:
            raise ValueError(f"{path}: {count} runs would share the folder {folder}. Give each of `runs` its `name`.")
    return runs, content.get("metrics", ["test_map", "train_seconds"])


def _cells(grid: Any, path: Path) -> list[tuple[tuple[str, Any], ...]]:
    """Every combination of the settings of a grid, or of several grids one after the other."""
    cells = []
    for part in grid if isinstance(grid, list) else [grid]:
        if not isinstance(part, dict) or not all(isinstance(values, list) for values in part.values()):
            raise ValueError(f"{path}: `grid` must map settings to lists of values, got {part!r}.")
        cells += [tuple(zip(part, values, strict=True)) for values in itertools.product(*part.values())]
    return cells


def _describe(cell: Iterable[tuple[str, Any]]) -> str:
    return ", ".join(f"{key.split('.')[-1]} {value}" for key, value in cell if value != "")


def run(arguments: argparse.Namespace) -> None:
    if arguments.jobs < 1:
        raise ValueError(f"`--jobs` must be at least 1, got {arguments.jobs}.")
    path = _file_or_shipped(arguments.sweep, ".yaml", "There is no sweep")
    given = [_file_or_shipped(name, ".jsonl", "There are no results") for name in arguments.results]
    runs, metrics = read_sweep(path)

    from ..recipe.document import Recipe  # after the mistakes that are seen without it, for it takes seconds

    metrics = arguments.metrics or metrics
    # All recipes are read first: a typing mistake shows now, not after an hour.
    known = {planned.key: Recipe.load(planned.recipe, planned.settings).data.known_part for planned in runs}
    output = Path(arguments.output or Path("runs") / path.stem)
    output.mkdir(parents=True, exist_ok=True)
    sources = [output / "results.jsonl", *given]
    if not arguments.table:
        _end_cut_off_line(sources[0])
        _run_all(runs, output, arguments.jobs, finished=read_results(*sources))
    results = read_results(*sources)
    table = make_table(runs, results, metrics)
    (output / "table.md").write_text(table.to_markdown())
    (output / "table.tex").write_text(table.to_latex())
    figure = chart(make_series(runs, results, metrics[0], known), metrics[0])
    if figure is not None:
        figure.savefig(output / "chart.png", dpi=150)
    print(table.to_markdown(), end="")


def _file_or_shipped(name: str, suffix: str, lead: str) -> Path:
    """The file `name`, or the one that packages ship under that name."""
    from ..hub.shipped import sweep_files

    shipped = sweep_files(suffix)
    path = Path(name) if Path(name).exists() else shipped.get(name)
    if path is None:
        names = f"a file, or one of the shipped {', '.join(shipped)}"
        raise FileNotFoundError(f"{lead} {name}: give {names}.")
    return path


def _end_cut_off_line(results: Path) -> None:
    """End the line that an interruption cut off, so that the next result begins a new one."""
    if results.is_file() and results.read_bytes()[-1:] not in (b"", b"\n"):
        with open(results, "a") as file:
            file.write("\n")


def _run_all(runs: list[Run], output: Path, jobs: int, finished: dict[str, Any]) -> None:
    from tqdm import tqdm

    waiting = [planned for planned in runs if planned.key not in finished]
    waiting.sort(key=lambda planned: planned.seed)  # stable: an interrupted sweep has every cell before more seeds
    failures = []
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))  # the runs share the cores
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(runs), initial=len(runs) - len(waiting), unit="run") as bar:
        try:
            for planned, error in pool.map(lambda planned: (planned, _run_one(planned, output)), waiting):
                bar.set_postfix_str(planned.folder)
                bar.update()
                failures += [f"{planned.folder}: {error}"] if error else []
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    if failures:
        raise RuntimeError(f"{len(failures)} of {len(waiting)} runs failed:\n" + "\n".join(failures))


def _run_one(planned: Run, output: Path) -> str | None:
    """Train in a process of its own; returns what went wrong, if anything."""
    folder = output / planned.folder
    settings = [*planned.settings, "training.report_to=none", "training.disable_tqdm=true"]
    command = ["train", planned.recipe, *settings, "--output", str(folder)]
    command += ["--resume" if _may_resume(folder, planned.recipe, settings) else "--overwrite"]
    folder.mkdir(parents=True, exist_ok=True)
    code = _run_command(command, folder / "log.txt")
    if code:
        lines = (folder / "log.txt").read_text().strip().splitlines()
        return f"exit code {code}, {lines[-1] if lines else 'no output'} (see {folder / 'log.txt'})"
    metrics = json.loads((folder / "metrics.json").read_text())
    line = {"key": planned.key, "row": planned.row, "column": planned.column, "seed": planned.seed, "metrics": metrics}
    with open(output / "results.jsonl", "a") as results:
        results.write(json.dumps(line) + "\n")
    for checkpoint in folder.glob("checkpoint-*"):  # only the interrupted need them
        shutil.rmtree(checkpoint)
    return None


def _may_resume(folder: Path, recipe: str, settings: list[str]) -> bool:
    """Whether what `folder` has, if anything, is of this very run: what a sweep file says may have changed."""
    from ..recipe.document import Recipe

    saved = folder / "recipe.yaml"
    return not saved.is_file() or saved.read_text(encoding="utf-8") == Recipe.load(recipe, settings).to_yaml()


def _run_command(command: list[str], log: Path) -> int:
    """Run `hf-mlrpl` in a fresh process that has the heavy imports behind it; returns its exit code."""
    has_fork_server = "forkserver" in multiprocessing.get_all_start_methods()  # not on Windows
    context: Any = multiprocessing.get_context("forkserver" if has_fork_server else "spawn")
    if has_fork_server:
        context.set_forkserver_preload(_PRELOADED)
    process = context.Process(target=_command_process, args=(command, log))
    process.start()
    process.join()
    return process.exitcode or 0


def _command_process(command: list[str], log: Path) -> None:
    """The life of such a process."""
    from .main import main

    threading.Thread(target=_end_with_sweep, daemon=True).start()
    with open(log, "w") as file:
        for stream in (sys.stdout, sys.stderr):  # the files beneath them, so that what C code prints is kept, too
            os.dup2(file.fileno(), stream.fileno())
    sys.exit(main(command))


def _end_with_sweep() -> None:
    """A run that outlives its sweep would still write into its folder when the sweep goes on there."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def read_results(*files: Path) -> dict[str, dict[str, Any]]:
    """Finished runs by their key; a line that was cut off by an interruption is not a finished run."""
    results = {}
    for line in (line for file in files if file.exists() for line in file.read_text().splitlines()):
        try:
            result = json.loads(line)
        except json.JSONDecodeError:
            continue
        results[result["key"]] = result
    return results


def make_table(runs: list[Run], results: dict[str, dict[str, Any]], metrics: list[str]) -> Table:
    """A row per entry of `runs`, a column per metric and grid cell."""
    columns = list(dict.fromkeys(planned.column for planned in runs))
    rows: dict[str, list[Cell]] = {}
    for row in dict.fromkeys(planned.row for planned in runs):
        rows[row] = []
        for column in columns:
            group = [p for p in runs if (p.row, p.column) == (row, column)]
            done = [results[p.key]["metrics"] for p in group if p.key in results]
            for metric in metrics:
                values = [found[metric] for found in done if metric in found]
                rows[row].append(Cell(values, run=len(done), planned=len(group)))
    return Table([f"{metric} {column}".strip() for column in columns for metric in metrics], rows)


def make_series(
    runs: list[Run],
    results: dict[str, dict[str, Any]],
    metric: str,
    known: Mapping[str, tuple[str, float] | None],
) -> dict[str, dict[float, list[float]]]:
    """The values of the seeds, by line of the chart and part of the labels that is known.

    Args:
        known: by the key of a run the setting of its data for that part, and its value; runs without one are left out.
    """
    series: dict[str, dict[float, list[float]]] = {}
    for planned in runs:
        part = known[planned.key]
        found = results.get(planned.key, {}).get("metrics", {})
        if part is not None and metric in found:
            line = series.setdefault(planned.line(f"data.{part[0]}"), {})
            line.setdefault(part[1], []).append(found[metric])
    return series
