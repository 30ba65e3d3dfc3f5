"""Label names: read from settings, joined where one label has several spellings, chosen."""

import csv
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..labels import NEGATIVE, POSITIVE, UNKNOWN, shorten
from ..settings import as_setting, did_you_mean, parse_yaml
from .columns import check_unique
from .files import parse_json, read_lines, read_utf8

UNLISTED = 2  # in a matrix of labels: the data say neither that it is present, nor that it is absent
LOWERCASE, EXACT = "lowercase", "exact"
RARE = 100  # a spelling this many times rarer than a similar one is likely a mistake


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


def new_names(rename: Mapping[str, str] | str | Path | None, names: Sequence[str], check: bool = True) -> list[str]:
    """The new name of each of `names`.

    Args:
        rename: see `hf_mlrpl.data.rows.Choices`.
        check: raise `ValueError` for old names that are none of `names`.
    """
    plain = [tidy(name) for name in names]
    if rename is None or rename == EXACT:
        return plain
    if rename == LOWERCASE:
        return [name.lower() for name in plain]
    mapping = {tidy(str(old)): tidy(str(new)) for old, new in _read_mapping(rename).items()}
    unused = [old for old in mapping if old not in plain]
    if check and unused and (isinstance(rename, Mapping) or len(unused) == len(mapping)):
        raise ValueError(f"`rename` names {unused[0]!r}, which is no label. {did_you_mean(unused[0], plain)}")
    return [mapping.get(name, name) for name in plain]


def tidy(name: str) -> str:
    """`name` without blanks around it, in the composed form of Unicode: the two forms look the same."""
    return unicodedata.normalize("NFC", name).strip()


def folded(name: str) -> str:
    """The form that all spellings of a name share: case, blanks, `_` and `-` make no difference."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()


def _read_mapping(rename: Mapping[str, str] | str | Path) -> Mapping[str, str]:
    if isinstance(rename, Mapping):
        return rename
    file = Path(rename).expanduser()
    if not file.is_file():
        raise FileNotFoundError(
            f"`rename` must be a mapping of names, a file with one, {LOWERCASE!r} or {EXACT!r}, but there is no file "
            f"{str(rename)!r}."
        )
    text = read_utf8(file)
    if file.suffix.lower() in (".json", ".yaml", ".yml"):
        content = parse_json(text, file) if file.suffix.lower() == ".json" else parse_yaml(text, str(file))
        if not isinstance(content, dict):
            raise ValueError(f"{file} must be one mapping of names to names, got a {type(content).__name__}.")
        return content
    mapping: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            delimiter = next((d for d in "\t,;" if d in line), " ")
            cells = next(csv.reader([line], delimiter=delimiter)) if delimiter != " " else line.split(None, 1)
            if len(cells) != 2:
                raise ValueError(
                    f"{file}, line {number}: expected two names with a comma or tab between, got {line!r}."
                )
            if mapping.setdefault(cells[0], cells[1]) != cells[1]:
                raise ValueError(
                    f"{file}, line {number} renames {cells[0]!r} to {cells[1]!r}, but a line before to "
                    f"{mapping[cells[0]]!r}. Keep one."
                )
    return mapping


def join_columns(labels: np.ndarray, names: Sequence[str], targets: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """One column for each of `targets`, in the order of their first use.

    A label that several columns make up is present where one of them is, and absent where all are. Spellings of one
    name are the same label, so that one of them is enough for that.

    Args:
        labels: `(num_rows, num_names)` in {-1, 0, +1, UNLISTED}.
        names: of the columns; spellings of one name are told by `folded`.
        targets: the new name of each column.

    Raises:
        Conflict: for a row that has one spelling as present, another as absent.
    """
    if len(set(targets)) == len(targets):
        return labels, list(targets)
    sources: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for column, (name, target) in enumerate(zip(names, targets, strict=True)):
        sources[target][folded(name)].append(column)
    joined = np.empty((len(labels), len(sources)), dtype=np.int8)
    for i, (target, spellings) in enumerate(sources.items()):
        different = [_one_label(labels[:, columns], target) for columns in spellings.values()]
        joined[:, i] = _any_of(np.stack(different, axis=1))
    return joined, list(sources)


class Conflict(ValueError):
    """A row says that a label is present, and that it is absent.

    row: its number, from 0.
    """

    def __init__(self, row: int, name: str):
        super().__init__(f"{name} is both present and absent. Keep one.")
        self.row = row


def _one_label(columns: np.ndarray, name: str) -> np.ndarray:
    present, absent = (columns == POSITIVE).any(axis=1), (columns == NEGATIVE).any(axis=1)
    if (present & absent).any():
        raise Conflict(int((present & absent).argmax()), name)
    unknown = np.where((columns == UNKNOWN).any(axis=1), UNKNOWN, UNLISTED)
    return np.where(present, POSITIVE, np.where(absent, NEGATIVE, unknown)).astype(np.int8)


def _any_of(columns: np.ndarray) -> np.ndarray:
    present, absent = (columns == POSITIVE).any(axis=1), (columns == NEGATIVE).all(axis=1)
    unknown = np.where((columns == UNKNOWN).any(axis=1), UNKNOWN, UNLISTED)
    return np.where(present, POSITIVE, np.where(absent, NEGATIVE, unknown)).astype(np.int8)


def check_spellings(names: Sequence[str], counts: Sequence[int], source: str) -> None:
    """Raise `ValueError` where some of `names` differ only in case, blanks, `_` or `-`.

    Args:
        counts: images that show each label.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for column, name in enumerate(names):
        groups[folded(name)].append(column)
    several = [sorted(group, key=lambda i: (-counts[i], names[i])) for group in groups.values() if len(group) > 1]
    if not several:
        return
    shown = "; ".join(", ".join(f"{names[i]!r} ({counts[i]})" for i in group) for group in several[:5])
    joined = {names[i]: names[group[0]] for group in several for i in group[1:]}
    lower = {name.lower() for name in names}
    by_case = f" or {as_setting('rename', LOWERCASE)}" if len(lower) == len(groups) else ""
    raise ValueError(
        f"{source} spells {len(several)} label(s) in several ways, with their numbers of images: {shown}. To join "
        f"them: {as_setting('rename', joined)}{by_case}. To keep them apart: {as_setting('rename', EXACT)}."
    )


