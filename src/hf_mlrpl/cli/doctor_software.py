"""What `hf-mlrpl doctor` finds out about installed packages."""

import platform
from importlib import import_module, metadata
from importlib.util import find_spec

from ..extras import EXTRAS, how_to_install

_NAME = "hf-mlrpl"
_COMPILED = ("torch", "torchvision", "timm", "transformers")  # those that fail in strange ways when they do not fit


def examine_packages(problems: list[str]) -> dict[str, str]:
    """Versions of everything that is installed of what this package asks for."""
    from packaging.requirements import Requirement

    from .. import __version__

    versions = {
        "hf-mlrpl": __version__,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    for text in _requirements():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in EXTRAS):
            continue  # tools of developers
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            if marker is None:
                problems.append(f'{requirement.name} is not installed: pip install "{requirement}".')
            continue
        versions[requirement.name] = version
        if not requirement.specifier.contains(version, prereleases=True):
            wanted = f"{requirement.name}{requirement.specifier}"
            problems.append(f'{requirement.name} {version} does not fit: pip install "{wanted}".')
    return versions


def _requirements() -> list[str]:
    try:
        return metadata.requires(_NAME) or []
    except metadata.PackageNotFoundError:  # run from its source, without being installed
        return []


def are_usable(problems: list[str]) -> bool:
    """Whether the packages with compiled parts can be imported."""
    return all([_is_usable(name, problems) for name in _COMPILED])


def _is_usable(name: str, problems: list[str]) -> bool:
    try:
        module = import_module(name)
        if name == "torchvision":
            _use_compiled_part(module)
    except Exception as error:  # whatever a broken pair of packages raises
        reason = " ".join(str(error).split())[:200]
        advice = (
            "Reinstall both: pip install --force-reinstall torch torchvision" if "torch" in name else "Reinstall it"
        )
        problems.append(f"{name} cannot be used ({type(error).__name__}: {reason}). {advice}.")
        return False
    return True


def _use_compiled_part(torchvision) -> None:
    import torch

    torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)


def examine_extras() -> dict[str, str]:
    """Whether each extra is installed, and if not, how to get it."""
    found = {}
    for extra, packages in EXTRAS.items():
        missing = [name for name in packages if find_spec(name) is None]
        found[extra] = f"without {', '.join(missing)}: {how_to_install(missing[0])}" if missing else "installed"
    return found
