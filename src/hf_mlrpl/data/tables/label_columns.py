"""From the columns of a table to labels in {-1, 0, +1}.

Two layouts. One column per label holds 1 (present), 0 or -1 (absent), or nothing (unknown). List columns `positive`
(or `labels`) and `negative` hold label names; what they do not list is unknown, or absent on request.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from ...labels import NEGATIVE, POSITIVE, UNKNOWN, shorten
from ..columns import check_unique
from ..files import read_lines
from .table_files import Table

POSITIVE_COLUMNS, NEGATIVE_COLUMN = ("positive", "labels"), "negative"
UNLISTED = {"unknown": UNKNOWN, "absent": NEGATIVE}
LIST_SEPARATORS = re.compile("[;|]")


def read_label_names(labels: Sequence[str] | str | Path | None) -> list[str] | None:
    """The label names of a `labels` argument: a list, or a text file with one name per line; `None` stays `None`."""
    if labels is None:
        return None
    if isinstance(labels, (str, Path)):
        file = Path(labels).expanduser()
        if not file.is_file():
            raise FileNotFoundError(
                f"`labels` must be a list of label names or a text file with one name per line, but there is no file "
                f"{str(labels)!r}."
            )
        names, source = read_lines(file), str(file)
    else:
        names, source = list(labels), "`labels`"
    wrong = [name for name in names if not isinstance(name, str) or not name.strip()]
    if wrong or not names:
        raise ValueError(f"{source} must name at least one label, and all as text, got {shorten(wrong or names)}.")
    check_unique(names, f"{source} must name every label once")
    return names


def find_label_names(tables: Sequence[Table], reserved: Iterable[str]) -> list[str]:
    """The label names that `tables` use together: the label columns in their order, or the listed names, sorted.

    Args:
        tables: the tables of all splits, so that the splits agree.
        reserved: columns that are no labels.
    """
    if any(_list_columns(table) for table in tables):
        names = sorted(
            {name for table in tables for column in _list_columns(table) for name in _listed(table, column)}
        )
        _check_separators(names, tables)
    else:
        names = _common_label_columns(tables, set(reserved))
    if not names:
        found = ", ".join(f"`{name}`" for name in tables[0].columns) or "none"
        raise ValueError(
            f"{tables[0].source} has no labels. Expected one column per label with 1 (present), 0 (absent) or nothing "
            f"(unknown), or list columns `positive` and `negative` with label names. Columns found: {found}."
        )
    return names


def read_labels(table: Table, names: Sequence[str], unlisted: str = "unknown") -> np.ndarray:
    """The labels of every row of `table`, `(num_rows, num_labels)` int8 in {-1, 0, +1}.

    Args:
        names: the labels, in the order of the result.
        unlisted: what the labels are that list columns do not name, "unknown" or "absent".
    """
    if unlisted not in UNLISTED:
        raise ValueError(f"`unlisted` must be 'unknown' or 'absent', got {unlisted!r}.")
    if _list_columns(table):
        return _read_lists(table, names, UNLISTED[unlisted])
    if unlisted != "unknown":
        raise ValueError(
            f"`unlisted={unlisted!r}` is for the list columns `positive` and `negative`, but {table.source} has one "
            "column per label: write 0 where a label is absent."
        )
    return _read_label_columns(table, names)


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """A sentence that offers the name closest to `name`, or the first of all."""
    lower = {candidate.lower(): candidate for candidate in reversed(known)}
    close = get_close_matches(name.lower(), lower, n=1)
    return f"Did you mean {lower[close[0]]!r}?" if close else f"Known: {shorten(known, 10)}."


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: `None`, NaN (which differs from itself) or blanks."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _list_columns(table: Table) -> list[str]:
    """The list columns of `table`, that of the positives first."""
    positive = [name for name in POSITIVE_COLUMNS if name in table.columns]
    if len(positive) > 1:
        raise ValueError(f"{table.source} has the columns `positive` and `labels`, which mean the same. Keep one.")
    return positive + [NEGATIVE_COLUMN] * (NEGATIVE_COLUMN in table.columns)


def _common_label_columns(tables: Sequence[Table], reserved: set[str]) -> list[str]:
    names = [name for name in tables[0].columns if name not in reserved]
    for other in tables[1:]:
        difference = {name for name in other.columns if name not in reserved} ^ set(names)
        if difference:
            raise ValueError(
                f"{tables[0].source} and {other.source} must have the same label columns, but only one of them has "
                f"{shorten(sorted(difference), 5)}. Or choose the labels with `labels=[...]`."
            )
    return names


# One column per label


def _read_label_columns(table: Table, names: Sequence[str]) -> np.ndarray:
    labels = np.empty((len(table), len(names)), dtype=np.int8)
    for i, name in enumerate(names):
        if name not in table.columns:
            raise ValueError(
                f"{table.source} has no column for the label {name!r}. {did_you_mean(name, list(table.columns))}"
            )
        labels[:, i] = _read_label_column(table, name)
    _check_one_kind_of_absent(table, names)
    return labels


def _read_label_column(table: Table, name: str) -> list[int]:
    """The labels in a column; a value that occurs often is understood once."""
    meaning: dict[str, int] = {}
    labels = []
    for row, value in enumerate(table.columns[name]):
        key = repr(value)
        if key not in meaning:
            meaning[key] = _read_label(table, name, row)
        labels.append(meaning[key])
    return labels


def _read_label(table: Table, name: str, row: int) -> int:
    value = table.columns[name][row]
    if is_empty(value):
        return UNKNOWN
    number = _to_number(value)
    if number == 1:
        return POSITIVE
    if number in (0, -1):
        return NEGATIVE
    close = get_close_matches(name.lower(), (*POSITIVE_COLUMNS, NEGATIVE_COLUMN), n=1)
    if close:
        advice = f"If the column lists label names, call it `{close[0]}`."
    else:
        advice = f"If `{name}` is no label, choose the labels with `labels=[...]`."
    raise ValueError(
        f"{table.where(row)}, column `{name}`: expected 1 (present), 0 or -1 (absent) or nothing (unknown), "
        f"got {value!r}. {advice}"
    )


def _check_one_kind_of_absent(table: Table, names: Sequence[str]) -> None:
    """Refuse 0 next to -1: whoever writes both means two things, and 0 is most likely 'unknown'."""
    first: dict[float, tuple[str, int]] = {}
    for name in names:
        values = table.columns[name]
        for value in {value for value in values if not is_empty(value)}:
            first.setdefault(_to_number(value), (name, values.index(value)))
    if 0 in first and -1 in first:
        (zero_name, zero_row), (minus_name, minus_row) = first[0], first[-1]
        raise ValueError(
            f"{table.source} has both 0 ({table.unit} {table.numbers[zero_row]}, column `{zero_name}`) and -1 "
            f"({table.unit} {table.numbers[minus_row]}, column `{minus_name}`), and each alone would mean absent. If "
            "0 means unknown here, leave these cells empty; if it means absent, write it in both places."
        )


def _to_number(value: Any) -> float:
    """`value` as a number; NaN for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


