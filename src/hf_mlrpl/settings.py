"""Dataclasses filled from YAML, with errors that name the key."""

import dataclasses
import json
import math
import re
import reprlib
import shlex
import sys
from collections.abc import Hashable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from .ranges import check_ranges

_BOOL = "tag:yaml.org,2002:bool"
_MAX_NODES = 100_000  # of a document after all aliases are written out
_shortener = reprlib.Repr()
_shortener.maxlevel, _shortener.maxstring, _shortener.maxother = 3, 80, 80


def shown(value: Any) -> str:
    """Text of `value` for a message, cut where it is long or deep."""
    return _shortener.repr(value)


class _Loader(yaml.SafeLoader):
    """YAML 1.2: 1e-5 is a number, too, and `no` is a text, as in `save_strategy: no`. A key may stand only once in a
    mapping, and aliases must not blow up."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None and _count_nodes(node, {}) > _MAX_NODES:
            raise yaml.YAMLError(f"it has more than {_MAX_NODES:,} values once its aliases are written out")
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if isinstance(key, Hashable) and key in seen:
                raise yaml.YAMLError(
                    f"the key {shown(key)} stands twice, again in line {key_node.start_mark.line + 1}"
                )
            seen.add(key if isinstance(key, Hashable) else id(key))
        return super().construct_mapping(node, deep)

    yaml_implicit_resolvers = {
        start: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
        for start, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(_BOOL, re.compile(r"(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def _count_nodes(node: Any, counts: dict[int, float]) -> float:
    """Nodes below `node`, each alias counted as what it stands for; infinite where one contains itself."""
    if id(node) not in counts:
        counts[id(node)] = math.inf  # until it is known: who meets it inside itself never ends
        parts = node.value if isinstance(node.value, list) else []
        inner = (part for pair in parts for part in (pair if isinstance(pair, tuple) else (pair,)))
        counts[id(node)] = 1 + sum(_count_nodes(part, counts) for part in inner)
    return counts[id(node)]


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML without running anything.

    Raises:
        ValueError: for what is not YAML, a key that stands twice, and a document that is nested too deeply or grows
            without bound by its aliases.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number of thousands of digits
        raise ValueError(f"{where} is not valid YAML: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{where} is nested too deeply to be read.") from error


def parse_settings(texts: Iterable[str], section: str) -> dict[str, Any]:
    """Texts `key=value`, where values are YAML; keys may have the name of the section in front."""
    settings = {}
    texts = [text.removeprefix(f"{section}.") for text in texts]
    check_once(texts)
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"A setting must look like key=value, got {text!r}.")
        settings[key] = parse_yaml(value, text)
    return settings


def check_once(texts: Sequence[str]) -> None:
    """Raise `ValueError` if one of the texts `key=value` is undone by a later one, of the same key or of the section
    that it is in."""
    keys = [text.partition("=")[0] for text in texts]
    for i, key in enumerate(keys):
        for later in range(i + 1, len(keys)):
            if f"{key}.".startswith(f"{keys[later]}."):
                raise ValueError(f"The setting {texts[i]!r} is undone by {texts[later]!r} behind it. Leave one out.")


def closest(name: object, known: Iterable[str], count: int = 1) -> list[str]:
    """Those of `known` that are most like `name`, whatever their case; none where nothing is similar."""
    lower = {candidate.lower(): candidate for candidate in reversed(list(known))}  # the first one of equals
    return [lower[close] for close in get_close_matches(str(name).lower(), lower, n=count)]


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A sentence that offers the closest of `known`, or names the first of them where none is similar."""
    known = list(known)
    if close := closest(name, known):
        return f"Did you mean {close[0]!r}?"
    return f"Available: {', '.join(known[:20])}{', ...' if len(known) > 20 else ''}."


def check_keys(given: Iterable[str], known: Iterable[str], owner: str = "The recipe") -> None:
    """Raise `ValueError` for the first key that is not known, with the closest one that is.

    Args:
        owner: what has the keys, for the message.
    """
    known = list(known)
    for key in given:
        if key not in known:
            close = closest(key, known)
            hint = f" Did you mean `{close[0]}`?" if close else f" Available: {', '.join(sorted(known))}."
            raise ValueError(f"{owner} has no key `{key}`.{hint}")


