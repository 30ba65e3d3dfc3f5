"""Imports point down, or stay inside a folder; and nothing shared knows a method."""

import ast
from pathlib import Path

import hf_mlrpl

PACKAGE = Path(hf_mlrpl.__file__).parent
LAYERS = [
    {"ranges", "faults"},
    {"allocator", "labels", "schedules", "distributed", "settings", "extras"},
    {"registry"},
    {"losses", "metrics", "data"},
    {"objective", "visualization", "hub", "review"},
    {"models"},
    {"clip"},
    {"methods"},
    {"pipelines"},
    {"demo", "export"},
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


def test_imports_point_down():
    wrong = []
    for path in FILES:
        own = path.relative_to(PACKAGE).with_suffix("").parts
        assert own[0] in LAYER, f"give {own[0]} a layer"
        others = [target for target in imports(path) if target[0] != own[0]]  # not of the same folder
        wrong += [f"{'/'.join(own)} {'.'.join(to)}" for to in others if LAYER[to[0]] >= LAYER[own[0]]]
    assert not wrong, "these modules must not import these"


def test_a_method_takes_only_the_model_of_another_one():
    wrong = []
    for path in (PACKAGE / "methods").rglob("*.py"):
        own = path.relative_to(PACKAGE).parts
        others = [to for to in imports(path) if to[0] == "methods" and len(to) > 2 and to[1] != own[1]]
        models = ("modeling_", "configuration_")
        wrong += [f"{'/'.join(own)} {'.'.join(to)}" for to in others if not to[2].startswith(models)]
    assert not wrong


def test_nothing_shared_imports_a_method():
    shared = [path for path in FILES if path.relative_to(PACKAGE).parts[0] != "methods"]
    assert [path for path in shared if any(target[0] == "methods" for target in imports(path))] == []


def test_no_config_module_switches_its_checks_off():
    """`@strict` checks nothing where annotations are texts."""
    assert [path for path in FILES if "from __future__ import annotations" in path.read_text()] == []
