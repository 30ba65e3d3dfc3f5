"""Sweep files: the runs behind a table, its columns, and the numbers that were published for it."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

Key = tuple[str, str, str]  # row, column, metric
_SEED = ("training.seed",)
_WITHOUT_EFFECT = ("training.allow_no_negatives=true",)  # on the numbers of a run
_GRID = dict | list | None
_KINDS = {
    **{"title": str, "source": str, "needs": str, "shared": list, "x": str, "average": str, "metrics": list},
    **{"only_average": bool, "baseline": str, "claims": list},
    **{"seeds": list, "seed_settings": list, "overrides": list, "grid": _GRID, "runs": list},
}
_KINDS_OF_RUN = {
    **{"name": Any, "column": str, "recipe": str, "overrides": list, "grid": _GRID, "seed_settings": list},
    "published": Any,
}
_OF_CLAIM = {"better", "worse", "columns", "source"}


@dataclass(frozen=True)
class Run:
    """One training run: a row and a column of the table, and a seed.

    part: what the column is called besides the settings of its cell, such as the name of its data.
    """

    row: str
    cell: tuple[tuple[str, Any], ...]
    seed: int
    recipe: str
    overrides: tuple[str, ...]
    part: str = ""
    seed_settings: tuple[str, ...] = _SEED

    @property
    def column(self) -> str:
        return self.column_without(None)

    def column_without(self, setting: str | None) -> str:
        """Its column, but for one setting."""
        cell = _describe([(key, value) for key, value in self.cell if key != setting])
        return ", ".join(filter(None, [self.part, cell]))

    def line(self, axis: str) -> str:
        """Its line in the chart: the row, and what else than the setting `axis` makes the column."""
        others = self.column_without(axis)
        return f"{self.row}, {others}" if others else self.row

    @property
    def settings(self) -> list[str]:
        """All that its recipe is overridden with."""
        return [*self.overrides, *(f"{name}={self.seed}" for name in self.seed_settings)]

    @property
    def settings_that_count(self) -> list[str]:
        """Those that change the outcome of the run."""
        return [setting for setting in self.settings if setting not in _WITHOUT_EFFECT]

    @property
    def key(self) -> str:
        """The name of the run among those of a sweep: recipe and settings."""
        return " ".join([self.recipe, *self.settings_that_count])

    @property
    def folder(self) -> str:
        name = f"{self.row}-{self.column}-seed{self.seed}"
        return "".join(c if c.isalnum() or c in "-._" else "_" for c in name)


@dataclass(frozen=True)
class Claim:
    """What a paper says: that a row is better than another one, in a column.

    source: where it says so.
    """

    better: str
    worse: str
    column: str
    source: str = ""


@dataclass(frozen=True)
class Sweep:
    """A table that is planned.

    runs: in the order of the table.
    metrics: columns; the chart shows the first.
    title, source, needs: what it shows, where the published numbers come from, and what it takes to run it.
    x: the setting on the x axis of the chart, by default the part of the labels that is known.
    average: the setting over whose values a further column averages; with `only_average` it stands in their place.
    published: numbers of the paper.
    baseline: the row that all others are compared with.
    """

    runs: list[Run]
    metrics: list[str]
    title: str = ""
    source: str = ""
    needs: str = ""
    x: str = ""
    average: str = ""
    only_average: bool = False
    published: Mapping[Key, float] = field(default_factory=dict)
    baseline: str = ""
    claims: Sequence[Claim] = ()

    def rows(self) -> list[str]:
        return list(dict.fromkeys(run.row for run in self.runs))

    def columns(self) -> list[str]:
        """Those of the cells, each group followed by its average."""
        found: dict[str, None] = {}
        for part in dict.fromkeys(run.column_without(self.average or None) for run in self.runs):
            group = [run for run in self.runs if run.column_without(self.average or None) == part]
            found |= dict.fromkeys(r.column for r in group if not (self.only_average and _has(r, self.average)))
            if self.average and any(_has(run, self.average) for run in group):
                found[average_column(part)] = None
        return list(found)

    def runs_by_seed(self, row: str, column: str) -> dict[int, list[Run]]:
        """The runs behind a cell of the table: one for each seed, or those that are averaged."""
        found: dict[int, list[Run]] = {}
        for run in (run for run in self.runs if run.row == row):
            is_averaged = self.average and average_column(run.column_without(self.average)) == column
            if run.column == column or is_averaged:
                found.setdefault(run.seed, []).append(run)
        return found

    def select(self, names: Sequence[str]) -> "Sweep":
        """The same with only the rows `names`."""
        from ..settings import did_you_mean

        for name in names:
            if name not in self.rows():
                raise ValueError(f"The sweep has no row {name!r}. {did_you_mean(name, self.rows())}")
        kept = [claim for claim in self.claims if {claim.better, claim.worse} <= set(names)]
        baseline = self.baseline if self.baseline in names else ""
        return replace(self, runs=[r for r in self.runs if r.row in names], baseline=baseline, claims=kept)


def average_column(part: str) -> str:
    return f"{part}, average" if part else "average"


def find_sweep(name: str, suffix: str = ".yaml") -> Path:
    """The file of that path, or the shipped one of that name: a sweep, or with the suffix ".jsonl" its results."""
    from ..hub.shipped import sweep_files
    from ..settings import did_you_mean

    if Path(name).exists() and not Path(name).is_dir():
        return Path(name)
    shipped = sweep_files(suffix)
    if name not in shipped:
        what = "sweep" if suffix == ".yaml" else "file of results"
        raise FileNotFoundError(
            f"There is no {what} {name}, neither as a file nor among the shipped ones. {did_you_mean(name, shipped)}"
        )
    return shipped[name]


def read_sweep(path: Path) -> Sweep:
    """A sweep file, checked as far as possible without its recipes."""
    from ..data.files import read_utf8
    from ..settings import check_values, parse_yaml

    content = parse_yaml(read_utf8(path, "Save it as UTF-8."), str(path))
    if not isinstance(content, dict) or not content.get("runs"):
        raise ValueError(f"{path} must have a list `runs`, see `hf-mlrpl sweep --help`.")
    check_values(content, _KINDS, "sweep")
    for name in ("seeds", "metrics"):
        if content.get(name) == []:
            raise ValueError(f"{path}: `{name}` is an empty list. Name at least one, or leave the line out.")
    average, metrics = content.get("average", ""), content.get("metrics", ["test_map", "train_seconds"])
    _check_settings(content, path)
    runs: list[Run] = []
    published: dict[Key, float] = {}
    for entry in content["runs"]:
        if not isinstance(entry, dict) or "recipe" not in entry:
            raise ValueError(f"{path}: an entry of `runs` must be a mapping with at least `recipe`, got {entry!r}.")
        check_values(entry, _KINDS_OF_RUN, "runs")
        planned = _runs_of(entry, content, path)
        runs += planned
        published |= _published(entry, planned, average, metrics, path)
    for folder, count in Counter(planned.folder for planned in runs).items():
        if count > 1:
            raise ValueError(f"{path}: {count} runs would share the folder {folder}. Give each of `runs` its `name`.")
    texts = {name: content.get(name, "") for name in ("title", "source", "needs", "x")}
    only_average = content.get("only_average", False)
    sweep = Sweep(runs, metrics, average=average, only_average=only_average, published=published, **texts)
    return replace(sweep, baseline=_baseline(content, sweep, path), claims=_claims(content, sweep, path))


def _baseline(content: dict[str, Any], sweep: Sweep, path: Path) -> str:
    baseline = content.get("baseline", "")
    if baseline and baseline not in sweep.rows():
        raise ValueError(f"{path}: `baseline` is {baseline!r}, which no entry of `runs` has for its name.")
    return baseline


def _claims(content: dict[str, Any], sweep: Sweep, path: Path) -> list[Claim]:
    """Each claim in each of its columns."""
    found = []
    for entry in content.get("claims", []):
        if not isinstance(entry, dict) or not {"better", "worse", "columns"} <= entry.keys() <= _OF_CLAIM:
            raise ValueError(
                f"{path}: an entry of `claims` must have `better` and `worse`, two rows, `columns`, and may have "
                f"`source`; got {entry!r}."
            )
        better, worse, columns = str(entry["better"]), str(entry["worse"]), entry["columns"]
        if not columns or not isinstance(columns, list):
            raise ValueError(f"{path}: `columns` of a claim must be a list of at least one column, got {columns!r}.")
        if better == worse:
            raise ValueError(f"{path}: `claims` compares {better!r} with itself. Name another row.")
        for column in map(str, columns):
            for row in (better, worse):
                _check_cell(sweep, row, column, path)
            found.append(Claim(better, worse, column, str(entry.get("source", ""))))
    return found


def _check_cell(sweep: Sweep, row: str, column: str, path: Path) -> None:
    from ..settings import did_you_mean

    if sweep.runs_by_seed(row, column):
        return
    where = f"{path}: `claims` compares {row!r} in {column!r}, which is not in the table."
    if row not in sweep.rows():
        raise ValueError(f"{where} {did_you_mean(row, sweep.rows())}")
    columns = [name for name in sweep.columns() if sweep.runs_by_seed(row, name)]
    raise ValueError(f"{where} {did_you_mean(column, columns)}")


def _check_settings(content: dict[str, Any], path: Path) -> None:
    """Raise for a setting of the table that no grid varies."""
    grids = [content.get("grid"), *(entry.get("grid") for entry in content["runs"] if isinstance(entry, dict))]
    parts = [part for grid in grids for part in (grid if isinstance(grid, list) else [grid])]
    varied = {setting for part in parts if isinstance(part, dict) for setting in part}
    for name in ("x", "average"):
        setting = content.get(name)
        if setting and setting not in varied:
            raise ValueError(f"{path}: `{name}` is {setting}, which no `grid` has.")


def _runs_of(entry: dict[str, Any], content: dict[str, Any], path: Path) -> list[Run]:
    """The runs of an entry of `runs`."""
    common = [*_flat(content.get("overrides", [])), *_flat(entry.get("overrides", []))]
    seed_settings = tuple(entry.get("seed_settings", content.get("seed_settings", _SEED)))
    row, part, recipe = str(entry.get("name", entry["recipe"])), entry.get("column", ""), entry["recipe"]
    return [
        Run(row, cell, seed, recipe, (*common, *(f"{key}={value}" for key, value in cell)), part, seed_settings)
        for cell in _cells(entry.get("grid", content.get("grid") or {}), path)
        for seed in content.get("seeds", [0])
    ]


def _flat(overrides: list[Any]) -> Iterable[str]:
    """Overrides, where a list stands for what is in it, so that an alias can name several."""
    for override in overrides:
        yield from _flat(override) if isinstance(override, list) else [str(override)]


def _cells(grid: Any, path: Path) -> list[tuple[tuple[str, Any], ...]]:
    """Every combination of the settings of a grid, or of several grids one after the other."""
    cells = []
    for part in grid if isinstance(grid, list) else [grid]:
        if not isinstance(part, dict) or not all(isinstance(values, list) for values in part.values()):
            raise ValueError(f"{path}: `grid` must map settings to lists of values, got {part!r}.")
        cells += [tuple(zip(part, values, strict=True)) for values in itertools.product(*part.values())]
    return cells


def _published(
    entry: dict[str, Any], runs: list[Run], average: str, metrics: list[str], path: Path
) -> dict[Key, float]:
    """The published numbers of an entry: of the first metric, or by metric; one for each column, or the average."""
    given = entry.get("published")
    row = runs[0].row
    columns = list(dict.fromkeys(run.column for run in runs))
    averaged = list(
        dict.fromkeys(average_column(run.column_without(average)) for run in runs if average and _has(run, average))
    )
    found: dict[Key, float] = {}
    for metric, values in (given if isinstance(given, dict) else {metrics[0]: given}).items():
        if values is None:
            continue
        places = averaged or columns
        if isinstance(values, list):
            places = [*columns, *averaged][: max(len(columns), len(values))]
        else:
            values = [values]
        if metric not in metrics or len(values) != len(places):
            raise ValueError(
                f"{path}: `published` of {row} must be {len(columns)} numbers, one for each column"
                f"{', and one more for the average, or the average alone' if averaged else ''}; or such numbers for "
                f"each of {', '.join(metrics)}. Got {given!r}."
            )
        for place, value in zip(places, values, strict=True):
            if value is not None and not isinstance(value, int | float):
                raise ValueError(f"{path}: `published` of {row} must hold numbers, or null for none, got {value!r}.")
            found |= {} if value is None else {(row, place, metric): value}
    return found


def _has(run: Run, setting: str) -> bool:
    return any(key == setting for key, _ in run.cell)


def _describe(cell: Iterable[tuple[str, Any]]) -> str:
    return ", ".join(f"{key.split('.')[-1]} {value}" for key, value in cell if value != "")
