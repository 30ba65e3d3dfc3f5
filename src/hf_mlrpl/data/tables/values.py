"""Cells of columns with one label each: present, absent or unknown.

Understood without a setting, in any case: 1, true, yes, y, present and x (a tick) are present; 0, false, no, n and
absent are absent; an empty cell, ?, NA, N/A, NaN, null and unknown are unknown. -1 means absent to some and unknown to
others, so that a table with it needs `values`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...labels import NEGATIVE, POSITIVE, UNKNOWN, shorten
from ...settings import as_setting
from .table_files import Column, Table

MEANINGS = {"present": POSITIVE, "absent": NEGATIVE, "unknown": UNKNOWN}
EMPTY, ZERO, MINUS_ONE, TICK = "", "0", "-1", "x"
DEFAULTS = {
    **dict.fromkeys(("1", "true", "yes", "y", "present", TICK), POSITIVE),
    **dict.fromkeys((ZERO, "false", "no", "n", "absent"), NEGATIVE),
    **dict.fromkeys((EMPTY, "?", "na", "n/a", "nan", "null", "unknown"), UNKNOWN),
}
CONVENTIONS = {
    "zero_absent": {"1": "present", "0": "absent", "-1": "unknown"},  # CheXpert, CSL, DualCoOp
    "zero_unknown": {"1": "present", "0": "unknown", "-1": "absent"},  # this library, the lists of VOC
    "both_absent": {"1": "present", "0": "absent", "-1": "absent"},
    "minus_one_absent": {"1": "present", "-1": "absent"},
    "empty_absent": {"1": "present", "0": "absent", "": "absent"},
}


def read_values(values: Mapping[Any, str] | str | None) -> dict[str, int]:
    """The meaning of each cell that the setting `values` names, by `canonical`."""
    if values is None:
        return {}
    if isinstance(values, str):
        if values not in CONVENTIONS:
            raise ValueError(f"`values` must be a mapping or one of {', '.join(CONVENTIONS)}, got {values!r}.")
        values = CONVENTIONS[values]
    meaning: dict[str, int] = {}
    for cell, word in values.items():
        if word not in MEANINGS:
            raise ValueError(f"`values` must map {cell!r} to {', '.join(MEANINGS)}, got {word!r}.")
        key = EMPTY if cell == "empty" else canonical(cell)
        if meaning.setdefault(key, MEANINGS[word]) != MEANINGS[word]:
            raise ValueError(f"`values` gives {cell!r} two meanings.")
    return meaning


def canonical(value: Any) -> str:
    """A form that equal cells share: 1, 1.0 and "1" are one, True, "true" and "TRUE" are one, and so are blanks."""
    if value is None:
        return EMPTY
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    text = value.strip().casefold() if isinstance(value, str) else value
    try:
        number = float(text)
    except (TypeError, ValueError, OverflowError):
        return str(text)
    if math.isnan(number):
        return EMPTY
    return str(int(number)) if number.is_integer() else str(number)


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: `None`, NaN or blanks."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


@dataclass
class Alphabet:
    """The cells of all columns that may be labels, of all splits, and what they mean.

    given: what the setting `values` says, from `read_values`.
    """

    given: dict[str, int]
    _first: dict[str, tuple[Table, str, Any]] = field(default_factory=dict)

    def knows(self, value: Any) -> bool:
        """Whether a cell may stand in a column of a label."""
        key = canonical(value)
        return key in self.given or key in DEFAULTS or key == MINUS_ONE

    def add(self, table: Table, name: str) -> None:
        """Take note of the cells of a column that are known."""
        for value in table.columns[name].used:
            if self.knows(value):
                self._first.setdefault(canonical(value), (table, name, value))

    def add_vectors(self, table: Table, name: str) -> None:
        """Take note of the numbers in a column of lists with one number per label."""
        for vector in table.columns[name].used:
            for number in vector or ():
                self._first.setdefault(canonical(number), (table, name, vector))

    def check(self) -> None:
        """Raise `ValueError` where cells can mean two things."""
        given, found = self.given, self._first
        if MINUS_ONE in found and MINUS_ONE not in given:
            zero = f" and 0 ({self._place(ZERO)})" if ZERO in found else ""
            raise ValueError(
                f"{self._source} has -1 ({self._place(MINUS_ONE)}){zero}. -1 is absent in some tables and unknown in "
                f"others: say which. {self._choices()}"
            )
        if MINUS_ONE in found and ZERO in found and ZERO not in given:
            raise ValueError(
                f"{self._source} has 0 ({self._place(ZERO)}) and -1 ({self._place(MINUS_ONE)}), but `values` says "
                f"nothing of 0. {self._choices()}"
            )
        others = {key for key in found if DEFAULTS.get(key) == POSITIVE and key != TICK}
        if TICK in found and TICK not in given and others:
            raise ValueError(
                f"{self._source} has both x ({self._place(TICK)}) and {min(others)} ({self._place(min(others))}). If "
                f"x is present: {as_setting('values', {'x': 'present'})}, otherwise unknown or absent."
            )
        absent = any((given | DEFAULTS).get(key) == NEGATIVE for key in found)
        if TICK in found and EMPTY in found and not absent and EMPTY not in given:
            raise ValueError(
                f"{self._source} has only x and empty cells, such as {self._place(EMPTY)}. If empty is absent: "
                f"{as_setting('values', {'empty': 'absent'})}; if it is unknown: "
                f"{as_setting('values', {'empty': 'unknown'})}."
            )

    def read(self, table: Table, name: str) -> np.ndarray:
        """The labels in a column, `(num_rows,)` int8 in {-1, 0, +1}."""
        column = table.columns[name]
        return self._meanings(column, table, name)[column.codes]

    def read_vectors(self, table: Table, name: str, width: int) -> np.ndarray:
        """The labels in a column of lists with one number per label, `(num_rows, width)` int8 in {-1, 0, +1}."""
        cells = [cell for vector in table.columns[name].values for cell in (vector or [None] * width)]
        flat = Column(cells, np.arange(len(cells)))
        return self._meanings(flat, table, name).reshape(-1, width)[table.columns[name].codes]

    def _meanings(self, column: Column, table: Table, name: str) -> np.ndarray:
        """The meaning of each of `column.values`; those that no row has may be anything."""
        known = DEFAULTS | self.given
        meanings = np.zeros(len(column.values), dtype=np.int8)
        for code in np.flatnonzero(column.counts):
            key = canonical(column.values[code])
            if key not in known:
                raise ValueError(self.wrong_cell(table, name, column.values[code]))
            meanings[code] = known[key]
        return meanings

    def wrong_cell(self, table: Table, name: str, value: Any) -> str:
        """A message about the first cell of a column that is `value`."""
        column = table.columns[name]
        row = next((row for row in range(len(column)) if column.values[column.codes[row]] is value), None)
        where = table.source if row is None else table.where(row)
        return (
            f"{where}, column `{name}`: expected 1 (present), 0 (absent) or nothing (unknown), got {value!r}. If it "
            f"has a meaning: {as_setting('values', {str(value): 'unknown'})}, or present, or absent. If `{name}` is "
            f"no label: {as_setting('ignore', [name])}."
        )

    @property
    def _source(self) -> str:
        return next(iter(self._first.values()))[0].source

    def _place(self, key: str) -> str:
        table, name, value = self._first[key]
        return f"{table.place(table.columns[name].row_of(value))}, column `{name}`"

    def _choices(self) -> str:
        names = ["zero_absent", "zero_unknown", "both_absent"] if ZERO in self._first else ["minus_one_absent"]
        names += [] if ZERO in self._first else ["zero_absent"]
        choices = []
        for name in names:
            convention = CONVENTIONS[name]
            said = [f"{cell} {convention[cell]}" for cell in ("0", "-1") if cell in self._first]
            choices.append(f"{as_setting('values', name)} ({', '.join(said)})")
        own = as_setting("values", {"1": "present", "0": "absent", "-1": "unknown"})
        return f"Choose {'; '.join(choices)}; or any other meaning, such as {own}."


def looks_like_labels(values: Sequence[Any], alphabet: Alphabet) -> bool:
    """Whether a column with these different values may hold one label: all are known, and one is not empty."""
    return any(not is_empty(value) for value in values) and all(alphabet.knows(value) for value in values)


def describe_values(values: Iterable[Any]) -> str:
    """The first values that are not empty, for a message."""
    return shorten([repr(value) for value in values if not is_empty(value)], 2) or "nothing"
