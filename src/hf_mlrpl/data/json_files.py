"""Large JSON files, read in blocks: what is in memory is a block, and what the reader keeps of it."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from ..settings import shown
from .files import parse_json

BLOCK = 1 << 19  # bytes; larger ones leave the caches of the processor
_KEY = re.compile(rb'"((?:[^"\\]|\\.)*)"\s*:')
_BLANKS = re.compile(rb"\s*")


class JsonObject(msgspec.Struct, gc=False, omit_defaults=True):
    """What is read of an object of a file; other keys are skipped."""


def refuse_repeated_keys(text: bytes, objects: Sequence[Any], kind: type, where: str, first: int = 0) -> None:
    """Raise `ValueError` where an object has a key twice that is read: msgspec takes the last.

    Keys are counted, which takes no time; each object is looked at only where there are too many.

    Args:
        text: a JSON list.
        objects: what was read of it, of a `kind` of `JsonObject`.
        where: the list, for the error.
        first: position of the first object in it.
    """
    read = msgspec.json.encode(objects)
    if all(text.count(key) <= read.count(key) for key in _keys_of(kind)):
        return
    for position, entry in enumerate(msgspec.json.decode(text, type=list[msgspec.Raw]), start=first):
        parse_json(bytes(entry).decode("utf-8", errors="replace"), f"entry {position} of {where}")


@cache
def _keys_of(kind: type) -> set[bytes]:
    """The keys of a type, and of those in it, as they stand in a file."""
    types = msgspec.json.schema(kind).get("$defs", {}).values()
    return {f'"{key}"'.encode() for of_type in types for key in of_type["properties"]}


def read_lists(file: Path, types: Mapping[str, type[JsonObject]]) -> Iterator[tuple[str, list[Any]]]:
    """The objects in the lists of a file that holds one JSON object, in blocks, in the order of the file.

    A progress bar shows after a second how much of the file is read.

    Args:
        types: the lists to read, which must be there, and what they hold; keys that a type does not know are skipped.

    Yields:
        the name of a list, and its next objects; at least once for each list.
    """
    if not file.is_file():
        raise FileNotFoundError(f"The file {file} does not exist.")
    missing = dict.fromkeys(types)
    with _Scanner(file) as scanner:
        for key in scanner.keys():
            if key not in types:
                scanner.skip()
                continue
            missing.pop(key, None)
            yield key, []
            for block in scanner.items(key, types[key]):
                yield key, block
    if missing:
        raise ValueError(f"{file} has no section `{next(iter(missing))}`; it needs {', '.join(types)}.")


class _Scanner:
    """Walks through the top level of a file."""

    def __init__(self, file: Path):
        self.file, self.text, self.at, self.ended = file, b"", 0, False

    def __enter__(self) -> "_Scanner":
        from datasets.utils import tqdm

        self.stream = self.file.open("rb")
        size = self.file.stat().st_size
        self.bar = tqdm(total=size, unit="B", unit_scale=True, delay=1, desc=self.file.name, leave=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self.bar.close()

    def keys(self) -> Iterator[str]:
        """The keys of the object; the caller takes the value before the next one."""
        if self._next() != b"{":
            kind = {b"[": "a list", b'"': "a text", b"": "nothing"}.get(self._next(), "another value")
            raise ValueError(f"{self.file} must hold one JSON object, got {kind}.")
        self.at += 1
        seen: set[str] = set()
        while self._next() != b"}":
            self.at += self._next() == b","
            self._next()
            while not (key := _KEY.match(self.text, self.at)):
                self._more()
            self.at = key.end()
            name = json.loads(b'"' + key[1] + b'"')
            if name in seen:
                raise ValueError(f"{self.file} has the section {shown(name)} twice. Leave one out.")
            seen.add(name)
            yield name
        self.at += 1

    def skip(self) -> None:
        """Pass over a value of any kind."""
        if self._next() == b"[" and self.text[self.at + 1 : self.at + 20].lstrip()[:1] == b"{":
            for _ in self._blocks("", msgspec.Raw):
                pass
            return
        while True:
            text = self.text[self.at :].decode("utf-8", errors="ignore")
            try:
                end = json.JSONDecoder().raw_decode(text)[1]
            except json.JSONDecodeError:
                self._more()
                continue
            if end < len(text) or self.ended:  # a number may go on
                self.at += len(text[:end].encode())
                return
            self._more()

    def items(self, key: str, kind: type[JsonObject]) -> Iterator[list[Any]]:
        """The objects of a list, in blocks."""
        if self._next() != b"[":
            raise ValueError(f"{self.file}: `{key}` must be a list of JSON objects.")
        return self._blocks(key, kind)

    def _blocks(self, key: str, kind: type) -> Iterator[list[Any]]:
        decoder = msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
        self.at += 1
        count = 0
        while self._next() != b"]":
            self.at += self._next() == b","
            try:
                text, block = self._decode(decoder)
            except msgspec.ValidationError as error:
                raise ValueError(_explain(str(error), self.file, key, count)) from error
            refuse_repeated_keys(text, block, kind, f"`{key}` in {self.file}", first=count)
            count += len(block)
            yield block
        self.at += 1

    def _decode(self, decoder: msgspec.json.Decoder) -> tuple[bytes, list[Any]]:
        """The next objects of a list with their text, as many as it has; whether a cut is right shows by itself."""
        while True:
            for end in self._cuts():
                text = self._as_list(end)
                try:
                    block = decoder.decode(text)
                except msgspec.ValidationError:
                    raise
                except msgspec.DecodeError as error:
                    behind = re.search(r"trailing characters \(byte (\d+)\)", str(error))
                    if behind is None:
                        continue
                    end = self.text.rindex(b"]", self.at, self.at + int(behind[1]) - 1)  # the end of the list
                    text = self._as_list(end)
                    block = decoder.decode(text)
                self.at = end
                return text, block
            self._more()

    def _as_list(self, end: int) -> bytes:
        """The text up to `end` between brackets, copied once."""
        return b"".join((b"[", memoryview(self.text)[self.at : end], b"]"))

    def _cuts(self) -> Iterator[int]:
        """Where the text may be cut behind an object of the list: at the last brace; else where braces are even."""
        text, end = self.text, len(self.text)
        if (brace := text.rfind(b"}", self.at)) < 0:
            return
        yield brace + 1
        depth = text.count(b"{", self.at) - text.count(b"}", self.at)
        while (brace := text.rfind(b"}", self.at, end)) >= 0:
            depth -= text.count(b"{", brace, end)
            if depth <= 0:
                yield brace + 1
            depth, end = depth + 1, brace

    def _next(self) -> bytes:
        """The next byte that is no blank; none at the end of the file."""
        while True:
            self.at = _BLANKS.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self._more()

    def _more(self) -> None:
        """Read on; the text that is done goes."""
        if self.ended:
            try:  # whose errors say where
                json.loads(self.file.read_bytes())
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{self.file} is not valid JSON, perhaps an incomplete download: {error}.") from error
            raise ValueError(f"{self.file} cannot be read as JSON near byte {self.stream.tell() - len(self.text)}.")
        block = self.stream.read(BLOCK)
        self.bar.update(len(block))
        self.text, self.at = b"".join((memoryview(self.text)[self.at :], block)), 0
        self.ended = not block


def _explain(message: str, file: Path, key: str, before: int) -> str:
    """An error of msgspec, in words: `Object missing required field `x` - at `$[1].y[0]``."""
    problem, _, place = message.partition(" - at `$")
    entry, *inside = re.findall(r"\[(\d+)\]|\.(\w+)", place)
    number, names = before + int(entry[0]), [index or name for index, name in inside]
    if names and names[-1].isdigit():
        names, inner = names[:-1], names[-1]
        where, section = f"{file}: entry {inner} of `{key}[{number}].{'.'.join(names)}`", names[-1]
    else:
        where, section = f"{file}: entry {number} of `{key}`", key
    if lacking := re.search("required field `(.*)`", problem):
        return f"{where} lacks {lacking[1]}."
    if not names:
        return f"{file}: `{section}` must be a list of JSON objects, but entry {number} is none."
    wanted = problem.partition(", got ")[0]
    expected = "a whole number" if "`int" in wanted else "a text" if "`str`" in wanted else "something else"
    got = re.search("got `(.*)`", problem)
    return f"{where} must have {expected} as {names[-1]}, got {got[1] if got else 'something else'}."
