"""Where recipes and method pages lie: inside an installed package, or in the folders of a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).parent
_CHECKOUT = _PACKAGE.parents[1]


def recipes_folder() -> Path:
    installed = _PACKAGE / "recipes"
    return installed if installed.is_dir() else _CHECKOUT / "training" / "recipes"


def model_cards_folder() -> Path:
    installed = _PACKAGE / "model_cards"
    return installed if installed.is_dir() else _CHECKOUT / "model_cards"


def recipe_names() -> list[str]:
    """Names of the shipped recipes, such as `sst/coco2014_10`."""
    folder = recipes_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("*/*.yaml"))
