"""Cells that list names: real lists, lists written as text, and names between separators.

`["dog", "cat"]`, `['dog', 'cat']`, `{"choices": ["dog", "cat"]}` and `{dog,cat}` say where each name ends, whatever is
in it. Other text is cut at `;` or `|`. Where the names that come out look like several names, it is an error that asks
for `separator`; with that setting, every cell of text is cut there, and nothing else is done to it.
"""

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ...settings import as_setting
from ..files import unique_keys
from ..names import tidy
from .values import is_empty

SEPARATORS = {"comma": ",", "semicolon": ";", "bar": "|", "tab": "\t", "newline": "\n", "hash": "#", "slash": "/"}
BLANK = "blank"
DEFAULT_SEPARATORS = ";|"
SUSPICIOUS = {character: name for name, character in SEPARATORS.items() if character in ",\t\n#"}
_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
MANY = 20  # so many names that nearly all occur once are suspicious


class ListParser:
    """Names in the cells of a list column.

    Args:
        separator: a word of `SEPARATORS`, "blank" for any blanks, or the text itself; by default `;` or `|`.
        ids: whole numbers are names, too.
    """

    def __init__(self, separator: str | None = None, ids: bool = False):
        if separator is not None and (not isinstance(separator, str) or not separator):
            raise ValueError(
                f"`separator` must be one of {', '.join([*SEPARATORS, BLANK])} or a text, got {separator!r}."
            )
        self.separator, self.ids = separator, ids
        self.cut: Counter[str] = Counter()  # names that were cut out of text, which may have been cut wrongly
        self._used: set[str] = set()

    def names(self, cell: Any, count: int = 1) -> list[str]:
        """The names in a cell, without repetitions.

        Args:
            count: rows that have this cell.

        Raises:
            ValueError: without the place of the cell.
        """
        if is_empty(cell):
            return []
        if isinstance(cell, str) and self.separator is not None:
            names = self._split_as_told(cell)
        elif isinstance(cell, str):
            listed = _written_list(cell.strip(), self.ids)
            names = self._split(cell, count) if listed is None else listed
        else:
            names = _items(cell, self.ids)
        names = [tidy(name) for name in names]
        return list(dict.fromkeys(name for name in names if name))

    def _split_as_told(self, cell: str) -> list[str]:
        if self.separator == BLANK or not str(self.separator).strip():
            return cell.split()
        return cell.split(SEPARATORS.get(str(self.separator), self.separator))

    def _split(self, cell: str, count: int) -> list[str]:
        names = [name.strip() for name in re.split(f"[{DEFAULT_SEPARATORS}]", cell)]
        self._used |= set(cell) & set(DEFAULT_SEPARATORS)
        if "" in names[:-1] or len(self._used) > 1:
            what = "an empty name in" if "" in names[:-1] else "both ; and | in cells such as"
            raise ValueError(f"there is {what} {cell!r}. Say what is between two names: {advice(BLANK)}.")
        self.cut.update(dict.fromkeys(names, count))
        return names

    def check(self, source: str, known: Iterable[str] = ()) -> None:
        """Raise `ValueError` where names look like several names each.

        Args:
            known: names that are right.
        """
        counts = {name: count for name, count in self.cut.items() if name and name not in set(known)}
        reason, separator, examples = _suspicion(counts)
        if examples:
            raise ValueError(
                f"{source} lists the labels {' and '.join(repr(name) for name in examples[:2])}: {reason}. If each is "
                f"several names: {advice(separator)}. If each is one name: {as_setting('separator', 'semicolon')}."
            )


def advice(separator: str) -> str:
    """The setting `separator`, and what else it may be."""
    others = [word for word in (*SEPARATORS, BLANK) if word != separator]
    return f"{as_setting('separator', separator)} (or {', '.join(others)}, or the text itself)"


def _suspicion(counts: dict[str, int]) -> tuple[str, str, list[str]]:
    """Why names look like several names each, the separator it may be, and examples; none where they do not."""
    for character, word in SUSPICIOUS.items():
        examples = [name for name in counts if character in name]
        if examples:
            return f"they contain a {word}", word, examples
    for word, pattern in ((BLANK, r"\s+"), ("slash", "/"), ("+", r"\+"), ("&", "&")):
        examples = _sharing_words({name: [part for part in re.split(pattern, name) if part] for name in counts})
        if examples:
            return "their words occur in other names, too", word, examples
    once = [name for name, count in counts.items() if count == 1]
    if len(once) >= MANY and len(once) > 0.9 * len(counts):
        return f"{len(once)} of {len(counts)} names occur once", BLANK, once
    return "", "", []


def _sharing_words(words: dict[str, list[str]]) -> list[str]:
    """Names of several words that are probably several names: numbers, or made of words of other names."""
    several = {name: parts for name, parts in words.items() if len(parts) > 1}
    numbers = [name for name, parts in several.items() if all(part.isdecimal() for part in parts)]
    if numbers:
        return numbers
    used = Counter(part for parts in words.values() for part in set(parts))
    made_of_others = [name for name, parts in several.items() if all(used[part] > 1 for part in parts)]
    if len(made_of_others) > 0.2 * len(several):
        return made_of_others + [name for name in several if name not in made_of_others]
    shared = Counter(part for parts in several.values() for part in set(parts))
    sharing = [name for name, parts in several.items() if any(shared[part] > 1 for part in parts)]
    return sharing if len(sharing) > 1 and len(sharing) > 0.5 * len(several) else []


def _written_list(text: str, ids: bool) -> list[str] | None:
    """The items of a list that is written as text, as programs do; `None` for other text."""
    if len(text) < 2 or _BRACKETS.get(text[0]) != text[-1]:
        return None
    try:
        return _items(json.loads(text, object_pairs_hook=unique_keys), ids)
    except json.JSONDecodeError:
        pass
    inside = text[1:-1].strip()
    quoted = re.findall(_QUOTED, inside)
    if quoted and not re.sub(_QUOTED, "", inside).strip(", \n"):  # those of NumPy have no commas
        return [str(ast.literal_eval(item)) for item in quoted]
    if text[0] == "(":
        return None
    if re.search(r"[\"'\[\]{}():]", inside):
        raise _no_list(text)
    return inside.split(",")


def _items(cell: Any, ids: bool) -> list[str]:
    if isinstance(cell, dict) and len(cell) == 1:  # {"choices": ["dog", "cat"]}
        cell = next(iter(cell.values()))
    if not isinstance(cell, (list, tuple)):
        raise _no_list(cell)
    if ids:
        cell = [str(item) if type(item) is int else item for item in cell]
    if not all(isinstance(name, str) for name in cell):
        raise _no_list(cell)
    return list(cell)


def _no_list(cell: Any) -> ValueError:
    return ValueError(
        f'expected a list of label names, such as \'dog;cat\' in CSV or ["dog", "cat"] in JSON, got {repr(cell)[:80]}.'
    )


def are_vectors(cells: Sequence[Any]) -> int | None:
    """The common length of cells that are all lists of as many numbers; `None` for other cells."""
    lists = [cell for cell in cells if not is_empty(cell)]
    if not lists or not all(isinstance(cell, (list, tuple)) and cell for cell in lists):
        return None
    if not all(isinstance(number, (int, float)) for cell in lists for number in cell):
        return None
    lengths = {len(cell) for cell in lists}
    return lengths.pop() if len(lengths) == 1 else None
