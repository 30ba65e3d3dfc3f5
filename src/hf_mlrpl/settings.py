"""Dataclasses filled from YAML, with errors that name the key."""

import dataclasses
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml

_BOOL = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    """YAML 1.2: 1e-5 is a number, too, and `no` is a text, as in `save_strategy: no`."""

    yaml_implicit_resolvers = {
        start: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
        for start, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(_BOOL, re.compile(r"(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML without running anything."""
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not valid YAML: {error}") from error


def check_keys(given: Iterable[str], known: Iterable[str], section: str | None = None) -> None:
    """Raise `ValueError` for the first key that is not known, with the closest one that is."""
    known = list(known)
    for key in given:
        if key not in known:
            close = get_close_matches(str(key), known, n=1)
            hint = f" Did you mean `{close[0]}`?" if close else f" Available: {', '.join(sorted(known))}."
            where = "The recipe" if section is None else f"Recipe section `{section}`"
            raise ValueError(f"{where} has no key `{key}`.{hint}")


def from_mapping(cls: type, values: Mapping[str, Any] | None, where: str) -> Any:
    """Make an instance of the dataclass `cls`; nested dataclasses are nested mappings.

    Raises:
        ValueError: for an unknown or missing key, or a value of another type than the field's annotation.
    """
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        raise ValueError(f"Recipe section `{where}` must be a mapping of keys to values, got {values!r}.")
    checked = check_values(values, field_types(cls), where)
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
    check_keys(values, types, where)
    return {key: check_value(value, types[key], f"{where}.{key}") for key, value in values.items()}


def check_value(value: Any, annotation: Any, where: str) -> Any:
    """Return `value` if it fits `annotation`, with integers accepted as floats, or raise `ValueError`."""
    if dataclasses.is_dataclass(annotation):
        return from_mapping(annotation, value, where)  # type: ignore[arg-type]
    if not _fits(value, annotation):
        raise ValueError(f"Recipe key `{where}` must be {_describe(annotation)}, got {value!r}.")
    return float(value) if annotation is float else value


def check_not_negative(config: Any, *names: str) -> None:
    """Raise `ValueError` for the first of these fields of `config` that is below 0; `None` may be."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value >= 0:
            raise ValueError(f"`{name}` must not be negative, got {value}.")


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
    if kind is tuple:
        return isinstance(value, list | tuple)
    return not isinstance(kind, type) or isinstance(value, kind)


def _describe(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(annotation)))
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(dict.fromkeys(_describe(choice) for choice in get_args(annotation)))
    names = {float: "a number", int: "a whole number", str: "text", bool: "true or false", NoneType: "null"}
    names |= {list: "a list", tuple: "a list", Sequence: "a list", dict: "a mapping", Path: "a path"}
    return names.get(get_origin(annotation) or annotation, str(annotation))


def as_setting(key: str, value: Any) -> str:
    """A setting of the data as one can paste it into a command: `data.ignore='["id", "fold"]'`.

    Behind the `=` stands what Python and YAML read alike.
    """
    plain = isinstance(value, str) and re.fullmatch(r"[\w.]+", value) and parse_yaml(value, key) == value
    return f"data.{key}={value if plain else shlex.quote(json.dumps(value))}"
