"""Ranges of settings: every number of a config has one, and a number without a declared range lies in [0, 1e6]."""

import dataclasses
import re
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

_RANGE = "range"  # in the metadata of a field
_NUMBER = r"(-?[\d.]+(?:e\d+)?)"


@dataclass(frozen=True)
class Interval:
    """The numbers that `text` describes, such as "(0, 1]"; NaN is in none."""

    text: str
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        above = self.low < value or (self.low == value and self.text[0] == "[")
        return above and (value < self.high or (value == self.high and self.text[-1] == "]"))

    def check(self, value: float, name: str) -> None:
        """Raise `ValueError` for a value outside."""
        if value not in self:
            hint = " Ten percent is 0.1." if self.high == 1 < value <= 100 else ""
            raise ValueError(f"`{name}` must lie in {self.text}, got {reprlib.repr(value)}.{hint}")


@cache
def interval(text: str) -> Interval:
    """The interval that is written as in mathematics, "[0, 1)"."""
    match = re.fullmatch(rf"[\[(]{_NUMBER}, {_NUMBER}[\])]", text)
    if match is None:
        raise ValueError(f"A range looks like '(0, 1]', got {text!r}.")
    return Interval(text, float(match[1]), float(match[2]))


DEFAULT_RANGE = interval("[0, 1e6]")
SEEDS = "[0, 4294967295]"


def number(text: str, default: Any = dataclasses.MISSING) -> Any:
    """A field of a config whose numbers lie in the interval `text`: `share: float = number("[0, 1]", 0.5)`."""
    return dataclasses.field(default=default, metadata={_RANGE: interval(text)})


def check_ranges(
    cls: type, values: Mapping[str, Any], where: str = "", ranges: Mapping[str, Interval] | None = None
) -> None:
    """Raise `ValueError` for the first number that lies outside its range; `None`, texts and booleans have none.

    Args:
        cls: dataclass whose fields have the ranges.
        values: of its fields, also lists, mappings and nested dataclasses of numbers.
        where: goes in front of the names in errors, such as "objective.".
        ranges: of fields that cannot have them themselves.
    """
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        value = values.get(field.name)
        allowed = (ranges or {}).get(field.name) or range_of(cls, field.name)
        if dataclasses.is_dataclass(value):
            check_ranges(type(value), vars(value), f"{where}{field.name}.")
        for name, entry in _numbers(value, f"{where}{field.name}"):
            allowed.check(entry, name)


@cache
def range_of(cls: type, name: str) -> Interval:
    """The range of the field `name` of a dataclass; one that only gets another default keeps that of its base."""
    fields = (base.__dict__.get("__dataclass_fields__", {}).get(name) for base in cls.__mro__)
    declared = (field.metadata.get(_RANGE) for field in fields if field is not None)
    return next(filter(None, declared), DEFAULT_RANGE)


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """The numbers in `value` with their names, those of a mapping with their keys."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _numbers(entry, name)
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from _numbers(entry, f"{name}.{key}")
