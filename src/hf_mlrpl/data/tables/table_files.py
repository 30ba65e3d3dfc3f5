"""Reading tables of CSV, JSON Lines and Parquet files; nothing is guessed, every row keeps the number a user sees."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..columns import check_unique
from ..files import read_utf8

SUFFIXES = (".csv", ".jsonl", ".parquet")
SEPARATORS = ",;\t"


@dataclass(frozen=True)
class Table:
    """Columns of equal length, and the place every row came from.

    source: the file, as it is named in messages.
    columns: name to values: text in a CSV file, Python values otherwise; an absent JSON key is `None`.
    numbers: the number of every row. A spreadsheet's numbers for CSV (the header is row 1), line numbers for JSON
        Lines, rows counted from 1 for Parquet.
    unit: "row" or "line".
    """

    source: str
    columns: dict[str, list[Any]]
    numbers: list[int]
    unit: str = "row"

    def __len__(self) -> int:
        return len(self.numbers)

    def where(self, row: int) -> str:
        """The place of a row, for messages."""
        return f"{self.source}, {self.unit} {self.numbers[row]}"

    def select(self, rows: list[int]) -> "Table":
        """The table with these rows only."""
        columns = {name: [values[row] for row in rows] for name, values in self.columns.items()}
        return replace(self, columns=columns, numbers=[self.numbers[row] for row in rows])


def read_table(file: Path) -> Table:
    """The table in `file`; its suffix tells the format."""
    readers: dict[str, Callable[[Path], Table]] = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if file.suffix.lower() not in readers:
        raise ValueError(f"{file} must be a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file, got {file.suffix!r}.")
    return readers[file.suffix.lower()](file)


def _read_csv(file: Path) -> Table:
    text = read_utf8(file, "In a spreadsheet, save it as 'CSV UTF-8'.")
    header_line = text.split("\n", 1)[0]
    separator = max(SEPARATORS, key=header_line.count)  # spreadsheets in many languages write semicolons
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise ValueError(f"{file} cannot be read as CSV: {error}.") from error
    if not lines:
        raise ValueError(f"The table {file} is empty: it has not even a header.")
    header = [name.strip() for name in lines[0]]
    check_unique([name for name in header if name], f"{file}: the header must name every column once")
    numbers = [number for number, line in enumerate(lines[1:], start=2) if any(cell.strip() for cell in line)]
    for number in numbers:
        if len(lines[number - 1]) != len(header):
            raise ValueError(
                f"{file}, row {number} has {len(lines[number - 1])} cells, but the header has {len(header)} "
                f"(separated by {separator!r}). A cell that contains the separator needs quotes around it."
            )
    # A column without a name is an index that a program has written along; it can be no label.
    columns = {name: [lines[n - 1][i].strip() for n in numbers] for i, name in enumerate(header) if name}
    return Table(str(file), columns, numbers)


def _read_jsonl(file: Path) -> Table:
    rows, numbers = [], []
    for number, line in enumerate(read_utf8(file, "JSON Lines are always UTF-8.").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{file}, line {number} is not valid JSON: {error}. Every line is one row.") from error
        if not isinstance(row, dict):
            raise ValueError(
                f'{file}, line {number} must be an object such as {{"image": "a.jpg", "dog": 1}}, '
                f"got {line.strip()[:60]}."
            )
        rows.append(row)
        numbers.append(number)
    names = dict.fromkeys(name for row in rows for name in row)  # in the order of their first use
    return Table(str(file), {name: [row.get(name) for row in rows] for name in names}, numbers, unit="line")


def _read_parquet(file: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = pq.read_table(file)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{file} is no Parquet file, or a damaged one: {error}.") from error
    return Table(str(file), content.to_pydict(), list(range(1, content.num_rows + 1)))
