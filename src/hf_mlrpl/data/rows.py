"""The one shape that every source of labels is read into, and what is done to it until it is a data set.

A reader of a container gives, for each split, photos with the labels that they are known to have and known not to
have. How names are spelled, which are chosen, what the unlisted ones are and where the photos lie is decided here.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..labels import NEGATIVE, POSITIVE, UNKNOWN, shorten, summarize_labels
from ..settings import as_setting, closest
from .columns import ROWS_AT_A_TIME, find_split, label_matrix, make_dataset
from .files import find_photos
from .names import (
    EXACT,
    LOWERCASE,
    UNLISTED,
    Conflict,
    check_spellings,
    choose,
    join_columns,
    likely_mistakes,
    new_names,
    read_label_names,
    tidy,
)

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)
label_logger = logging.getLogger(f"{__name__}.labels")  # off in commands, which print the same with their summary

UNLISTED_RULES = {"unknown": UNKNOWN, "absent": NEGATIVE}


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Settings that all loaders of own photos have.

    labels: the label names and their order: a list, or a text file with one name per line; others are left out and
        counted. By default all.
    rename: new names: a mapping, or a file with one (JSON, YAML, or lines with an id, a comma, a tab or blanks, and a
        name). Labels with equal new names become one, which is present where one of them is and absent where all are.
        "lowercase" takes case out; "exact" says that names that differ only in case, blanks, `_` or `-` are different.
    unlisted: what labels are that the data neither list as present nor as absent, "unknown" or "absent".
    missing: what to do about photos that do not exist: "error", or "skip" leaves them out and counts them.
    image_folder: where the photos lie; by default the usual places of the container are searched.
    """

    labels: Sequence[str] | str | Path | None = None
    rename: Mapping[str, str] | str | Path | None = None
    unlisted: str = "unknown"
    missing: str = "error"
    image_folder: str | Path | None = None

    def __post_init__(self) -> None:
        if self.unlisted not in UNLISTED_RULES:
            raise ValueError(f"`unlisted` must be 'unknown' or 'absent', got {self.unlisted!r}.")


