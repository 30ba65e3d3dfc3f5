"""The page of `hf-mlrpl demo` as the folder of a Space on the Hub."""

from importlib import metadata
from pathlib import Path

from huggingface_hub import SpaceCardData

from .. import __version__
from ..extras import check_installed
from ..faults import writing

FILES = ("README.md", "app.py", "requirements.txt")
_APP = """\
import hf_mlrpl.auto  # registers the models and the task "image-tagging" with transformers
from hf_mlrpl import launch_demo
from transformers import pipeline

launch_demo(pipeline("image-tagging", model="{model}"), name="{model}", host="0.0.0.0")
"""
_README = """\
---
{data}
---

Tags photos with [{model}](https://huggingface.co/{model}), as `hf-mlrpl demo {model}` does on your own machine.
"""


def check_space_folder(folder: Path) -> None:
    """Raise if the folder of a Space cannot be written: it has other files, or Gradio is missing, whose version it
    names."""
    check_installed("gradio")
    others = sorted(path.name for path in folder.iterdir() if path.name not in FILES) if folder.is_dir() else []
    if others or folder.is_file():
        raise ValueError(f"{folder} has other files ({', '.join(others[:3]) or 'it is one'}). Name a new folder.")


def write_space(folder: Path, model: str, *, license: str | None = None) -> None:
    """Write a Space that tags photos with a model of the Hub.

    Args:
        model: its name on the Hub. For a private one the Space needs the secret HF_TOKEN.
        license: of the model, as the Hub calls it.
    """
    check_space_folder(folder)
    data = SpaceCardData(
        title=f"Tags by {model.partition('/')[2]}",
        sdk="gradio",
        sdk_version=metadata.version("gradio"),
        app_file="app.py",
        models=[model],
        tags=["image-tagging"],
        license=license,
    )
    texts = {
        "README.md": _README.format(data=data.to_yaml(), model=model),
        "app.py": _APP.format(model=model),
        "requirements.txt": f"hf-mlrpl[demo]=={__version__}\n",
    }
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
