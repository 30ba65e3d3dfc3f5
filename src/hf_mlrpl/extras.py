"""Packages that only a part of this library needs, and the extra of `pip install` that brings each of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

# By the names that they are imported by; the test of this module compares them with pyproject.toml.
EXTRAS = {
    "train": (
        "cleanlab",
        "datasets",
        "evaluate",
        "iterstrat",
        "msgspec",
        "scipy",
        "sklearn",
        "tensorboard",
        "threadpoolctl",
    ),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "demo": ("gradio",),
    "neighbours": ("faiss",),
}


@contextmanager
def optional_packages(otherwise: str = "") -> Iterator[None]:
    """Inside the block, a package that is not installed is an error that says how to get it.

    Args:
        otherwise: what does without it, as a sentence.

    Raises:
        ImportError: where a package of `EXTRAS` is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        command = how_to_install(error.name)
        if command is None:
            raise
        message = f"This needs the package {error.name}, which is not installed: {command}. {otherwise}"
        raise ImportError(message.strip(), name=error.name) from error


def check_installed(module: str) -> None:
    """Raise the `ImportError` of `optional_packages` without importing anything, where `module` is missing."""
    with optional_packages():
        if find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def how_to_install(module: str | None) -> str | None:
    """The command that brings a module, or `None` where no extra does."""
    package = (module or "").partition(".")[0]
    extra = next((extra for extra, packages in EXTRAS.items() if package in packages), None)
    return extra and f'pip install "hf-mlrpl[{extra}]"'