def from_mapping(cls: type, values: Mapping[str, Any] | None, where: str) -> Any:
    """Make an instance of the dataclass `cls`; nested dataclasses are nested mappings.

    Raises:
        ValueError: for an unknown or missing key, or a value of another type than the field's annotation.
    """
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        raise ValueError(f"Recipe section `{where}` must be a mapping of keys to values, got {shown(values)}.")
    checked = check_values(values, field_types(cls), where)
    check_ranges(cls, checked, f"{where}.")
    missing = [f.name for f in dataclasses.fields(cls) if _is_required(f) and f.name not in checked]
    if missing:
        raise ValueError(f"Recipe section `{where}` needs {', '.join(f'`{name}`' for name in missing)}.")
    return cls(**checked)


def _is_required(field: dataclasses.Field) -> bool:
    return field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def field_types(cls: type) -> dict[str, Any]:
    """Annotations of the fields of a dataclass; one that is only a text cannot be checked and becomes `Any`."""
    fields = [f for f in dataclasses.fields(cls) if f.init]  # type: ignore[arg-type]
    return {f.name: Any if isinstance(f.type, str) else f.type for f in fields}


def check_values(values: Mapping[str, Any], types: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check keys and values of a section."""
    check_keys(values, types, f"Recipe section `{where}`")
    return {key: check_value(value, types[key], f"{where}.{key}") for key, value in values.items()}


def check_value(value: Any, annotation: Any, where: str) -> Any:
    """Return `value` if it fits `annotation`, with integers accepted as floats, or raise `ValueError`."""
    if dataclasses.is_dataclass(annotation):
        return from_mapping(annotation, value, where)  # type: ignore[arg-type]
    if not _fits(value, annotation):
        raise ValueError(f"Recipe key `{where}` must be {_describe(annotation)}, got {shown(value)}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"Recipe key `{where}` must be a finite number, got {value}.")
    return _as_floats(value, annotation)


def _as_floats(value: Any, annotation: Any) -> Any:
    """`value` with whole numbers as floats, in lists, too, where `annotation` has no whole numbers."""
    if get_origin(annotation) in (Union, UnionType):
        return _as_floats(value, next(choice for choice in get_args(annotation) if _fits(value, choice)))
    if get_origin(annotation) in (list, tuple) and get_args(annotation):
        return [_as_floats(entry, get_args(annotation)[0]) for entry in value]
    return float(value) if annotation is float and abs(value) < sys.float_info.max else value


def _fits(value: Any, annotation: Any) -> bool:
    origin = get_origin(annotation)
    if annotation is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, choice) for choice in get_args(annotation))
    if origin is Literal:
        return value in get_args(annotation)
    kind = origin or annotation
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in (list, tuple):  # of equal types, as all are here
        entries = get_args(annotation)[:1]
        return isinstance(value, list | tuple) and all(_fits(entry, kind) for entry in value for kind in entries)
    return not isinstance(kind, type) or isinstance(value, kind)


def _describe(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(annotation)))
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(dict.fromkeys(_describe(choice) for choice in get_args(annotation)))
    if get_origin(annotation) in (list, tuple):
        entries = {float: "numbers", int: "whole numbers", str: "texts"}
        return f"a list of {entries.get(get_args(annotation)[0], 'entries')}"
    names = {float: "a number", int: "a whole number", str: "text", bool: "true or false", NoneType: "null"}
    names |= {list: "a list", tuple: "a list", Sequence: "a list", dict: "a mapping", Path: "a path"}
    return names.get(get_origin(annotation) or annotation, str(annotation))


def as_setting(key: str, value: Any) -> str:
    """A setting of the data as one can paste it into a command: `data.ignore='["id", "fold"]'`.

    Behind the `=` stands what Python and YAML read alike.
    """
    plain = isinstance(value, str) and re.fullmatch(r"[\w.]+", value) and parse_yaml(value, key) == value
    return f"data.{key}={value if plain else shlex.quote(json.dumps(value))}"
