"""What recipe files say, before it is checked: reading, overriding, and telling one run from another."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.files import read_utf8
from ..data.tables.table_files import SUFFIXES as TABLE_SUFFIXES
from ..hub.shipped import find_recipe, recipe_files
from ..settings import check_once, closest, parse_yaml

SECTIONS = ("data", "model", "objective", "training")
_FOLDER = re.compile(r".*[/\\](?=[^/\\])")


def find_recipe_file(path: str | Path) -> Path:
    """The file of that path, or the shipped recipe of that name."""
    found = Path(path) if Path(path).is_file() else find_recipe(str(path).removesuffix(".yaml"))
    if found is None:
        near = [str(file) for file in Path(path).parent.glob("*.yaml")]
        close = closest(path, [*near, *recipe_files()])
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise FileNotFoundError(
            f"There is no recipe {str(path)!r}, neither as a file nor among the shipped ones. {hint}"
            "`hf-mlrpl list recipes` shows those."
        )
    if found.suffix.lower() in TABLE_SUFFIXES:
        raise ValueError(
            f"{path} is a table, not a recipe. `hf-mlrpl data table path={path}` shows what is in it; a recipe names "
            "it as `data.path`."
        )
    return found


def read_content(file: Path) -> dict[str, Any]:
    content = parse_yaml(read_utf8(file, "Save the recipe as UTF-8."), str(file))
    if not isinstance(content, dict):
        raise ValueError(f"{file} must be a mapping with the keys method, {', '.join(SECTIONS)}.")
    return content


def digest_of(content: Mapping[str, Any]) -> str:
    """16 hexadecimal digits for what a recipe says, in whatever order, whatever its comments.

    Of the path of a file or folder only its own name counts, not where it lies: the same run has the same digest on
    another machine.
    """
    text = json.dumps(_without_folders(what_counts(content)), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def what_counts(content: Mapping[str, Any]) -> dict[str, Any]:
    """Method and sections; a section that is missing is an empty one."""
    return {"method": content.get("method"), **{section: content.get(section) or {} for section in SECTIONS}}


def _without_folders(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_folders(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_folders(entry) for entry in value]
    return _FOLDER.sub("", value).rstrip("/\\") if isinstance(value, str) else value


def apply_overrides(content: dict[str, Any], overrides: Sequence[str]) -> None:
    """Change `content` by texts `section.key=value`, or `section.key=`, which takes the setting out."""
    check_once(overrides)
    for override in overrides:
        _apply_override(content, override)


def _apply_override(content: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    parts = key.split(".")
    if not separator or not all(parts):
        raise ValueError(f"An override must look like section.key=value, got {override!r}.")
    target = content
    for part in parts[:-1]:
        if target.get(part) is None:  # missing, or a section without keys
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            raise ValueError(f"The override {override!r} needs `{part}` to be a section, but it is a value.")
    if value:
        target[parts[-1]] = parse_yaml(value, f"The override {override!r}")
    else:
        target.pop(parts[-1], None)
