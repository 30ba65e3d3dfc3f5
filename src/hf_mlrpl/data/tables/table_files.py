"""Tables of CSV, TSV, JSON, JSON Lines and Parquet files; every row keeps the number a user sees."""

import csv
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...labels import shorten
from ...settings import shown
from ..columns import check_unique
from ..files import parse_json, read_utf8

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
DELIMITERS = ",;\t"
BLOCK = 2000  # rows of a CSV file that are in memory as text at a time


@dataclass(frozen=True)
class Column:
    """A column as its different values, so that each is understood once, however many rows have it.

    values: text in a CSV file, Python values otherwise; an absent JSON key is `None`.
    codes: `(num_rows,)` index into `values`.
    """

    values: list[Any]
    codes: np.ndarray

    @classmethod
    def of(cls, cells: Iterable[Any]) -> "Column":
        """The column with these cells."""
        cells, coder = list(cells), _Coder()
        codes = np.fromiter((coder[repr(cell)] for cell in cells), np.int32, len(cells))  # True and 1 differ
        return cls([cells[row] for row in np.unique(codes, return_index=True)[1]], codes)

    @classmethod
    def of_arrow(cls, column: "pa.ChunkedArray") -> "Column":
        """The column with the cells of `column`, of any type."""
        import pyarrow as pa

        if pa.types.is_nested(column.type):
            return cls.of(column.to_pylist())
        coded = column.combine_chunks().dictionary_encode(null_encoding="encode")
        return cls(coded.dictionary.to_pylist(), coded.indices.to_numpy(zero_copy_only=False))

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def counts(self) -> np.ndarray:
        """`(num_values,)` rows of each value; a table of one split may lack some."""
        return np.bincount(self.codes, minlength=len(self.values))

    @property
    def used(self) -> list[Any]:
        """The values that some row has."""
        return [value for value, count in zip(self.values, self.counts, strict=True) if count]

    def cells(self) -> list[Any]:
        """The value of each row."""
        return [self.values[code] for code in self.codes.tolist()]

    def row_of(self, value: Any) -> int:
        """The first row with `value`, which must be one of `used`."""
        codes = [code for code, other in enumerate(self.values) if other is value]
        return int(np.isin(self.codes, codes).argmax())

    def select(self, rows: np.ndarray) -> "Column":
        return Column(self.values, self.codes[rows])


@dataclass(frozen=True)
class Table:
    """Columns of equal length, and the place every row came from.

    source: the file, as it is named in messages.
    numbers: the number of every row. A spreadsheet's numbers for CSV (the header is row 1), line numbers for JSON
        Lines, rows counted from 1 otherwise.
    unit: "row", "line" or "entry".
    """

    source: str
    columns: dict[str, Column]
    numbers: Sequence[int]
    unit: str = "row"

    def __len__(self) -> int:
        return len(self.numbers)

    def place(self, row: int) -> str:
        """The place of a row in `source`, for messages."""
        return f"{self.unit} {self.numbers[row]}"

    def where(self, row: int) -> str:
        """The place of a row, for messages."""
        return f"{self.source}, {self.place(row)}"

    def select(self, rows: np.ndarray) -> "Table":
        """The table with these rows only."""
        columns = {name: column.select(rows) for name, column in self.columns.items()}
        return replace(self, columns=columns, numbers=[self.numbers[row] for row in rows])


def read_table(file: Path) -> Table:
    """The table in `file`; its suffix tells the format."""
    readers: dict[str, Callable[[Path], Table]] = {
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".jsonl": _read_jsonl,
        ".json": _read_json,
        ".parquet": _read_parquet,
    }
    if file.suffix.lower() not in readers:
        raise ValueError(f"{file} must be a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file, got {file.suffix!r}.")
    return readers[file.suffix.lower()](file)


class _Coder(dict):
    """From a value to its number; a new one gets the next."""

    def __missing__(self, value: Any) -> int:
        self[value] = len(self)
        return self[value]


