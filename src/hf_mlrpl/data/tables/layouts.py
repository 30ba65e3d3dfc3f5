"""From the columns of tables to labels in {-1, 0, +1, UNLISTED}.

Three layouts. One column per label. List columns, which hold the names of labels that are present and, in another
column, of those that are absent; a list of as many numbers as there are labels is read as one number per label. And
one row per photo and label, where photos stand in several rows that list one name each.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...labels import NEGATIVE, POSITIVE, shorten
from ...settings import as_setting
from ..names import UNLISTED, new_names, read_label_names, tidy
from .cells import ListParser, are_vectors
from .roles import ColumnSettings, Roles, find_roles, say_unused
from .table_files import Table
from .values import Alphabet, read_values

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TableSettings(ColumnSettings):
    """How the cells of a table are understood.

    separator: what stands between the names in a cell of a list column, see `hf_mlrpl.data.tables.cells`.
    values: meanings of the cells of columns with one label, see `hf_mlrpl.data.tables.values`.
    labels, rename, unlisted: see `hf_mlrpl.data.rows.Choices`.
    """

    separator: str | None = None
    values: Mapping[Any, str] | str | None = None
    labels: Sequence[str] | str | Path | None = None
    rename: Mapping[str, str] | str | Path | None = None
    unlisted: str = "unknown"


@dataclass(frozen=True, kw_only=True)
class TableLabels:
    """The labels of the rows of tables that are the splits of one data set.

    labels: for each table, `(num_rows, num_labels)` int8 in {-1, 0, +1, UNLISTED}.
    one_name_a_row: for each table, whether every row lists one name, so that photos may stand in several rows.
    sort_names: whether the order of `names` says nothing.
    """

    roles: Roles
    names: list[str]
    labels: list[np.ndarray]
    one_name_a_row: bool = False
    sort_names: bool = False


def read_labels(
    tables: Sequence[Table],
    settings: TableSettings,
    needs_image: bool = True,
    declared: Mapping[str, list[str]] | None = None,
) -> TableLabels:
    """The labels of all rows of `tables`.

    Args:
        needs_image: whether a column must name the photos.
        declared: the names of all labels, for list columns whose type says them.
    """
    alphabet = Alphabet(read_values(settings.values))
    chosen = read_label_names(settings.labels)
    roles = find_roles(tables, settings, alphabet, _columns_of(chosen, settings, tables), needs_image)
    say_unused(tables[0].source, roles.unused)
    if roles.lists:
        return _ListReader(tables, roles, settings, alphabet).read(chosen, declared or {})
    if settings.unlisted != "unknown":
        raise ValueError(
            f"`unlisted={settings.unlisted!r}` is for columns that list names, but {tables[0].source} has one column "
            f"per label: write 0 where a label is absent, or say what an empty cell is: "
            f"{as_setting('values', 'empty_absent')}."
        )
    if settings.separator is not None:
        raise ValueError(
            f"`separator` is for columns that list names, but {tables[0].source} has one column per label: "
            f"{shorten(roles.labels)}. If another one lists them, name it with `label_columns`."
        )
    labels = []
    for table in tables:
        matrix = np.empty((len(table), len(roles.labels)), dtype=np.int8)
        for i, name in enumerate(roles.labels if len(table) else ()):
            matrix[:, i] = alphabet.read(table, name)
        labels.append(matrix)
    return TableLabels(roles=roles, names=roles.labels, labels=labels)


def _columns_of(chosen: list[str] | None, settings: TableSettings, tables: Sequence[Table]) -> dict[str, str] | None:
    """The chosen labels by the columns that would hold them."""
    if chosen is None:
        return None
    wanted = {tidy(name): name for name in chosen}
    columns = list(dict.fromkeys(name for table in tables for name in table.columns))
    targets = new_names(settings.rename, columns, check=False)  # the names to be changed may stand in cells
    found = {column: target for column, target in zip(columns, targets, strict=True) if target in wanted}
    return found | {name: name for name in wanted if name not in found.values()}


class _ListReader:
    """Labels from list columns."""

    def __init__(self, tables: Sequence[Table], roles: Roles, settings: TableSettings, alphabet: Alphabet):
        self.tables, self.roles, self.settings, self.alphabet = tables, roles, settings, alphabet
        self.source = tables[0].source
        ids = settings.rename is not None
        self.parsers = {name: ListParser(settings.separator, ids) for name in self._columns()}

    def _columns(self) -> dict[str, int]:
        """The list columns, and what their names say."""
        columns = dict.fromkeys(self.roles.positive, POSITIVE)
        return columns | ({self.roles.negative: NEGATIVE} if self.roles.negative else {})

    def read(self, chosen: list[str] | None, declared: Mapping[str, list[str]]) -> TableLabels:
        names = next((declared[name] for name in self._columns() if name in declared), None)
        if len(self._columns()) == 1:
            column = next(iter(self._columns()))
            width = are_vectors([cell for table in self.tables for cell in _used(table, column)])
            if width is not None and not self.parsers[column].ids:
                return self._read_vectors(column, width, names or chosen)
        cells = [{name: self._names(table, name) for name in self._columns()} for table in self.tables]
        for parser in self.parsers.values():
            parser.check(self.source, chosen or ())
        if names is None:
            listed = {name for of_table in cells for column in of_table.values() for cell in column for name in cell}
            names = sorted(listed)
        if not names:
            columns = ", ".join(f"`{name}`" for name in self._columns())
            raise ValueError(f"{self.source} has no labels: {columns} list none.")
        return TableLabels(
            roles=self.roles,
            names=names,
            labels=[self._matrix(table, of_table, names) for table, of_table in zip(self.tables, cells, strict=True)],
            one_name_a_row=all(self._one_name_a_row(t, of_t) for t, of_t in zip(self.tables, cells, strict=True)),
            sort_names=not declared,
        )

    def _names(self, table: Table, name: str) -> list[list[str]]:
        """The names in each of the values of a column; none for values that no row has."""
        if name not in table.columns:
            return []
        column, found = table.columns[name], []
        for value, count in zip(column.values, column.counts.tolist(), strict=True):
            try:
                found.append(self.parsers[name].names(value, count) if count else [])
            except ValueError as error:
                raise ValueError(f"{table.where(column.row_of(value))}, column `{name}`: {error}") from error
        return found

    def _matrix(self, table: Table, cells: dict[str, list[list[str]]], names: Sequence[str]) -> np.ndarray:
        column_of = {name: i for i, name in enumerate(names)}
        labels = np.full((len(table), len(names)), UNLISTED, dtype=np.int8)
        for column, value in self._columns().items():
            if column not in table.columns:
                continue
            coded = table.columns[column].codes
            lengths = np.array([len(cell) for cell in cells[column]], dtype=np.int64)
            starts = lengths.cumsum() - lengths
            flat = np.array([column_of[name] for cell in cells[column] for name in cell], dtype=np.int64)
            rows = np.repeat(np.arange(len(table)), lengths[coded])
            within = np.arange(len(rows)) - np.repeat(lengths[coded].cumsum() - lengths[coded], lengths[coded])
            columns = flat[np.repeat(starts[coded], lengths[coded]) + within]
            if value == NEGATIVE:
                both = labels[rows, columns] == POSITIVE
                if both.any():
                    row, name = rows[both][0], names[columns[both][0]]
                    raise ValueError(f"{table.where(row)}: {name} is both positive and negative. Keep one.")
            labels[rows, columns] = value
        return labels

    def _one_name_a_row(self, table: Table, cells: dict[str, list[list[str]]]) -> bool:
        lengths = np.zeros(len(table), dtype=np.int64)
        for column, of_column in cells.items():
            if column in table.columns and len(table):
                lengths += np.array([len(cell) for cell in of_column])[table.columns[column].codes]
        return bool((lengths == 1).all())

    def _read_vectors(self, column: str, width: int, names: list[str] | None) -> TableLabels:
        """Labels from lists of one number per label."""
        if names is None or len(names) != width:
            known = "the names are not known" if names is None else f"there are {len(names)} names"
            raise ValueError(
                f"{self.source}: the column `{column}` has lists of {width} numbers, which may be one per label, but "
                f"{known}. Give the {width} names in their order: {as_setting('labels', ['...'])}, or a file."
            )
        for table in self.tables:
            self.alphabet.add_vectors(table, column)
        self.alphabet.check()
        labels = [self.alphabet.read_vectors(table, column, width) for table in self.tables]
        return TableLabels(roles=self.roles, names=list(names), labels=labels)


def _used(table: Table, name: str) -> list[Any]:
    return table.columns[name].used if name in table.columns else []
