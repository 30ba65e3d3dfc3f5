"""What `hf-mlrpl doctor` finds out about the places where files go."""

import os
import shutil
import tempfile
from pathlib import Path

LITTLE_SPACE = 5e9  # bytes; a ResNet-101 with its checkpoints takes about 2e9


def examine_places(problems: list[str]) -> dict[str, str]:
    """Caches and the current folder, with their free space; and how the Hub is reached."""
    from huggingface_hub import constants, get_token

    hub_cache, home = Path(constants.HF_HUB_CACHE), Path(constants.HF_HOME)
    places = {
        "models of the Hub (HF_HUB_CACHE)": hub_cache,
        "data sets (HF_DATASETS_CACHE)": Path(os.environ.get("HF_DATASETS_CACHE", home / "datasets")),
        "neighbours (HF_ASSETS_CACHE)": Path(constants.HF_ASSETS_CACHE),
        "temporary files (TMPDIR)": Path(tempfile.gettempdir()),
        "results (current folder)": Path.cwd(),
    }
    found = {name: _examine(name, place, problems) for name, place in places.items()}
    found["Hub"] = "offline (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else constants.ENDPOINT
    found["logged in"] = "with a token" if get_token() else "no; `hf auth login` does"
    return found


def _examine(name: str, place: Path, problems: list[str]) -> str:
    there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        problems.append(f"The place of {name} cannot be written to: {there} ({reason}). Choose another one.")
        return f"{place}, not writable"
    if free < LITTLE_SPACE:
        problems.append(f"The place of {name} has only {free / 1e9:.1f} GB free: {place}.")
    return f"{place}, {free / 1e9:.0f} GB free"