@dataclass(frozen=True, kw_only=True)
class LabelRows:
    """The labels of the photos of one split.

    source: where they come from, for messages.
    names: of the labels, as they are written there.
    labels: `(num_photos, num_labels)` int8 in {-1, 0, +1, UNLISTED}.
    files: of the photos, as they are written there.
    ids: one per photo, unique.
    folders: where the photos may lie.
    where: the place of a row in `source`, for messages; by default its file.
    sort_names: whether the order of `names` says nothing.
    """

    source: str
    names: list[str]
    labels: np.ndarray
    files: list[str]
    ids: list[str]
    folders: list[Path]
    where: Callable[[int], str] | None = None
    sort_names: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def place(self, row: int) -> str:
        """The place of a row in `source`."""
        return f"photo {self.files[row]}" if self.where is None else self.where(row)

    def select(self, kept: np.ndarray) -> "LabelRows":
        """These rows only."""
        if len(kept) == len(self) and (kept == np.arange(len(self))).all():
            return self
        places = self.place
        where = None if self.where is None else lambda row: places(int(kept[row]))
        files, ids = ([values[row] for row in kept] for values in (self.files, self.ids))
        return replace(self, labels=self.labels[kept], files=files, ids=ids, where=where)

    def resolved(self, unlisted: str) -> "LabelRows":
        """The rows with labels in {-1, 0, +1}; the matrix is changed where it is.

        Args:
            unlisted: what the unlisted ones are, "unknown" or "absent".
        """
        for start in range(0, len(self), ROWS_AT_A_TIME):
            block = self.labels[start : start + ROWS_AT_A_TIME]
            if (block == UNLISTED).any():  # a matrix that needs no change may be read-only
                block[block == UNLISTED] = UNLISTED_RULES[unlisted]
        return self

    @property
    def num_present(self) -> np.ndarray:
        """`(num_labels,)` photos that show each label."""
        counts = np.zeros(len(self.names), dtype=np.int64)
        for start in range(0, len(self), ROWS_AT_A_TIME):
            counts += (self.labels[start : start + ROWS_AT_A_TIME] == POSITIVE).sum(axis=0)
        return counts


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A photo as most containers describe it, and the labels that they list.

    unknown: labels that are said to be neither present nor absent.
    annotated: whether somebody looked at it; otherwise labels stay unknown that it does not list.
    """

    file: str
    present: Iterable[str]
    absent: Iterable[str] = ()
    unknown: Iterable[str] = ()
    annotated: bool = True
    split: str = "train"
    image_id: str | None = None


def split_photos(
    photos: Iterable[Photo], source: str, folders: Sequence[Path], names: Sequence[str] | None = None
) -> dict[str, LabelRows]:
    """The rows of every split.

    Args:
        names: all labels in their order; by default those that the photos list, sorted.
    """
    listed = list(photos)
    if not listed:
        raise ValueError(f"{source} has no photos.")
    parts = (part for photo in listed for part in (photo.present, photo.absent, photo.unknown))
    found = {tidy(name) for part in parts for name in part}
    column_of = {name: i for i, name in enumerate(sorted(found) if names is None else map(tidy, names))}
    splits: dict[str, list[Photo]] = {}
    for photo in listed:
        splits.setdefault(photo.split, []).append(photo)
    return {
        split: LabelRows(
            source=source,
            names=list(column_of),
            labels=np.stack([_row(photo, column_of, source) for photo in of_split]),
            files=[photo.file for photo in of_split],
            ids=[photo.image_id or photo.file for photo in of_split],
            folders=list(folders),
            sort_names=names is None,
        )
        for split, of_split in splits.items()
    }


def _row(photo: Photo, column_of: dict[str, int], source: str) -> np.ndarray:
    row = np.full(len(column_of), UNLISTED if photo.annotated else UNKNOWN, dtype=np.int8)
    for value, listed in ((UNKNOWN, photo.unknown), (NEGATIVE, photo.absent), (POSITIVE, photo.present)):
        for name in map(tidy, listed):
            if name not in column_of:
                raise ValueError(f"{source}, photo {photo.file}: {name!r} is none of its labels.")
            if value == POSITIVE and row[column_of[name]] == NEGATIVE:
                raise ValueError(f"{source}, photo {photo.file}: {name} is both present and absent. Keep one.")
            row[column_of[name]] = value
    return row


def load_rows(splits: Mapping[str, LabelRows], split: str, choices: Choices) -> "Dataset":
    """The data set of one split, with the photos that exist."""
    rows = settle_names(splits, find_split(split, list(splits), next(iter(splits.values())).source), choices)
    if not len(rows):
        raise ValueError(f"{rows.source} is empty: its split {split!r} has no photos.")
    if choices.image_folder is not None:
        told = Path(choices.image_folder).expanduser()
        rows = replace(rows, folders=[told.absolute(), *(folder / told for folder in rows.folders)])
    dataset = load_photos(rows, choices.missing)
    warn_about_labels(label_matrix(dataset), rows.names, f"{rows.source}, split {split!r}")
    return dataset


def load_photos(rows: LabelRows, missing: str = "error") -> "Dataset":
    """The data set of `rows`, whose labels are in {-1, 0, +1}.

    Args:
        missing: see `Choices`.
    """
    where = None if rows.where is None else rows.place
    photos = find_photos(rows.files, list(dict.fromkeys(rows.folders)), rows.source, missing, where)
    kept = np.array([row for row, photo in enumerate(photos) if photo])
    rows = rows.select(kept)
    return make_dataset([photo for photo in photos if photo], rows.ids, rows.labels, rows.names)


def settle_names(splits: Mapping[str, LabelRows], split: str, choices: Choices) -> LabelRows:
    """The rows of a split with its final names, and labels in {-1, 0, +1}; all splits are looked at together."""
    names = list(dict.fromkeys(name for rows in splits.values() for name in rows.names))
    targets = dict(zip(names, new_names(choices.rename, names), strict=True))
    _say_unnamed(choices.rename, targets)
    joined = {of: _join(rows, targets, names) for of, rows in splits.items()}
    rows = joined[split]
    counts = np.sum([other.num_present for other in joined.values()], axis=0).tolist()
    chosen = read_label_names(choices.labels)
    if choices.rename != EXACT:
        check_spellings(rows.names, counts, rows.source)
        _say_likely_mistakes(rows, counts)
    if chosen is not None:
        chosen = [tidy(name) for name in chosen]
        labels, left_out = choose(rows.labels, rows.names, chosen, rows.source)
        rows = replace(rows, labels=labels, names=chosen)
        _say_left_out(rows.source, left_out, chosen)
    if not rows.names:
        raise ValueError(f"{rows.source} has no labels.")
    return rows.resolved(choices.unlisted)


def _say_left_out(source: str, left_out: Mapping[str, int], chosen: Sequence[str]) -> None:
    if left_out:
        shown = [f"{name} ({count} photos)" for name, count in left_out.items()]
        logger.warning("%s: %d label(s) are left out: %s.", source, len(left_out), shorten(shown, 8))
    similar = {name: close[0] for name in left_out if (close := closest(name, chosen))}
    if similar:
        shown = [f"{name!r} looks like {other!r}" for name, other in similar.items()]
        logger.warning("%s: %s. To join them: %s.", source, shorten(shown, 8), as_setting("rename", similar))


def _join(rows: LabelRows, targets: Mapping[str, str], all_names: Sequence[str]) -> LabelRows:
    """`rows` with one column for each new name that any split has."""
    labels = rows.labels
    if rows.names != list(all_names):
        column_of = {name: i for i, name in enumerate(all_names)}
        labels = np.full((len(rows), len(all_names)), UNLISTED, dtype=np.int8)
        labels[:, [column_of[name] for name in rows.names]] = rows.labels
    try:
        labels, names = join_columns(labels, all_names, [targets[name] for name in all_names])
    except Conflict as conflict:
        raise ValueError(f"{rows.source}, {rows.place(conflict.row)}: {conflict}") from conflict
    if rows.sort_names and names != sorted(names):
        order = sorted(range(len(names)), key=names.__getitem__)
        labels, names = labels[:, order], [names[i] for i in order]
    return replace(rows, labels=labels, names=names)


def _say_unnamed(rename: Any, targets: Mapping[str, str]) -> None:
    """Log the labels that a file with names does not know."""
    if isinstance(rename, (str, Path)) and rename not in (LOWERCASE, EXACT):
        unnamed = [old for old, new in targets.items() if tidy(old) == new]
        if unnamed:
            logger.warning(
                "%s names %d label(s) not, which stay as they are: %s.", rename, len(unnamed), shorten(unnamed)
            )


def _say_likely_mistakes(rows: LabelRows, counts: Sequence[int]) -> None:
    mistakes = likely_mistakes(rows.names, counts) if rows.sort_names else {}
    if mistakes:
        count_of = dict(zip(rows.names, counts, strict=True))
        shown = [f"{a!r} ({count_of[a]} photos) looks like {b!r} ({count_of[b]})" for a, b in mistakes.items()]
        advice = as_setting("rename", mistakes)
        logger.warning("%s: %s. To join them: %s.", rows.source, shorten(shown, 8), advice)


def warn_about_labels(labels: np.ndarray, names: Sequence[str], where: str) -> None:
    """Log what is very likely a mistake in `labels`, `(num_images, num_labels)`."""
    if not label_logger.isEnabledFor(logging.WARNING):
        return
    summary = summarize_labels(labels, list(names))
    if summary.unlabelled_images == len(labels):
        label_logger.warning("%s: all labels of all %d images are unknown, nothing can be learned", where, len(labels))
        return
    for message in summary.warnings:
        label_logger.warning("%s: %s", where, message)
