"""`hf-mlrpl list papers`: each row of the tables and each figure of the papers, with its command and its numbers."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..hub.shipped import facts_of_page, sweep_files
from ..registry import METHODS, PACKAGE
from .picture import KINDS
from .sweep import make_table
from .sweep_file import Sweep, read_sweep
from .sweep_lines import read_finished
from .sweep_results import Table

_PART = re.compile(r"(.+?)_(table|figure|study)_(\w+)")  # of the name of a sweep


@dataclass(frozen=True)
class PaperPart:
    """A table or figure of a paper that a sweep makes.

    method: whose page names the paper.
    name: of the sweep.
    number: such as "table 1".
    table: our numbers and the published ones.
    """

    method: str
    name: str
    number: str
    sweep: Sweep
    table: Table

    @property
    def shown(self) -> list[int]:
        """Columns that the list shows: the averages alone where there are any, and what was published, if anything."""
        every = range(len(self.table.columns))
        averages = [i for i in every if self.table.columns[i].endswith("average")] or list(every)
        published = [cells for name, cells in self.table.rows.items() if name.endswith(", published")]
        return [i for i in averages if any(cells[i].text("") for cells in published)] or averages

    @property
    def command(self) -> str:
        return f"hf-mlrpl sweep {self.name}"

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Name, published numbers and ours of each row."""
        shown = self.shown
        for name in self.sweep.rows():
            ours = [self.table.rows[name][i].text(" ± ") for i in shown]
            published = self.table.rows.get(f"{name}, published")
            theirs = [published[i].text("") for i in shown] if published else []
            yield name, _joined(theirs) or "-", "not run" if set(ours) <= {"not run", ""} else _joined(ours)

    def command_of(self, row: str) -> str:
        return f"{self.command} --rows {shlex.quote(row)}"


def paper_parts() -> list[PaperPart]:
    """Those of all shipped sweeps that are named after a paper, with results that are shipped or in `runs`."""
    parts = []
    for name, file in sweep_files().items():
        if match := _PART.fullmatch(name):
            sweep = read_sweep(file)
            files = (file.with_suffix(".jsonl"), Path("runs") / name / "results.jsonl")
            results = read_finished(sweep.runs, *files).results
            number = " ".join([match[2], match[3].replace("_", " ")])
            parts.append(PaperPart(match[1], name, number, sweep, make_table(sweep, results)))
    return parts


def print_papers(*, markdown: bool = False) -> None:
    parts = paper_parts()
    for method in dict.fromkeys(part.method for part in parts):
        paper = " ".join(facts_of_page(method)["paper"].removeprefix("Paper: ").partition(" Authors' code")[0].split())
        print(f"## {paper}\n" if markdown else f"{_plain(paper)}")
        for part in (part for part in parts if part.method == method):
            (_print_markdown if markdown else _print)(part)
        _print_pictures(method, markdown=markdown)
        print()
    _print_pages_without_sweep({part.method for part in parts}, markdown=markdown)
    if not markdown:
        print(
            "One row: --rows 'NAME'. Where the data are: --data coco.path=/data/coco ... Published numbers of several "
            "columns stand in their\norder, with averages the averages alone; `--table` of a sweep shows all of them."
        )


def _print(part: PaperPart) -> None:
    print(f"  {part.number}: {part.sweep.title}\n    {part.command}\n    needs {part.sweep.needs}")
    if len(part.shown) > 1:
        print(f"    numbers: {'; '.join(part.table.columns[i] for i in part.shown)}")
    rows = list(part.rows())
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
    for name, published, ours in rows:
        print(f"      {name:<{widths[0]}}  published {published:<{widths[1]}}  ours {ours}")


def _print_markdown(part: PaperPart) -> None:
    print(f"### {part.number.capitalize()}: {part.sweep.title}\n")
    print(f"Source: {part.sweep.source}. Needs: {part.sweep.needs}.")
    print(f"\n```bash\n{part.command}\n```\n\n| row | published | ours |\n|---|---|---|")
    for row in part.rows():
        print(f"| {' | '.join(row)} |")
    print()


def _print_pictures(method: str, *, markdown: bool) -> None:
    """The figures of the paper that are pictures of a run."""
    for name, kind in KINDS.items():
        run = "RUN RUN ..." if kind.takes == "runs" else "RUN PHOTO" if kind.takes == "photo" else "RUN"
        for number in (figure for paper, figure in kind.figures if paper == method):
            if markdown:
                print(f"### {number.capitalize()}: {kind.summary}\n\n```bash\nhf-mlrpl picture {name} {run}\n```\n")
            else:
                print(f"  {number}: {kind.summary}\n    hf-mlrpl picture {name} {run}\n    needs a finished run")


def _print_pages_without_sweep(methods: set[str], *, markdown: bool) -> None:
    """Methods whose published numbers stand on their page alone."""
    pages = dict.fromkeys(spec.page or name for name, spec in METHODS.items() if spec.package == PACKAGE)
    others = [page for page in pages if page not in methods]
    text = f"Methods of other papers, their published numbers on their pages in model_cards: {', '.join(others)}."
    print(f"{text}\n")


def _joined(texts: list[str]) -> str:
    return " ".join(text or "-" for text in texts) if any(texts) else ""


def _plain(text: str) -> str:
    """Without the addresses of links in Markdown."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
