from dataclasses import dataclass, field
from typing import Literal

import pytest

from hf_mlrpl.settings import check_once, check_value, from_mapping, parse_settings, parse_yaml


@dataclass(frozen=True, kw_only=True)
class Inner:
    start: int = 5
    first: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Outer:
    weight: float = 1.0
    size: int = 2
    flag: bool = False
    mode: Literal["mean", "sum"] = "mean"
    name: str | None = None
    parts: list[str] | None = None
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize("text, value", [("1e-5", 1e-5), ("1.0e-5", 1e-5), ("-2E3", -2000.0), (".5e1", 5.0)])
def test_numbers_with_an_exponent_are_numbers(text, value):
    assert parse_yaml(text, "here") == value


@pytest.mark.parametrize("text", ["e5", "1e", "epoch", "1e5x"])
def test_other_texts_stay_texts(text):
    assert parse_yaml(text, "here") == text


@pytest.mark.parametrize("text, value", [("true", True), ("False", False), ("no", "no"), ("on", "on"), ("y", "y")])
def test_only_true_and_false_are_booleans(text, value):
    assert parse_yaml(text, "here") == value


@pytest.mark.parametrize("text", ["a: [1, 2", "a: b: c", "\tkey: 1"])
def test_bad_yaml_is_an_error_that_names_the_place(text):
    with pytest.raises(ValueError, match="recipe.yaml is not valid YAML"):
        parse_yaml(text, "recipe.yaml")


def test_yaml_runs_nothing():
    with pytest.raises(ValueError, match="is not valid YAML"):
        parse_yaml("!!python/object/apply:os.system ['true']", "here")


def test_a_mapping_becomes_a_dataclass():
    outer = from_mapping(Outer, {"weight": 2, "mode": "sum", "parts": ["a"], "inner": {"start": 1}}, "objective")
    assert outer == Outer(weight=2.0, mode="sum", parts=["a"], inner=Inner(start=1))
    assert isinstance(outer.weight, float)
    assert from_mapping(Outer, None, "objective") == Outer()


@pytest.mark.parametrize(
    "values, message",
    [
        ({"wieght": 1}, "Recipe section `objective` has no key `wieght`. Did you mean `weight`?"),
        (
            {"zzz": 1},
            "Recipe section `objective` has no key `zzz`. Available: flag, inner, mode, name, parts, size, wei",
        ),
        ({"inner": {"frist": 1}}, "Recipe section `objective.inner` has no key `frist`. Did you mean `first`?"),
        ({"weight": "heavy"}, "Recipe key `objective.weight` must be a number, got 'heavy'"),
        ({"weight": True}, "Recipe key `objective.weight` must be a number, got True"),
        ({"size": 1.5}, "Recipe key `objective.size` must be a whole number, got 1.5"),
        ({"flag": 1}, "Recipe key `objective.flag` must be true or false, got 1"),
        ({"mode": "max"}, "Recipe key `objective.mode` must be one of mean, sum, got 'max'"),
        ({"mode": []}, "Recipe key `objective.mode` must be one of mean, sum, got []"),
        ({"name": 3}, "Recipe key `objective.name` must be text or null, got 3"),
        ({"parts": "a"}, "Recipe key `objective.parts` must be a list of texts or null, got 'a'"),
        ({"parts": ["a", 1]}, "Recipe key `objective.parts` must be a list of texts or null, got ['a', 1]"),
        ({"inner": 3}, "Recipe section `objective.inner` must be a mapping of keys to values, got 3"),
        ({"inner": {"start": 0.5}}, "Recipe key `objective.inner.start` must be a whole number, got 0.5"),
        ([1], "Recipe section `objective` must be a mapping of keys to values, got [1]"),
    ],
)
def test_a_wrong_key_or_value_is_an_error_that_names_it(values, message):
    with pytest.raises(ValueError) as error:
        from_mapping(Outer, values, "objective")
    assert message in str(error.value)


# ---- documents that would mean less, or more, than they seem to ----


@pytest.mark.parametrize(
    "text",
    [
        "training: {a: 1}\ntraining: {}",
        "a: 1\na: 1",
        "data:\n  name: coco\n  seed: 1\n  name: voc",
        "x: [{y: 1, y: 2}]",
        '{"a": 1, "a": 2}',
        "1: a\n1: b",
    ],
)
def test_a_key_may_stand_only_once(text):
    with pytest.raises(ValueError, match="the key .* stands twice, again in line"):
        parse_yaml(text, "the recipe")


def test_aliases_are_fine_as_long_as_they_do_not_blow_up():
    assert parse_yaml("a: &x [1, 2]\nb: *x", "it") == {"a": [1, 2], "b": [1, 2]}
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(ValueError, match="more than 100,000 values once its aliases are written out"):
        parse_yaml("\n".join(levels), "the recipe")
    with pytest.raises(ValueError, match="the recipe is not valid YAML"):
        parse_yaml("a: &a [*a]", "the recipe")


def test_what_is_nested_too_deeply_is_named():
    with pytest.raises(ValueError, match="the recipe is nested too deeply"):
        parse_yaml("[" * 5000 + "]" * 5000, "the recipe")


@pytest.mark.parametrize("text", [".nan", ".inf", "-.inf", "1.0e+999"])
def test_numbers_that_are_none_are_refused(text):
    value = parse_yaml(text, "it")
    for annotation in (float, float | None, float | list[float]):
        with pytest.raises(ValueError, match="`training.x` must be a finite number"):
            check_value(value, annotation, "training.x")


@pytest.mark.parametrize("value", ["x" * 10**6, [["y"] * 1000] * 1000, {i: "z" * 1000 for i in range(1000)}, 10**3000])
def test_messages_show_a_part_of_what_is_long(value):
    with pytest.raises(ValueError) as error:
        check_value(value, bool, "data.stratify")
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "texts",
    [["a.b=1", "a.b=2"], ["a.b=1", "a.b=1"], ["a.b=1", "a.b="], ["a.b=1", "x=2", "a={}"], ["a.b.c=1", "a.b=3"]],
)
def test_no_setting_undoes_another(texts):
    with pytest.raises(ValueError, match=f"'{texts[0]}' is undone by '{texts[-1]}'"):
        check_once(texts)


@pytest.mark.parametrize("texts", [["a.b=1", "a.bc=2"], ["a={}", "a.b=1"], ["a=", "b="], []])
def test_settings_that_go_together_stay(texts):
    check_once(texts)


@pytest.mark.parametrize("texts", [["path=a", "path=b"], ["data.path=a", "path=b"], ["path=a", "data.path="]])
def test_a_setting_of_a_section_stands_once(texts):
    with pytest.raises(ValueError, match="is undone by"):
        parse_settings(texts, "data")
