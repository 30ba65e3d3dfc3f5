"""Which column of a table names the photo, which ones are labels, and which are neither."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from ...labels import shorten
from ...settings import as_setting, did_you_mean
from ..columns import IMAGE_ID
from .table_files import Column, Table
from .values import Alphabet, describe_values, is_empty, looks_like_labels

logger = logging.getLogger(__name__)

IMAGE_COLUMNS = ("image", "file_name", "filename", "path", "image_path", "filepath", "file")
POSITIVE_COLUMNS, NEGATIVE_COLUMN, SPLIT = ("positive", "labels", "tags"), "negative", "split"
HARDLY_LABELS = re.compile(
    r"unnamed: ?\d+|__index_level_\d+__|level_\d+|(.*_)?(id|idx|index)|uuid|k?fold|split|set|subset|partition|"
    r"(is_)?(train|test|val|valid|validation)(ing|_set)?|width|height|size|rows?|age|year|annotators?|lead_time"
)
NOT_HARDLY = ("train",)  # a vehicle, too


@dataclass(frozen=True, kw_only=True)
class ColumnSettings:
    """Which column holds what, as the user says; `None` where that is to be found out.

    label_columns: names, or patterns such as `attr_*`: columns with one label each, or lists of names.
    ignore: names or patterns of columns that are not looked at.
    """

    image_column: str | None = None
    id_column: str | None = None
    label_columns: str | Sequence[str] | None = None
    negative_column: str | None = None
    ignore: str | Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Roles of the columns of a table.

    image: names the photos; `None` where they do not come from the table.
    labels: columns with one label each, or else
    positive, negative: columns that list the names of labels.
    unused: nothing of these.
    """

    image: str | None
    image_id: str | None
    split: str | None
    labels: list[str] = field(default_factory=list)
    positive: list[str] = field(default_factory=list)
    negative: str | None = None
    unused: list[str] = field(default_factory=list)

    @property
    def lists(self) -> bool:
        return bool(self.positive or self.negative)


def find_roles(
    tables: Sequence[Table],
    settings: ColumnSettings,
    alphabet: Alphabet,
    chosen: Mapping[str, str] | None = None,
    needs_image: bool = True,
) -> Roles:
    """The roles of the columns of `tables`, which are the splits of one data set.

    Args:
        alphabet: takes note of the cells of all columns that may be labels.
        chosen: the names of the labels that are asked for, by what their columns are called.
        needs_image: whether a column must name the photos.
    """
    finder = _Finder(tables, settings, alphabet)
    return finder.find(chosen, needs_image)


def is_hardly_label(name: str) -> bool:
    """Whether a column with this name is probably something else than a label."""
    return bool(HARDLY_LABELS.fullmatch(name.lower())) and name.lower() not in NOT_HARDLY


def expand(patterns: str | Sequence[str], names: Sequence[str], setting: str, source: str) -> list[str]:
    """The names that are meant by `patterns`, each a name or a pattern with `*`, in the order of `names`."""
    found: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matches = [pattern] if pattern in names else [name for name in names if fnmatchcase(name, pattern)]
        if not matches:
            raise ValueError(f"`{setting}`: {source} has no column {pattern!r}. {did_you_mean(pattern, names)}")
        found.update(matches)
    return [name for name in names if name in found]


