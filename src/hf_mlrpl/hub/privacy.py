"""Guards of what others must not see in files: tokens, and where things lie on this machine."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TOKEN_KEY = re.compile(r"(^|_)token$")
_PLACES = ("path", "list", "captions", "output_dir", "logging_dir")  # keys whose values are always paths
_PLACES_OR_NAMES = ("dataset", "pretrained", "features_from")  # a folder here, or a name on the Hub
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_LOOKS_LIKE_A_PATH = re.compile(r"[/\\]|^~|\.(txt|csv|tsv|jsonl?|parquet|npy|npz|safetensors|pth?|bin|ya?ml)$", re.I)
_TEXT_FILES = (".json", ".md", ".py", ".txt", ".yaml")


def refuse_tokens(content: Mapping[str, Any], where: str = "The recipe") -> None:
    """Raise `ValueError` for the first key of `content`, at any depth, that holds a token; the token is not shown."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            refuse_tokens(value, f"{where}, `{key}`")
        elif isinstance(value, str) and _TOKEN_KEY.search(str(key)):
            raise ValueError(
                f"{where} must not hold `{key}`: recipes are saved with every run and published with the model. Log "
                "in once with `hf auth login`, or set the environment variable HF_TOKEN."
            )


def without_local_paths(content: Mapping[str, Any], where: str = "") -> tuple[dict[str, Any], list[str]]:
    """`content` without the values that are paths on this machine, and the full names of their keys."""
    kept: dict[str, Any] = {}
    removed: list[str] = []
    for key, value in content.items():
        name = f"{where}{key}"
        if isinstance(value, Mapping):
            kept[key], more = without_local_paths(value, f"{name}.")
            removed += more
        elif is_local(value, key):
            removed.append(name)
        else:
            kept[key] = value
    return kept, removed


def is_local(value: Any, key: str = "") -> bool:
    """Whether `value` is a path on this machine, or a list with one; OWNER/NAME is a name on the Hub, unless there is
    such a folder."""
    if isinstance(value, list | tuple):
        return any(is_local(item, key) for item in value)
    if not isinstance(value, str):
        return isinstance(value, Path)
    if key in _PLACES or (key in _PLACES_OR_NAMES and Path(value).exists()):
        return True
    is_name = _HUB_NAME.fullmatch(value) is not None and not Path(value).exists()
    return _LOOKS_LIKE_A_PATH.search(value) is not None and not is_name


def check_nothing_private(folder: Path, token: str | None) -> None:
    """Raise `RuntimeError` if a text file of `folder` has the token, or the path of the home folder, in it."""
    secrets = {"the token": token, "the path of your home folder": str(Path.home())}
    for file in sorted(path for path in folder.rglob("*") if path.suffix in _TEXT_FILES):
        content = file.read_text(encoding="utf-8")
        for what, secret in secrets.items():
            if secret and len(secret) > 1 and secret in content:
                where = file.relative_to(folder)
                raise RuntimeError(f"{where} has {what} in it, so nothing was uploaded. Take it out.")
