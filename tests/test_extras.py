"""Packages that only a part of the library needs."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import hf_mlrpl
from hf_mlrpl.cli.main import main
from hf_mlrpl.extras import EXTRAS, how_to_install
from hf_mlrpl.hub import shipped

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
IMPORTED_AS = {"faiss-cpu": "faiss", "scikit-learn": "sklearn", "iterative-stratification": "iterstrat"}


def names_of(requirements: list[str]) -> set[str]:
    names = {Requirement(text).name for text in requirements}
    return {IMPORTED_AS.get(name, name) for name in names}


def test_the_table_is_that_of_the_project():
    extras = dict(PROJECT["project"]["optional-dependencies"])
    developers = extras.pop("dev")
    assert {name: names_of(texts) for name, texts in extras.items()} == {k: set(v) for k, v in EXTRAS.items()}
    assert Requirement(developers[0]).extras == set(EXTRAS), "developers have everything"


@pytest.mark.parametrize("name", shipped._IN_CHECKOUT)
def test_what_a_checkout_has_a_wheel_has(name):
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    place = shipped._IN_CHECKOUT[name].relative_to(ROOT).as_posix()
    assert included[place] == f"hf_mlrpl/{name}"


def test_links_of_the_readme_are_absolute_on_pypi():
    shown = (ROOT / "README.md").read_text(encoding="utf-8")
    for rule in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        shown = re.sub(rule["pattern"], rule["replacement"], shown)
    repository = PROJECT["project"]["urls"]["Repository"]
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)]+)\)", shown)
    files = [link.removeprefix(f"{repository}/{'raw' if is_picture else 'blob'}/main/") for is_picture, link in links]
    assert len(files) > 5 and any(is_picture for is_picture, _ in links)
    assert all((ROOT / file).is_file() for file in files)


def test_a_missing_package_is_named_with_the_way_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert main(["data", "sst/digit_scenes_10", "data.num_scenes=4", "data.scenes_seed=77"]) == 2
    assert 'pip install "hf-mlrpl[train]"' in capsys.readouterr().err


def test_python_says_so_too(monkeypatch):
    for module in ("msgspec", "hf_mlrpl.data.collections.vaw"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "hf_mlrpl.data.collections.vaw")
    with pytest.raises(ImportError, match=r"needs the package msgspec.*hf-mlrpl\[train\]"):
        hf_mlrpl.load_vaw  # noqa: B018


def test_other_packages_are_not_ours_to_explain():
    assert how_to_install("hf_mlrpl_something") is None and how_to_install(None) is None