class _Finder:
    def __init__(self, tables: Sequence[Table], settings: ColumnSettings, alphabet: Alphabet):
        self.tables, self.settings, self.alphabet = tables, settings, alphabet
        self.source = tables[0].source
        names = list(dict.fromkeys(name for table in tables for name in table.columns))
        ignored = expand(settings.ignore, names, "ignore", self.source)
        self.names = [name for name in names if name not in ignored]
        self.values = {name: [v for column in self._columns(name) for v in column.used] for name in self.names}
        self.one_label = {name: looks_like_labels(values, alphabet) for name, values in self.values.items()}
        for table in tables:
            for name in table.columns:
                if name in self.one_label and self.one_label[name]:
                    alphabet.add(table, name)

    def _columns(self, name: str) -> Iterable[Column]:
        return (table.columns[name] for table in self.tables if name in table.columns)

    def find(self, chosen: Mapping[str, str] | None, needs_image: bool) -> Roles:
        settings = self.settings
        told = [self._one(setting) for setting in ("image_column", "id_column", "negative_column")]
        image, image_id, negative = told
        labels = None if settings.label_columns is None else self._label_columns([n for n in told if n])
        taken = [name for name in (*told, *(labels or ())) if name]
        if needs_image and image is None:
            image = self._image_column(taken)
            taken.append(image)
        image_id = image_id or self._if_free(IMAGE_ID, taken)
        split = self._if_free(SPLIT, taken)
        free = [name for name in self.names if name not in {*taken, image_id, split}]
        roles = Roles(image=image, image_id=image_id, split=split)
        if labels is None:
            positive, negative = self._list_columns(free, negative)
            if positive or negative:
                rest = [name for name in free if name not in (*positive, negative)]
                self._check_one_layout([name for name in (*positive, negative) if name], rest)
                return replace(roles, positive=positive, negative=negative, unused=rest)
            labels = self._one_label_each(free, chosen)
            return replace(roles, labels=labels, unused=[name for name in free if name not in labels])
        if negative or self._are_lists(labels):
            return replace(roles, positive=labels, negative=negative, unused=free)
        for name in labels:
            self._check_cells(name)
        self.alphabet.check()
        return replace(roles, labels=labels, unused=free)

    def _one(self, setting: str) -> str | None:
        name = getattr(self.settings, setting)
        if name is not None and name not in self.names:
            raise ValueError(f"`{setting}`: {self.source} has no column {name!r}. {did_you_mean(name, self.names)}")
        return name

    def _label_columns(self, others: list[str]) -> list[str]:
        columns = expand(self.settings.label_columns or (), self.names, "label_columns", self.source)
        for name in others:
            if name in columns:
                raise ValueError(f"The column `{name}` of {self.source} has two roles; `label_columns` names it, too.")
        return columns

    def _image_column(self, taken: list[str]) -> str:
        lower = {name.lower(): name for name in reversed(self.names)}
        for candidate in IMAGE_COLUMNS:
            name = candidate if candidate in self.names else lower.get(candidate)
            if name is not None and name not in taken and not self.one_label[name]:
                return name
        free = [name for name in self.names if name not in taken]
        texts = [name for name in free if not self.one_label[name] and self._differ(name)]
        names = ", ".join(f"`{name}`" for name in self.names) or "none"
        hint = "".join(
            f" `{name}` ({describe_values(self.values[name])}): {as_setting('image_column', name)}."
            for name in texts[:3]
        )
        raise ValueError(
            f"{self.source} needs a column with the image files, such as `image`, `file_name` or `path`; its columns "
            f"are {names}.{hint}"
        )

    def _differ(self, name: str) -> bool:
        return all(column.counts.max(initial=0) <= 1 for column in self._columns(name))

    def _if_free(self, name: str, taken: list[str]) -> str | None:
        """A column of this name, unless it is a label by its cells."""
        return name if name in self.names and name not in taken and not self.one_label[name] else None

    def _list_columns(self, free: list[str], negative: str | None) -> tuple[list[str], str | None]:
        """The columns that list positives and negatives, by their names and cells."""
        positive = [name for name in POSITIVE_COLUMNS if name in free and not self.one_label[name]]
        if len(positive) > 1:
            both = " and ".join(f"`{name}`" for name in positive[:2])
            raise ValueError(
                f"{self.source} has the columns {both}, which mean the same. Keep one: "
                f"{as_setting('label_columns', positive[:1])}."
            )
        if negative is None and NEGATIVE_COLUMN in free and not self.one_label[NEGATIVE_COLUMN]:
            negative = NEGATIVE_COLUMN
        if not any(self._filled(name) for name in (*positive, negative) if name):
            if any(self.one_label[name] for name in free):
                self._check_lonely(free)
                return [], None
        if not positive and not negative:
            positive = [name for name in free if self._has_real_lists(name)]
            if len(positive) > 1:
                raise ValueError(
                    f"{self.source} has lists in the columns {', '.join(f'`{name}`' for name in positive)}. Which "
                    f"name labels? {as_setting('label_columns', positive[:1])}."
                )
        return positive, negative

    def _check_one_layout(self, lists: list[str], rest: list[str]) -> None:
        """Refuse a column with one label, called as one that lists names, beside others that do list names."""
        called_so = [name for name in (*POSITIVE_COLUMNS, NEGATIVE_COLUMN) if name in rest]
        labels = [name for name in called_so if self.one_label[name] and self._filled(name)]
        if labels:
            listing, single = (shorten([f"`{name}`" for name in names], 8) for names in (lists, labels))
            raise ValueError(
                f"{self.source} lists names in {listing}, and {single} may have one "
                f"label each ({describe_values(self.values[labels[0]])}): which are the labels? Only the lists: "
                f"{as_setting('ignore', labels)}; only the others: {as_setting('label_columns', labels)}."
            )

    def _has_real_lists(self, name: str) -> bool:
        values = [value for value in self.values[name] if not is_empty(value)]
        lists = bool(values) and all(isinstance(value, (list, tuple)) for value in values)
        return lists and all(isinstance(item, str) for value in values for item in value)

    def _check_lonely(self, free: list[str]) -> None:
        """Refuse a column `labels` with 0 and 1 that could be a label or list the names 0 and 1."""
        candidates = [name for name in free if self.one_label[name]]
        if len(candidates) == 1 and candidates[0] in (*POSITIVE_COLUMNS, "label", "class", "category"):
            name = candidates[0]
            raise ValueError(
                f"The column `{name}` of {self.source} holds {describe_values(self.values[name])}: a label that is "
                f"called {name!r}, or names of labels? {as_setting('label_columns', [name])} says the first; for the "
                f"second, say also what is between names, {as_setting('separator', 'semicolon')}."
            )

    def _are_lists(self, labels: list[str]) -> bool:
        """Whether columns that are said to be labels list names; one that is all empty may be either."""
        return not any(self.one_label[name] for name in labels) and any(
            not is_empty(value) for name in labels for value in self.values[name]
        )

    def _one_label_each(self, free: list[str], chosen: Mapping[str, str] | None) -> list[str]:
        """The columns with one label each."""
        if chosen is not None:
            labels = self._chosen_columns(free, chosen)
        else:
            labels = [name for name in free if self.one_label[name] or not self._filled(name)]
            self._check_hardly(labels)
            self.alphabet.check()
            strange = [name for name in free if name not in labels]
            for name in strange:
                if self._mostly_labels(name):
                    self._check_cells(name)
            self._check_strange(strange, labels)
            for table in self.tables:
                missing = [name for name in labels if name not in table.columns]
                if missing and len(table):
                    raise ValueError(
                        f"The tables of all splits must have the same label columns, but {table.source} lacks "
                        f"{shorten(missing, 5)}. Or choose the labels: {as_setting('labels', ['...'])}."
                    )
        if not labels:
            raise ValueError(
                f"{self.source} has no labels. Expected one column per label with 1 (present), 0 (absent) or nothing "
                "(unknown), or list columns `positive` and `negative` with label names. Columns found: "
                f"{', '.join(f'`{name}`' for name in self.names) or 'none'}."
            )
        for name in labels:
            self._check_cells(name)
        self.alphabet.check()
        return labels

    def _chosen_columns(self, free: list[str], chosen: Mapping[str, str]) -> list[str]:
        labels = [name for name in free if name in chosen]
        found = {chosen[name] for name in labels}
        for name in (name for name in chosen.values() if name not in found):
            raise ValueError(f"{self.source} has no column for the label {name!r}. {did_you_mean(name, free)}")
        return labels

    def _filled(self, name: str) -> bool:
        return any(not is_empty(value) for value in self.values[name])

    def _mostly_labels(self, name: str) -> bool:
        values = [value for value in self.values[name] if not is_empty(value)]
        return sum(self.alphabet.knows(value) for value in values) * 2 >= len(values)

    def _check_cells(self, name: str) -> None:
        """Raise `ValueError` for the first cell of a label column that says nothing about a label."""
        for table in self.tables:
            for value in table.columns[name].used if name in table.columns else ():
                if not self.alphabet.knows(value):
                    raise ValueError(self.alphabet.wrong_cell(table, name, value))

    def _check_hardly(self, labels: list[str]) -> None:
        hardly = [name for name in labels if is_hardly_label(name)]
        if hardly:
            ids = [name for name in hardly if self._differ(name)]
            by_id = f" If it names the photos: {as_setting('id_column', ids[0])}." if ids else ""
            raise ValueError(
                f"{self.source} has the columns {', '.join(f'`{name}`' for name in hardly)}, which are hardly labels. "
                f"Leave them out: {as_setting('ignore', hardly)}. If they are labels: "
                f"{as_setting('label_columns', labels)}.{by_id}"
            )

    def _check_strange(self, strange: list[str], labels: list[str]) -> None:
        """Refuse columns that are no labels by their cells, and that no setting speaks of."""
        if not strange:
            return
        shown = ", ".join(f"`{name}` ({describe_values(self.values[name])})" for name in strange[:8])
        texts = [name for name in strange if any(isinstance(value, str) for value in self.values[name])]
        lists = f" If `{texts[0]}` lists names of labels: {as_setting('label_columns', texts[:1])}." if texts else ""
        said = f"Leave them out: {as_setting('ignore', strange)}." if labels else ""
        raise ValueError(
            f"{self.source} has columns that are no labels, with values other than 1, 0 and nothing: {shown}. {said}"
            f"{lists}"
        )


def say_unused(source: str, unused: Sequence[str]) -> None:
    """Log the columns that are neither used nor ignored."""
    if unused:
        logger.warning(
            "%s: %s not used: %s. To hear no more of it: %s.",
            source,
            "this column is" if len(unused) == 1 else f"{len(unused)} columns are",
            shorten([f"`{name}`" for name in unused], 8),
            as_setting("ignore", list(unused)),
        )
