"""`hf-mlrpl sweep`: many runs of recipes, and one table."""

import argparse
import gc
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import __version__
from ..faults import writing
from ..registry import DATASETS, lookup
from .sweep_comparison import blocks, compare, critical_difference, judge, mean_of, mean_ranks
from .sweep_file import Run, Sweep, find_sweep, read_sweep
from .sweep_lines import digests_of, finished, line_of, read_lines
from .sweep_results import Cell, Published, Table, chart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..recipe.data_part import DataPart

PLACES = ("path", "list", "labels")  # settings of data that are files here, and not part of what a run is

# What every run imports, some seconds' worth. A fork server does it once; each run is a fresh process forked from it.
_PRELOADED = [
    "hf_mlrpl.trainer.trainer",
    "hf_mlrpl.recipe.document",
    "hf_mlrpl.models.baseline.modeling_baseline",
    "sklearn.datasets",
]

_EPILOG = """\
A sweep is a YAML file, or the name of a shipped one such as sst_table_1 (`hf-mlrpl list papers`):

  seeds: [0, 1, 2]                      training.seed of the runs
  seed_settings: [training.seed, data.seed]   what a seed sets; with data.seed each seed hides other labels (default:
                                        training.seed alone: the deviation is that of training on the same labels)
  overrides: [training.eval_strategy=no]     settings of all runs
  grid:                                 every combination is a column group of the table; a list of grids is tried
    data.proportion: [0.1, 0.5]         one after the other, and "" as a value takes a setting out of the recipe
  runs:                                 a row of the table each
    - {name: SSGRL, recipe: ssgrl/digit_scenes_10}
    - {name: SST, recipe: sst/digit_scenes_10, overrides: [objective.bank_size=50], grid: {data.proportion: [0.1]}}
  x: objective.bank_size                x axis of the chart (default: the part of the labels that is known)
  average: data.proportion              one more column, the mean over the values of this setting; with
  only_average: true                    it stands in their place
  metrics: [test_map, train_seconds]    columns (default: test_map, train_seconds); the chart shows the first
  baseline: SSGRL                       the row that the others are compared with, seed by seed
  claims:                               what papers say, to be judged from such differences of the first metric
    - {better: SST, worse: SSGRL, columns: [proportion 0.1], source: "Table 1 of the paper"}

An entry of `runs` may also have `column` (a name for its column, such as that of its data) and `published`: the
numbers of the paper for the first metric, one for each column and one more for the average, or the average alone; or
such for each metric. They stand below ours in the table, and as dotted lines in the chart. `title`, `source` and
`needs` are for `hf-mlrpl list papers`; `shared` holds lists of overrides that runs name by an alias.

Results go to OUTPUT: results.jsonl has one line a run; table.md and table.tex (booktabs) the means and deviations
over the seeds, and how long the runs took; chart.png the first metric over the part of the labels that is known,
where that has several values. With `baseline` or `claims`, comparison.md has differences with 95 % intervals of
Student's t over the seeds, and verdicts; ranks.png the mean ranks, with lines between those that are within chance.
An interrupted sweep goes on where it was: finished runs are kept, the others resume from their last checkpoint. A
line of results.jsonl counts as long as its `digest` is that of the recipe with its settings, whatever the order,
comments, and folders of files; when a recipe changes, the runs with it are made again.
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
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only these rows")
    parser.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="NAME.KEY=PATH",
        help="where the data are, such as coco.path=/data/coco voc.path=/data/VOCdevkit nus_wide.list=/data/nus.txt",
    )
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help="columns, instead of those of the file")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    if arguments.jobs < 1:
        raise ValueError(f"`--jobs` must be at least 1, got {arguments.jobs}.")
    path = find_sweep(arguments.sweep)
    given = [find_sweep(name, ".jsonl") for name in arguments.results]
    sweep = read_sweep(path)
    if arguments.rows:
        sweep = sweep.select(arguments.rows)
    if arguments.metrics:
        sweep = replace(sweep, metrics=arguments.metrics)
    places = _places(arguments.data)

    from ..hub.facts import SELECTED_ON_TEST
    from ..recipe.document import Recipe  # after the mistakes that are seen without it, for it takes seconds

    # All recipes are read first: a typing mistake shows now, not after an hour.
    recipes = {planned.key: Recipe.load(planned.recipe, planned.settings) for planned in sweep.runs}
    digests = digests_of(sweep.runs)
    output = Path(arguments.output or Path("runs") / path.stem)
    sources = [output / "results.jsonl", *given]
    so_far = finished(sweep.runs, digests, read_lines(*sources))
    print(so_far.describe_outdated(), end="", flush=True)
    if not arguments.table:
        waiting = [planned for planned in sweep.runs if planned.key not in so_far.results]
        local = {planned.key: places.get(recipes[planned.key].data.config.name, []) for planned in waiting}
        _check_places([(recipes[planned.key].data, local[planned.key]) for planned in waiting], places)
        output.mkdir(parents=True, exist_ok=True)
        _end_cut_off_line(sources[0])
        _run_all(waiting, output, arguments.jobs, len(sweep.runs), local, digests)
        so_far = finished(sweep.runs, digests, read_lines(*sources))
    output.mkdir(parents=True, exist_ok=True)
    known = {key: recipe.data.known_part for key, recipe in recipes.items()}
    optimistic = [planned.row for planned in sweep.runs if recipes[planned.key].data.config.selects_on_test]
    notes = [
        f"{SELECTED_ON_TEST}: {', '.join(dict.fromkeys(optimistic))}.\n" if optimistic else "",
        so_far.describe_missing(sweep.metrics),
        f"{time_taken}.\n" if (time_taken := so_far.describe_time()) else "",
    ]
    with writing(output):
        show(sweep, so_far.results, known, output, "".join(f"\n{note}" for note in notes if note))


def show(
    sweep: Sweep,
    results: dict[str, Any],
    known: Mapping[str, tuple[str, float] | None],
    output: Path,
    note: str = "",
) -> None:
    """Write tables and chart, and print the table; `note` stands below it."""
    for name in ("chart.png", "comparison.md", "ranks.png"):  # of earlier results or rows, if there is none now
        (output / name).unlink(missing_ok=True)
    table = make_table(sweep, results)
    (output / "table.md").write_text(table.to_markdown() + note)
    comments = "".join(f"% {line}\n" for line in note.splitlines() if line)
    (output / "table.tex").write_text(table.to_latex() + comments)
    axis = sweep.x or next((f"data.{part[0]}" for part in known.values() if part), "")
    series = make_series(sweep, results, axis, known)
    figure = chart(series, sweep.metrics[0], axis, published_series(sweep, axis, known))
    if figure is not None:
        figure.savefig(output / "chart.png", dpi=150)
    print(table.to_markdown() + note, end="")
    comparison = describe_comparison(sweep, results, sweep.metrics[0])
    if comparison:
        (output / "comparison.md").write_text(comparison)
        print(f"\n{comparison}", end="")
    ranks = ranks_chart(sweep, results)
    if ranks is not None:
        ranks.savefig(output / "ranks.png", dpi=150)


def ranks_chart(sweep: Sweep, results: dict[str, Any]) -> "Figure | None":
    """The mean ranks by the first metric, of a sweep with a baseline and more than two rows that can be ranked."""
    found = blocks(sweep, results, sweep.metrics[0])
    if not sweep.baseline or not found or len(found[0]) < 3:
        return None
    from ..visualization.ranks import plot_mean_ranks

    ranks = mean_ranks(sweep, results, sweep.metrics[0])
    return plot_mean_ranks(ranks, critical_difference(len(ranks), len(found)))


def describe_comparison(sweep: Sweep, results: dict[str, Any], metric: str) -> str:
    """Differences to the baseline and verdicts on the claims, as far as the sweep has them."""
    parts = []
    if sweep.baseline:
        parts.append(
            f"Difference to {sweep.baseline}:\n\n{compare(sweep, results, sweep.baseline, metric).to_markdown()}"
        )
    if sweep.claims:
        parts.append(f"What papers claim:\n\n{judge(sweep, results, metric)}")
    return "\n".join(parts)


def _places(texts: list[str]) -> dict[str, list[str]]:
    """Texts `coco.path=/data/coco` as settings by data set."""
    places: dict[str, list[str]] = {}
    for text in texts:
        name, dot, setting = text.partition(".")
        lookup(DATASETS, name, "data set in `--data`:")
        if not dot or setting.partition("=")[0] not in PLACES or not setting.partition("=")[2]:
            raise ValueError(f"`--data` takes NAME.KEY=PATH with one of the keys {', '.join(PLACES)}, got {text!r}.")
        places.setdefault(name, []).append(f"data.{setting}")
    return places


def _check_places(parts: "list[tuple[DataPart, list[str]]]", places: dict[str, list[str]]) -> None:
    """Raise before a run starts if the place of its data was not said."""
    used = {part.config.name for part, _ in parts}
    missing = {
        f"{part.config.name}.{key}"
        for part, settings in parts
        for key in part.missing_settings()
        if not any(setting.startswith(f"data.{key}=") for setting in settings)
    }
    if missing:
        texts = " ".join(f"{name}=..." for name in sorted(missing))
        raise ValueError(f"Nothing has run yet: say where the data are, `--data {texts}`.")
    if places and (unused := sorted(places.keys() - used)) and parts:
        raise ValueError(f"`--data` names {', '.join(unused)}, but the runs that wait need {', '.join(sorted(used))}.")


def _end_cut_off_line(results: Path) -> None:
    """End the line that an interruption cut off, so that the next result begins a new one."""
    if results.is_file() and results.read_bytes()[-1:] not in (b"", b"\n"):
        with open(results, "a") as file:
            file.write("\n")


def _run_all(
    waiting: list[Run], output: Path, jobs: int, total: int, local: dict[str, list[str]], digests: dict[str, str]
) -> None:
    """Run what waits.

    Args:
        total: number of runs of the sweep, for the progress bar.
        local: by the key of a run the places of its data, which are not part of what it is.
        digests: by the key of a run what was planned.
    """
    from tqdm import tqdm

    waiting = sorted(waiting, key=lambda planned: planned.seed)  # stable: every cell comes before more seeds
    failures = []
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))  # the runs share the cores
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=total, initial=total - len(waiting), unit="run") as bar:
        try:
            for planned, error in pool.map(
                lambda planned: (planned, _run_one(planned, output, local[planned.key], digests[planned.key])),
                waiting,
            ):
                bar.set_postfix_str(planned.folder)
                bar.update()
                failures += [f"{planned.folder}: {error}"] if error else []
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    if failures:
        raise RuntimeError(f"{len(failures)} of {len(waiting)} runs failed:\n" + "\n".join(failures))


def _run_one(planned: Run, output: Path, local: list[str], digest: str) -> str | None:
    """Train in a process of its own; returns what went wrong, if anything."""
    if digests_of([planned])[planned.key] != digest:
        return f"the recipe {planned.recipe} has changed since the sweep began; start it again"
    folder = output / planned.folder
    settings = [*planned.settings, *local, "training.report_to=none", "training.disable_tqdm=true"]
    command = ["train", planned.recipe, *settings, "--no-pictures", "--output", str(folder)]
    command += ["--resume" if _may_resume(folder, planned.recipe, settings) else "--overwrite"]
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    ended = _run_command(command, folder / "log.txt")
    seconds = time.monotonic() - began
    if ended.code:
        lines = (folder / "log.txt").read_text().strip().splitlines()
        return f"exit code {ended.code}, {lines[-1] if lines else 'no output'} (see {folder / 'log.txt'})"
    metrics = json.loads((folder / "metrics.json").read_text())
    results = output / "results.jsonl"
    with writing(results), open(results, "a") as file:
        file.write(line_of(planned, digest, code_version(), seconds, ended.cpu_seconds, metrics))
    for checkpoint in folder.glob("checkpoint-*"):  # only the interrupted need them
        shutil.rmtree(checkpoint)
    return None


@cache
def code_version() -> str:
    """The commit of a checkout, with "-dirty" where files differ from it; otherwise the version of the package."""
    file = Path(__file__)
    git = ["git", "-C", str(file.parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", file.name], check=True, capture_output=True)
        described = [*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(described, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return __version__


def _may_resume(folder: Path, recipe: str, settings: list[str]) -> bool:
    """Whether what `folder` has, if anything, is of this very run: what a sweep file says may have changed."""
    from ..recipe.document import Recipe

    saved = folder / "recipe.yaml"
    return not saved.is_file() or saved.read_text(encoding="utf-8") == Recipe.load(recipe, settings).to_yaml()


class Ended(NamedTuple):
    """How a process ended: its exit code, and the seconds that it and the processes it started kept cores busy."""

    code: int
    cpu_seconds: float


def _run_command(command: list[str], log: Path) -> Ended:
    """Run `hf-mlrpl` in a fresh process that has the heavy imports behind it."""
    has_fork_server = "forkserver" in multiprocessing.get_all_start_methods()  # not on Windows
    context: Any = multiprocessing.get_context("forkserver" if has_fork_server else "spawn")
    if has_fork_server:
        context.set_forkserver_preload(_PRELOADED)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_command_process, args=(command, log, sender))
    process.start()
    process.join()
    cpu_seconds = receiver.recv() if receiver.poll() else 0.0  # a process that was killed sends nothing
    return Ended(process.exitcode or 0, cpu_seconds)


def _command_process(command: list[str], log: Path, cpu_seconds: Any) -> None:
    """The life of such a process; what it took goes through the pipe `cpu_seconds`."""
    from .main import main

    gc.freeze()  # no collection looks through what was imported before, nor copies its pages
    # Workers of the run start as those of any other, not like itself: they would import all again, and outlive a kill.
    multiprocessing.set_start_method(None, force=True)
    threading.Thread(target=_end_with_sweep, daemon=True).start()
    with open(log, "w") as file:
        for stream in (sys.stdout, sys.stderr):  # the files beneath them, so that what C code prints is kept, too
            os.dup2(file.fileno(), stream.fileno())
    code = main(command)
    cpu_seconds.send(sum(os.times()[:4]))  # user and system, of the process and of those it has waited for
    sys.exit(code)


def _end_with_sweep() -> None:
    """A run that outlives its sweep would still write into its folder when the sweep goes on there."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def make_table(sweep: Sweep, results: dict[str, dict[str, Any]]) -> Table:
    """A row per name of `runs`, and one below it for what was published; a column per metric, and cell of the grid."""
    columns, metrics = sweep.columns(), sweep.metrics
    rows: dict[str, list[Cell | Published]] = {}
    for row in sweep.rows():
        rows[row] = [_cell(sweep, row, column, metric, results) for column in columns for metric in metrics]
        numbers = [sweep.published.get((row, column, metric)) for column in columns for metric in metrics]
        if any(number is not None for number in numbers):
            rows[f"{row}, published"] = [Published(number) for number in numbers]
    return Table([f"{metric} {column}".strip() for column in columns for metric in metrics], rows)