# List columns


def _read_lists(table: Table, names: Sequence[str], unlisted: int) -> np.ndarray:
    columns = {name: i for i, name in enumerate(names)}
    labels = np.full((len(table), len(names)), unlisted, dtype=np.int8)
    listed = {column: _cells(table, column) for column in _list_columns(table)}
    for column, cells in listed.items():
        value = NEGATIVE if column == NEGATIVE_COLUMN else POSITIVE
        for row, cell in enumerate(cells):
            for name in cell:
                if name not in columns:
                    raise ValueError(
                        f"{table.where(row)}, column `{column}`: unknown label {name!r}. "
                        f"{_unknown_label_advice(name, names)}"
                    )
                labels[row, columns[name]] = value
    if len(listed) == 2:
        for row, (positive, negative) in enumerate(zip(*listed.values(), strict=True)):
            both = sorted(set(positive) & set(negative))
            if both:
                raise ValueError(f"{table.where(row)}: {shorten(both)} is both positive and negative. Keep one.")
    return labels


def _listed(table: Table, column: str) -> set[str]:
    return {name for cell in _cells(table, column) for name in cell}


def _cells(table: Table, column: str) -> list[list[str]]:
    """The names in every cell of a list column: a list of text, or text separated by `;` or `|`."""
    cells = []
    for row, cell in enumerate(table.columns[column]):
        names = LIST_SEPARATORS.split(cell) if isinstance(cell, str) else ([] if is_empty(cell) else cell)
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
            raise ValueError(
                f"{table.where(row)}, column `{column}`: expected a list of label names, such as 'dog;cat' in CSV or "
                f'["dog", "cat"] in JSON, got {cell!r}.{_about_numbers(names)}'
            )
        cells.append([name.strip() for name in names if name.strip()])
    return cells


def _about_numbers(cell: Any) -> str:
    if not isinstance(cell, (list, tuple)) or not all(isinstance(number, int | float) for number in cell):
        return ""
    return (
        " Numbers tell neither the names of the labels, nor whether 0 is absent or unknown: "
        "`make_dataset(images, image_ids, labels, names)` takes them as -1 (absent), 0 (unknown) and 1 (present)."
    )


def _unknown_label_advice(name: str, names: Sequence[str]) -> str:
    if any(part.strip() in names for part in name.split(",")):
        return "Separate label names by `;` or `|`, not by a comma."
    return did_you_mean(name, names)


def _check_separators(names: list[str], tables: Sequence[Table]) -> None:
    """Refuse "dog, cat" as a label name where "dog" and "cat" are labels themselves."""
    known = set(names)
    for name in names:
        parts = [part.strip() for part in name.split(",")]
        if len(parts) > 1 and known.issuperset(parts):
            raise ValueError(
                f"{tables[0].source} lists the label {name!r}, and also {shorten(parts)}. Separate label names by `;` "
                "or `|`, not by a comma."
            )
