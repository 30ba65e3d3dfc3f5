"""Imports point down, or stay inside a folder; and nothing shared knows a method."""

import ast
from pathlib import Path

import pytest

import hf_mlrpl

PACKAGE = Path(hf_mlrpl.__file__).parent
LAYERS = [
    {"labels", "schedules", "distributed", "settings", "registry"},
    {"losses", "metrics", "data"},
    {"objective", "visualization", "hub"},
    {"models"},
    {"clip"},
    {"methods"},
    {"pipelines"},
    {"trainer"},
    {"recipe"},
    {"auto"},
    {"cli"},
    {"__main__"},
]
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imports(path: Path) -> list[tuple[str, ...]]:
    """Modules of this package that `path` imports, as paths inside the package, without those for type checkers."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    here = path.relative_to(PACKAGE).parent.parts
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = here[: len(here) + 1 - node.level]
            modules = [node.module] if node.module else [alias.name for alias in node.names]
            found += [(*folder, *module.split(".")) for module in modules]
    return [target for target in found if target[0] in LAYER]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own = path.relative_to(PACKAGE).with_suffix("").parts
    assert own[0] in LAYER, f"give {own[0]} a layer"
    for target in imports(path):
        if target[0] == own[0]:
            continue  # the same folder
        assert LAYER[target[0]] < LAYER[own[0]], f"{'/'.join(own)} must not import {'.'.join(target)}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "methods").rglob("*.py")), ids=lambda path: path.stem)
def test_a_method_takes_only_the_model_of_another_one(path):
    own = path.relative_to(PACKAGE).parts[1]
    for target in imports(path):
        if target[0] == "methods" and len(target) > 2 and target[1] != own:
            assert target[2].startswith(("modeling_", "configuration_")), ".".join(target)


def test_no_config_module_switches_its_checks_off():
    """`@strict` checks nothing where annotations are texts."""
    assert [path for path in FILES if "from __future__ import annotations" in path.read_text()] == []
