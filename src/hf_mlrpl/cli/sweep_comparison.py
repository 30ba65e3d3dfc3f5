"""What is chance in the results of a sweep: paired differences, mean ranks, and claims of papers.

A pair is what two rows have for the same column and the same seed: the same order of images, and where `seed_settings`
of the sweep has `data.seed`, the same known labels, which are others for each seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from .report import less_is_better
from .sweep_file import Claim, Run, Sweep
from .sweep_results import Published, Table

Results = Mapping[str, Mapping[str, Any]]  # finished runs by their key
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """Differences of the seeds that two rows share in a column; its interval is that of Student's t.

    planned: number of seeds.
    less_is_better: whether the row is the better one where the difference is below 0.
    """

    values: Sequence[float]
    planned: int
    less_is_better: bool = False

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % confidence interval of the mean; `None` for fewer than two pairs."""
        from scipy.stats import t

        count = len(self.values)
        if count < 2:
            return None
        return float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * stdev(self.values) / count**0.5

    @property
    def verdict(self) -> str:
        """Of the claim that the row is the better one."""
        if not self.values:
            return "not run"
        half, middle = self.half_width, mean(self.values)
        if half is None or abs(middle) <= half:
            return "within chance"
        return "confirmed" if (middle > 0) != self.less_is_better else "reversed"

    def text(self, plus_minus: str) -> str:
        if not self.values:
            return "not run" if self.planned else ""
        half = self.half_width
        text = f"{mean(self.values):+.1f}" + (f"{plus_minus}{half:.1f}" if half is not None else " (one pair)")
        is_short = half is not None and len(self.values) < self.planned
        return f"{text} ({len(self.values)} of {self.planned} pairs)" if is_short else text


@dataclass(frozen=True)
class Rank:
    """The mean rank of a row among those that have run everywhere, 1 for the best."""

    value: float | None

    def text(self, plus_minus: str) -> str:
        return "" if self.value is None else f"{self.value:.1f}"


def difference(sweep: Sweep, results: Results, row: str, other: str, column: str, metric: str) -> Difference:
    """`row` minus `other`; in a column of averages, where both have the same ones to average."""
    ours, theirs = (sweep.runs_by_seed(name, column) for name in (row, other))
    pairs = [
        [mean_of(runs[seed], results, metric) for runs in (ours, theirs)]
        for seed in ours
        if {run.column for run in ours[seed]} == {run.column for run in theirs.get(seed, ())}
    ]
    values = [first - second for first, second in pairs if first is not None and second is not None]
    return Difference(values, len(pairs), less_is_better(metric))


def mean_of(runs: Sequence[Run], results: Results, metric: str) -> float | None:
    """The mean of a metric; `None` if a run lacks it."""
    found = [results.get(run.key, {}).get("metrics", {}).get(metric) for run in runs]
    return None if None in found else mean(found)


def compare(sweep: Sweep, results: Results, baseline: str, metric: str) -> Table:
    """Paired differences of all other rows to `baseline`, with half of their 95 % intervals, and mean ranks."""
    columns = sweep.columns()
    ranks = mean_ranks(sweep, results, metric)
    return Table(
        [*(f"{metric} {column}".strip() for column in columns), "mean rank"],
        {
            row: [
                *(
                    Published(None) if row == baseline else difference(sweep, results, row, baseline, column, metric)
                    for column in columns
                ),
                Rank(ranks.get(row)),
            ]
            for row in sweep.rows()
        },
    )


def blocks(sweep: Sweep, results: Results, metric: str) -> list[dict[str, float]]:
    """For each column and seed in which the baseline has run, or else most rows have: the values of the rows that have
    run in all of them."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for run in sweep.runs:
        if metric in (metrics := results.get(run.key, {}).get("metrics", {})):
            found.setdefault((run.column, run.seed), {})[run.row] = metrics[metric]
    most = max((len(block) for block in found.values()), default=0)
    full = [
        block for block in found.values() if (sweep.baseline in block if sweep.baseline else 2 * len(block) > most)
    ]
    everywhere = set.intersection(*map(set, full)) if full else set()
    return [{row: block[row] for row in sweep.rows() if row in everywhere} for block in full]


def mean_ranks(sweep: Sweep, results: Results, metric: str) -> dict[str, float]:
    """Mean over columns and seeds of the rank of each row that has run in all of them, 1 for the best; equal values
    share a rank."""
    from scipy.stats import rankdata

    found = blocks(sweep, results, metric)
    if not found or len(found[0]) < 2:
        return {}
    sign = 1 if less_is_better(metric) else -1
    ranks = rankdata([[sign * value for value in block.values()] for block in found], axis=1).mean(axis=0)
    return dict(zip(found[0], ranks.tolist(), strict=True))


def critical_difference(num_rows: int, num_blocks: int) -> float:
    """Mean ranks that are closer are within chance: Nemenyi's test at 5 % (Demsar, JMLR 2006, section 3.2.2)."""
    from scipy.stats import studentized_range

    quantile = float(studentized_range.ppf(CONFIDENCE, num_rows, float("inf"))) / 2**0.5
    return quantile * (num_rows * (num_rows + 1) / (6 * num_blocks)) ** 0.5


def judge(sweep: Sweep, results: Results, metric: str) -> str:
    """A table in Markdown: each claim of a paper, the difference that we saw, and what that says."""
    lines = ["| claim | column | difference | |", "|---|---|---|---|"]
    for claim in sweep.claims:
        seen = difference(sweep, results, claim.better, claim.worse, claim.column, metric)
        lines.append(f"| {_words(claim)} | {claim.column} | {seen.text(' ± ')} | {seen.verdict} |")
    return "\n".join(lines) + "\n"


def _words(claim: Claim) -> str:
    text = f"{claim.better} over {claim.worse}"
    return f"{text} ({claim.source})" if claim.source else text