def _read_csv(file: Path) -> Table:
    with file.open(encoding="utf-8-sig", newline="") as text:
        try:
            header_line = re.sub('"[^"]*"', "", text.readline())
            text.seek(0)
            delimiter = max(DELIMITERS, key=header_line.count)  # spreadsheets in many languages write semicolons
            lines = csv.reader(text, delimiter="\t" if file.suffix.lower() == ".tsv" else delimiter, strict=True)
            header = [name.strip() for name in next(lines, [])]
            if not header:
                raise ValueError(f"The table {file} is empty: it has not even a header.")
            check_unique([name for name in header if name], f"{file}: the header must name every column once")
            return _code_lines(file, header, lines)
        except csv.Error as error:
            raise ValueError(f"{file} cannot be read as CSV: {error}.") from error
        except UnicodeDecodeError as error:
            advice = "In a spreadsheet, save it as 'CSV UTF-8'."
            raise ValueError(f"{file} is not UTF-8 text: {error}. {advice}") from error


def _code_lines(file: Path, header: list[str], lines: Iterator[list[str]]) -> Table:
    """The table of the `lines` below the header, read in blocks: it needs little more memory than its codes."""
    coders = [_Coder() for _ in header]
    codes: list[list[np.ndarray]] = [[] for _ in header]
    numbers: list[int] = []
    first = 2
    while block := list(islice(lines, BLOCK)):
        kept = [(first + i, line) for i, line in enumerate(block) if any(map(str.strip, line))]
        first += len(block)
        for number, line in kept:
            if len(line) != len(header):
                raise ValueError(
                    f"{file}, row {number} has {len(line)} cells, but the header has {len(header)}. A cell that "
                    "contains the character between the cells needs quotes around it."
                )
        numbers += [number for number, _ in kept]
        for coder, coded, cells in zip(coders, codes, zip(*(line for _, line in kept), strict=True), strict=False):
            of_block = np.fromiter(map(coder.__getitem__, cells), np.int32, len(kept))
            coded.append(of_block.astype(np.int8) if len(coder) <= 128 else of_block)
    columns = {}
    for name, coder, coded in zip(header, coders, codes, strict=True):
        if not name:
            logger.warning("%s: a column without a name, as programs write an index, is not used.", file)
        else:
            values = [value.strip() for value in coder]
            columns[name] = Column(values, np.concatenate(coded) if coded else np.zeros(0, np.int8))
        coded.clear()
    return Table(str(file), columns, numbers)


def _read_jsonl(file: Path) -> Table:
    rows, numbers = [], []
    for number, line in enumerate(read_utf8(file, "JSON Lines are always UTF-8.").split("\n"), start=1):
        if line.strip():
            rows.append(parse_json(line, f"{file}, line {number}", "Every line is one row."))
            numbers.append(number)
    return _table_of_rows(file, rows, numbers, "line")


def _read_json(file: Path) -> Table:
    content = parse_json(read_utf8(file, "JSON is always UTF-8."), str(file), "Is it complete?")
    if isinstance(content, dict) and content and all(isinstance(value, list) for value in content.values()):
        if all(Path(name).suffix for name in content):  # {"a.jpg": ["dog", "cat"]}
            content = [{"image": name, "labels": names} for name, names in content.items()]
    if not isinstance(content, list):
        got = f"an object with the keys {shorten(list(content), 8)}" if isinstance(content, dict) else repr(content)
        raise ValueError(f'{file} must be a list of objects such as {{"image": "a.jpg", "dog": 1}}, got {got}.')
    return _table_of_rows(file, content, list(range(1, len(content) + 1)), "entry")


def _table_of_rows(file: Path, rows: list[Any], numbers: list[int], unit: str) -> Table:
    for number, row in zip(numbers, rows, strict=True):
        if not isinstance(row, dict):
            raise ValueError(
                f'{file}, {unit} {number} must be an object such as {{"image": "a.jpg", "dog": 1}}, '
                f"got {str(row)[:60]}."
            )
    names = dict.fromkeys(name for row in rows for name in row)  # in the order of their first use
    columns = {name: Column.of([row.get(name) for row in rows]) for name in names}
    return Table(str(file), columns, numbers, unit)


def _read_parquet(file: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} is no Parquet file, or a damaged one: {error}.") from error
    columns = {}
    for name in content.column_names:
        try:
            columns[name] = Column.of_arrow(content.column(name))
        except (ValueError, OverflowError, pa.ArrowException) as error:
            raise ValueError(
                f"{file}: the column {shown(name)} of the type {content.column(name).type} has a value that cannot be "
                f"read ({error}). Leave the column out of the file."
            ) from error
    return Table(str(file), columns, range(1, content.num_rows + 1))
