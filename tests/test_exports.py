"""What `from hf_mlrpl import ...` gives, in a running program and in an editor."""

import ast
from pathlib import Path

import pytest

import hf_mlrpl
from hf_mlrpl.registry import DATASETS, METHODS, PACKAGE, PROTOCOLS, load

OWN = {name: spec for name, spec in METHODS.items() if spec.package == PACKAGE}
ENTRIES = [entry for entry in (*DATASETS.values(), *PROTOCOLS.values()) if entry.package == PACKAGE]


def is_exported(name: str, target: object) -> bool:
    return name in hf_mlrpl.__all__ and getattr(hf_mlrpl, name) is target


def test_every_public_name_exists():
    for name in hf_mlrpl.__all__:
        assert getattr(hf_mlrpl, name) is not None
    assert {*hf_mlrpl.__all__} <= {*dir(hf_mlrpl)}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'SsttConfig'"):
        hf_mlrpl.SsttConfig  # noqa: B018


@pytest.mark.parametrize("method", OWN)
def test_what_a_method_is_made_of_is_exported(method):
    objective, model = load(OWN[method].objective), load(OWN[method].model)
    for each in (objective, objective.config_class, model, model.config_class):
        assert is_exported(each.__name__, each), f"{each.__name__} is missing in hf_mlrpl/__init__.py"


@pytest.mark.parametrize("target", [entry.target for entry in ENTRIES])
def test_loaders_and_protocols_are_exported(target):
    assert is_exported(target.split(":")[1], load(target))


def test_editors_and_type_checkers_see_what_there_is():
    """They read imports that are written out, each with an alias, which says that the name is public."""
    folder = Path(hf_mlrpl.__file__).parent
    tree = ast.parse((folder / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    aliases = [alias for node in block.body for alias in node.names]
    assert [alias.name for alias in aliases] == [alias.asname for alias in aliases]
    assert sorted(["__version__", *(alias.name for alias in aliases)]) == sorted(hf_mlrpl.__all__)
    assert (folder / "py.typed").is_file()
