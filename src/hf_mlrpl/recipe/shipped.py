"""Where the shipped recipes lie: inside an installed package, or in `training/` of a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def recipes_folder() -> Path:
    installed = _PACKAGE / "recipes"
    return installed if installed.is_dir() else _PACKAGE.parents[1] / "training" / "recipes"


def recipe_names() -> list[str]:
    """Names of the shipped recipes, such as `sst/coco2014_10`."""
    folder = recipes_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("*/*.yaml"))
