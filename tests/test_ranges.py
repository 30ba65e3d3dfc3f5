"""Every number of every config has a range, and a recipe that leaves it is refused by name."""

import dataclasses
import math
from dataclasses import dataclass, field

import pytest
from tiny import MODELS, OBJECTIVES

from hf_mlrpl.ranges import DEFAULT_RANGE, check_ranges, interval, number, range_of
from hf_mlrpl.recipe.parts import ModelPart
from hf_mlrpl.registry import METHODS, PROTOCOLS, load
from hf_mlrpl.settings import field_types, from_mapping

ANYWHERE = [math.nan, math.inf, -math.inf, 1e308, -1e308, 10**400, -(10**400), 10**12]


def outside(cls: type, name: str) -> list:
    """Values that the field `name` must not take."""
    allowed = range_of(cls, name)
    near = [allowed.low - 1, allowed.high + 1]
    near += [allowed.low] if allowed.text[0] == "(" else []
    near += [allowed.high] if allowed.text[-1] == ")" else []
    return ANYWHERE + near


def number_fields(cls: type, names=None) -> list[str]:
    """Fields that take a number, alone or in a list."""
    return [
        name
        for name, kind in field_types(cls).items()
        if (names is None or name in names) and any(part in str(kind) for part in ("int", "float"))
    ]


def as_given(value, default):
    """`value` as the whole number that a field of whole numbers takes, and in a list where it takes lists."""
    if isinstance(default, int) and isinstance(value, float) and math.isfinite(value):
        value = int(value)
    return [value] * len(default) if isinstance(default, list | tuple) else value


def refuses(make, name: str, values: list) -> None:
    for value in values:
        with pytest.raises(ValueError, match=name.rpartition(".")[2]) as error:
            make(value)
        assert len(str(error.value)) < 400


def nested(cls: type, where: str = "") -> list[tuple[type, str, str]]:
    """Class, path and name of all numbers of a config, also of the configs in it."""
    found = [(cls, where + name, name) for name in number_fields(cls)]
    for name, kind in field_types(cls).items():
        if dataclasses.is_dataclass(kind):
            found += nested(kind, f"{where}{name}.")
    return found


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_number_of_an_objective_has_a_range(method):
    cls = load(METHODS[method].objective).config_class
    given = OBJECTIVES.get(method, {})
    for owner, path, name in nested(cls):
        default = {f.name: f.default for f in dataclasses.fields(owner)}[name]

        def make(value, path=path, default=default):
            *sections, last = path.split(".")
            values = {last: as_given(value, default)}
            for section in reversed(sections):
                values = {section: values}
            return from_mapping(cls, given | values, "objective")

        refuses(make, path, outside(owner, name))


@pytest.mark.parametrize("model", sorted({spec.model for spec in METHODS.values()}))
def test_every_number_of_a_model_has_a_range(model):
    method = next(name for name, spec in METHODS.items() if spec.model == model)
    cls = load(model).config_class
    for name in number_fields(cls, cls.own_settings()):
        default = getattr(cls, name)
        refuses(
            lambda value, name=name, default=default: ModelPart(
                MODELS[method] | {name: as_given(value, default)}, method
            ),
            name,
            outside(cls, name),
        )


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_every_number_of_a_protocol_has_a_range(protocol):
    cls = load(PROTOCOLS[protocol].target)
    required = {"proportion": 0.5, "fraction": 0.5, "list": "l", "hierarchy": "coco"}
    given = {name: value for name, value in required.items() if name in field_types(cls)}
    for name in number_fields(cls):
        default = {f.name: f.default for f in dataclasses.fields(cls)}[name]
        refuses(
            lambda value, name=name, default=default: cls(**given | {name: as_given(value, default)}),
            name,
            outside(cls, name),
        )


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_defaults_lie_in_their_ranges(method):
    objective, model = load(METHODS[method].objective).config_class, load(METHODS[method].model).config_class
    check_ranges(objective, vars(from_mapping(objective, OBJECTIVES.get(method, {}), "objective")))
    model().validate_ranges()


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("[0, 1]", [0, 0.5, 1], [-0.1, 1.1]),
        ("(0, 1)", [0.5], [0, 1]),
        ("[-1e3, 2.5e2)", [-1000, 249], [250, -1001]),
        ("[1, 1e6]", [1, 10**6], [0, 10**6 + 1, 10**400]),
    ],
)
def test_intervals(text, inside, outside):
    assert all(value in interval(text) for value in inside)
    assert not any(value in interval(text) for value in [*outside, math.nan, math.inf, -math.inf])


@pytest.mark.parametrize("text", ["0..1", "[0, inf]", "]0, 1[", "[0,1]", ""])
def test_a_range_that_is_none_is_an_error_of_the_author(text):
    with pytest.raises(ValueError, match=r"A range looks like '\(0, 1\]'"):
        interval(text)


@dataclass(frozen=True)
class Base:
    share: float = number("[0, 1]", 0.5)
    plain: float = 2.0
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Changed(Base):
    share: float = 0.25


def test_a_field_with_another_default_keeps_its_range():
    assert range_of(Changed, "share") == interval("[0, 1]") and range_of(Changed, "plain") == DEFAULT_RANGE
    with pytest.raises(ValueError, match=r"`x.share` must lie in \[0, 1\], got 10. Ten percent is 0.1."):
        check_ranges(Changed, {"share": 10}, "x.")
    with pytest.raises(ValueError, match="`parts.a` must"):
        check_ranges(Changed, {"parts": {"a": [1.0, math.nan]}})
    check_ranges(Changed, {"share": None, "plain": True, "parts": {"a": "text"}})