def likely_mistakes(names: Sequence[str], counts: Sequence[int]) -> dict[str, str]:
    """Rare names that are one letter away from one at least `RARE` times as frequent, and that one.

    Names that differ in digits are different labels.
    """
    frequent: dict[str, int] = {}
    order = sorted(range(len(names)), key=lambda i: counts[i])
    for i in order:  # the most frequent one comes last, and stays
        if counts[i] >= RARE:
            frequent |= dict.fromkeys(_without_one_letter(names[i]), i)
    found = {}
    for i in order:
        similar = [frequent[shorter] for shorter in _without_one_letter(names[i]) if shorter in frequent]
        best = max(similar, key=lambda j: counts[j], default=i)
        letters = [re.sub(r"\d", "", names[k]) for k in (i, best)]
        if counts[best] >= RARE * max(1, counts[i]) and counts[i] and letters[0] != letters[1]:
            found[names[i]] = names[best]
    return found


def _without_one_letter(name: str) -> set[str]:
    """`name`, and what is left of it without one of its letters: two names a mistake apart share one of these."""
    return {name} | {name[:i] + name[i + 1 :] for i in range(len(name))} if len(name) > 2 else {name}


def choose(
    labels: np.ndarray, names: Sequence[str], chosen: Sequence[str], source: str
) -> tuple[np.ndarray, dict[str, int]]:
    """The columns of `chosen`, and the labels that are left out with the number of images that show them.

    A chosen label that the data do not name is unlisted everywhere.
    """
    column_of = {name: i for i, name in enumerate(names)}
    spelled = {folded(name): name for name in names}
    for name in chosen:
        if name not in column_of and folded(name) in spelled:
            raise ValueError(f"{source} has no label {name!r}. Did you mean {spelled[folded(name)]!r}?")
    result = np.full((len(labels), len(chosen)), UNLISTED, dtype=np.int8)
    for i, name in enumerate(chosen):
        if name in column_of:
            result[:, i] = labels[:, column_of[name]]
    out = [i for i, name in enumerate(names) if name not in set(chosen)]
    return result, {names[i]: int((labels[:, i] == POSITIVE).sum()) for i in out}
