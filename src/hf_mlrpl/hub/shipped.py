"""Pages of methods, recipes and sweeps, as packages ship them: this one, and those with lines in the registries.

A package has them beside its modules, in `model_cards/<page>.md`, `recipes/<method>/<name>.yaml` and
`sweeps/<name>.yaml`. A checkout of this package has them in `model_cards`, `training/recipes` and `training/sweeps`.
"""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..registry import METHODS, PACKAGE, REGISTRIES

_ROOT = Path(__file__).parents[3]
_IN_CHECKOUT = {
    "model_cards": _ROOT / "model_cards",
    "recipes": _ROOT / "training" / "recipes",
    "sweeps": _ROOT / "training" / "sweeps",
}


def page_of(method: str) -> Path | None:
    """The page of a method, where its package has one."""
    spec = METHODS[method]
    pages = (folder / f"{spec.page or method}.md" for folder in _folders(spec.package, "model_cards"))
    return next((page for page in pages if page.is_file()), None)


def facts_of_page(method: str) -> dict[str, Any]:
    """Title, summary, paper and citation of a method."""
    page = page_of(method)
    if page is None:
        return {"method": method}
    text = page.read_text(encoding="utf-8")
    title, *paragraphs = [" ".join(part.split()) for part in text.partition("\n### ")[0].split("\n\n") if part.strip()]
    paper = next((part for part in paragraphs if part.startswith("Paper:")), "")
    citation = re.search(r"### Citation\n+```bibtex\n(.*?)\n```", text, re.DOTALL)
    return {
        "method": title.removeprefix("## "),
        "summary": paragraphs[0] if paragraphs else "",
        "paper": paper,
        "citation": "" if citation is None else citation[1],
    }


def recipe_files() -> dict[str, Path]:
    """The shipped recipes by their names, such as `sst/coco2014_10`."""
    files: dict[str, Path] = {}
    for folder in _all_folders("recipes"):
        for file in sorted(folder.glob("*/*.yaml")):
            name = file.relative_to(folder).with_suffix("").as_posix()
            if name in files:
                raise ValueError(f"Two packages ship a recipe {name}: {files[name]} and {file}. Rename one.")
            files[name] = file
    return files


def find_recipe(name: str) -> Path | None:
    """The shipped recipe of that name, if there is one."""
    files = (folder / f"{name}.yaml" for folder in _all_folders("recipes"))
    return next((file for file in files if file.is_file()), None)


def sweep_files(suffix: str = ".yaml") -> dict[str, Path]:
    """The shipped sweeps by their names, such as `digit_scenes`; with the suffix ".jsonl" their finished runs."""
    files = (file for folder in _all_folders("sweeps") for file in sorted(folder.glob(f"*{suffix}")))
    return {file.stem: file for file in files}


def _all_folders(name: str) -> list[Path]:
    packages = dict.fromkeys(line.package for lines in REGISTRIES.values() for line in lines.values())
    return [folder for package in packages for folder in _folders(package, name)]


def _folders(package: str, name: str) -> list[Path]:
    """Where the folder `name` of a package may be; a single module, or a session of Python, has none."""
    spec = None if package == "__main__" else find_spec(package)
    folders = [Path(place) / name for place in (spec and spec.submodule_search_locations) or ()]
    return [*folders, _IN_CHECKOUT[name]] if package == PACKAGE else folders