def _cell(sweep: Sweep, row: str, column: str, metric: str, results: dict[str, dict[str, Any]]) -> Cell:
    """The values of the seeds; of an average, those of the seeds that have all of its columns."""
    groups = sweep.runs_by_seed(row, column).values()
    values = [mean_of(group, results, metric) for group in groups]
    num_run = sum(all(run.key in results for run in group) for group in groups)
    return Cell([value for value in values if value is not None], run=num_run, planned=len(groups))


def make_series(
    sweep: Sweep,
    results: dict[str, dict[str, Any]],
    axis: str,
    known: Mapping[str, tuple[str, float] | None],
) -> dict[str, dict[float, list[float]]]:
    """The values of the seeds, by line of the chart and value of the setting `axis`.

    Args:
        known: by the key of a run the setting of its data for the part that is known, and its value.
    """
    series: dict[str, dict[float, list[float]]] = {}
    for planned in sweep.runs:
        x = _position(planned, axis, known[planned.key])
        found = results.get(planned.key, {}).get("metrics", {})
        if x is not None and sweep.metrics[0] in found:
            line = series.setdefault(planned.line(axis), {})
            line.setdefault(x, []).append(found[sweep.metrics[0]])
    return series


def published_series(
    sweep: Sweep, axis: str, known: Mapping[str, tuple[str, float] | None]
) -> dict[str, dict[float, float]]:
    """The published numbers in the same form."""
    series: dict[str, dict[float, float]] = {}
    for planned in sweep.runs:
        x = _position(planned, axis, known[planned.key])
        number = sweep.published.get((planned.row, planned.column, sweep.metrics[0]))
        if x is not None and number is not None:
            series.setdefault(planned.line(axis), {})[x] = number
    return series


def _position(planned: Run, axis: str, part: tuple[str, float] | None) -> float | None:
    """Where a run stands on the x axis."""
    if part is not None and axis == f"data.{part[0]}":
        return part[1]
    value = dict(planned.cell).get(axis)
    if value == "":  # the setting is taken out
        return None
    if value is not None and not isinstance(value, int | float):
        raise ValueError(f"The x axis of the chart is {axis}, whose values must be numbers, got {value!r}.")
    return value
