"""The only code in a repository: a module that imports this package, for those who load a model without doing so.

transformers runs it where it is asked to, with `trust_remote_code=True`; without the package it says what to install.
"""

import json
from pathlib import Path

MODULE = "needs_hf_mlrpl"
_PACKAGE = "hf_mlrpl"
_CODE = '''\
"""Loads this model with the package hf-mlrpl (`pip install hf-mlrpl`). There is no other code here."""

import hf_mlrpl.auto  # noqa: F401  makes the models and the task "image-tagging" known
{imports}
'''


def name_the_package(folder: Path, model_class: type, config_class: type) -> None:
    """Write the module, and say in `config.json` that the classes come from there.

    `preprocessor_config.json` cannot say so: the pipelines of transformers would ask whether to run the code even
    where this package is imported, for they look for a video processor, too.
    """
    lines = [f"{_import(cls)}  # noqa: F401" for cls in (config_class, model_class)]
    (folder / f"{MODULE}.py").write_text(_CODE.format(imports="\n".join(lines)), encoding="utf-8")
    file = folder / "config.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    names = {"AutoConfig": config_class.__name__, "AutoModelForImageClassification": model_class.__name__}
    content["auto_map"] = {auto_class: f"{MODULE}.{name}" for auto_class, name in names.items()}
    file.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _import(cls: type) -> str:
    """By the public name, which stays where it is from version to version."""
    module = _PACKAGE if cls.__module__.startswith(f"{_PACKAGE}.") else cls.__module__
    return f"from {module} import {cls.__name__}"
