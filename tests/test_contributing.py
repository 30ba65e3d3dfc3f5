"""The example of CONTRIBUTING.md works as it stands there."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from tiny import build_model

from hf_mlrpl import registry
from hf_mlrpl.recipe.document import Recipe
from hf_mlrpl.schedules import Progress
from hf_mlrpl.settings import parse_yaml

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
MODULE = "hf_mlrpl.methods.weak_negatives"


def _block(after: str) -> str:
    """The code block that follows the words `after`."""
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", TEXT.partition(after)[2], flags=re.DOTALL)
    assert blocks, f"CONTRIBUTING.md has no code block after {after!r}"
    return blocks[0]


def _run(source: str, name: str) -> ModuleType:
    module = ModuleType(name)
    module.__package__ = name.rpartition(".")[0]
    sys.modules[name] = module
    exec(compile(source, f"CONTRIBUTING.md:{name}", "exec"), module.__dict__)
    return module


@pytest.fixture
def method(monkeypatch) -> str:
    """Add the example to the library; returns its name."""
    monkeypatch.setitem(sys.modules, MODULE, ModuleType(MODULE))  # so that it is taken away again
    _run(_block("weak_negatives.py`:"), MODULE)
    line = eval("{" + _block("Its line in") + "}", vars(registry))
    for name, spec in line.items():
        monkeypatch.setitem(registry.METHODS, name, spec)
    return next(iter(line))


def test_example_trains_from_its_recipe(method):
    recipe = Recipe.from_dict(parse_yaml(_block("Its recipe"), "the recipe"))
    assert recipe.method == method
    labels = np.array([[1, -1, 0], [0, 0, 1]], dtype=np.int8)
    model = build_model(recipe, ["a", "b", "c"], labels)
    objective = recipe.objective.build(model.config)
    assert objective.config.unknown_weight == 0.2
    output = model(torch.randn(2, 3, 64, 64), torch.from_numpy(labels), objective, Progress(0, 10, 0.0))
    output.loss.backward()
    assert output.loss.isfinite()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_test_of_the_example_passes(method):
    module = _run(_block("And a test"), "contributing_test")
    tests = [function for name, function in vars(module).items() if name.startswith("test_")]
    del sys.modules["contributing_test"]
    assert tests
    for function in tests:
        function()
