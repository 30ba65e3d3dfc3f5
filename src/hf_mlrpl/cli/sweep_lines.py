"""Lines of results.jsonl: which runs they finish, how long these took, and which have no number.

A line says by a digest of the recipe what was run, so that a recipe which changes makes other runs of the same name.
"""

import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .sweep_file import Run

logger = logging.getLogger(__name__)

Line = dict[str, Any]


@dataclass(frozen=True)
class Finished:
    """What a sweep has.

    results: lines of finished runs, by the key of the run.
    outdated: runs that have only lines which do not count: of another recipe, or without a digest.
    without_number: runs, and names of their metrics that are not a number.
    """

    results: dict[str, Line]
    outdated: Sequence[Run] = ()
    without_number: Sequence[tuple[Run, str]] = ()

    def describe_outdated(self) -> str:
        if not self.outdated:
            return ""
        rows = ", ".join(dict.fromkeys(run.row for run in self.outdated))
        return (
            f"{len(self.outdated)} runs of {rows} have results of another recipe than that of now, or results that do "
            "not say of which. They do not count: the sweep makes these runs again. Whoever wants the old numbers "
            "takes the old recipe, from the commit that a line names as its `code`.\n"
        )

    def describe_missing(self, metrics: Sequence[str]) -> str:
        """The runs without a number for one of `metrics`."""
        named = [
            f"{', '.join(filter(None, [run.row, run.column]))}, seed {run.seed} has none for {metric}"
            for run, metric in self.without_number
            if metric in metrics
        ]
        return f"Results that are not a number are left out: {'; '.join(named)}.\n" if named else ""

    def describe_time(self) -> str:
        """How long the processes of the runs took in all, as far as their lines say; "" where none does."""
        lines = {line["digest"]: line for line in self.results.values()}.values()  # rows may share a run
        timed = [line for line in lines if all(_is_duration(line.get(name)) for name in ("seconds", "cpu_seconds"))]
        if not timed:
            return ""
        total, busy = (_duration(sum(line[name] for line in timed)) for name in ("seconds", "cpu_seconds"))
        others = f"; {len(lines) - len(timed)} more do not say" if len(timed) < len(lines) else ""
        return f"{len(timed)} runs, {total} of processes, {busy} of processors{others}"


def digests_of(runs: Sequence[Run]) -> dict[str, str]:
    """The digest of each run, by its key.

    Raises:
        ValueError: where two differ in nothing that a digest has.
    """
    from ..recipe.content import apply_overrides, digest_of, find_recipe_file, read_content, what_counts

    files = {name: read_content(find_recipe_file(name)) for name in {run.recipe for run in runs}}
    contents: dict[str, Any] = {}
    digests: dict[str, str] = {}
    for run in runs:
        content = deepcopy(files[run.recipe])
        apply_overrides(content, run.settings_that_count)
        digests[run.key] = digest = digest_of(content)
        said = what_counts(content)
        if contents.setdefault(digest, said) != said:
            others = [other.folder for other in runs if digests.get(other.key) == digest and other.key != run.key]
            raise ValueError(
                f"{run.folder} and {others[0]} differ only in the folders in which a file of theirs lies, and results "
                "do not tell that apart. Give the files other names, or the runs other settings."
            )
    return digests


def read_lines(*files: Path) -> list[Line]:
    """All of them but those that an interruption cut off, which a warning names.

    Raises:
        ValueError: for a file that is not UTF-8, and for a line that is whole, but not of a run.
    """
    from ..data.files import read_utf8
    from ..labels import shorten

    lines, cut_off = [], []
    for file in files:
        if not file.exists():
            continue
        text = read_utf8(file, "A sweep writes its results so: undo what was done to the file.")
        for number, entry in enumerate(text.split("\n"), start=1):
            if not entry.strip():
                continue
            try:
                lines.append(_checked(json.loads(entry), f"{file}, line {number}"))
            except json.JSONDecodeError:
                cut_off.append(f"{file}, line {number}")
    if cut_off:
        logger.warning("Not read, for they are cut off or not one result a line: %s.", shorten(cut_off))
    return lines


def _checked(line: Any, where: str) -> Line:
    """A line of which all that counts has the right kind."""
    if isinstance(line, dict):
        named = all(isinstance(line.get(name), str | None) for name in ("key", "digest"))
        if named and isinstance(line.get("metrics"), dict):
            return line
    raise ValueError(
        f"{where} must be the result of a run, a mapping with the texts `key` and `digest` and the mapping `metrics`, "
        f"got {json.dumps(line)[:100]}. Delete the line; the sweep then makes that run again."
    )


def finished(runs: Sequence[Run], digests: Mapping[str, str], lines: Iterable[Line]) -> Finished:
    """The runs that the lines finish; of several lines for one, the last."""
    lines = list(lines)
    found = {line.get("digest"): line for line in lines}
    names = {line.get("key") for line in lines}
    results, outdated, without_number = {}, [], []
    for run in runs:
        line = found.get(digests[run.key])
        if line is None:
            outdated += [run] if run.key in names else []
            continue
        numbers = {name: value for name, value in line["metrics"].items() if _is_number(value)}
        without_number += [(run, name) for name in line["metrics"] if name not in numbers]
        results[run.key] = {**line, "metrics": numbers}
    return Finished(results, outdated, without_number)


def read_finished(runs: Sequence[Run], *files: Path) -> Finished:
    """Those of the lines in `files`."""
    lines = read_lines(*files)
    return finished(runs, digests_of(runs), lines) if lines else Finished({})


def line_of(run: Run, digest: str, code: str, seconds: float, cpu_seconds: float, metrics: Mapping[str, float]) -> str:
    """What results.jsonl says about a run.

    Args:
        seconds: wall time of its process, since it went on where it was interrupted.
        cpu_seconds: time of all cores for it.
    """
    line = {
        **{"key": run.key, "digest": digest, "row": run.row, "column": run.column, "seed": run.seed, "code": code},
        **{"seconds": round(seconds, 1), "cpu_seconds": round(cpu_seconds, 1)},
        "metrics": {name: value if _is_number(value) else None for name, value in metrics.items()},
    }
    return json.dumps(line, allow_nan=False) + "\n"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_duration(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
