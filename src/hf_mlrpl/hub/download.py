"""A checkpoint that is named by its folder, or by its name on the Hub."""

from functools import partial
from pathlib import Path

from huggingface_hub import snapshot_download

from .errors import explained, retried

_FILES = ["*.json", "*.safetensors", "*.yaml"]  # no code, no pickles, no pictures


def checkpoint_folder(checkpoint: str | Path, *, revision: str | None = None, token: str | None = None) -> Path:
    """The folder of a checkpoint, in the cache where it comes from the Hub.

    Args:
        checkpoint: a folder, or `user/model`, or `user/model@revision` with a branch, a tag or a commit.
        token: by default that of `hf auth login` or of HF_TOKEN.

    Raises:
        OSError: if there is no such folder or repository, or the Hub cannot be reached and the cache lacks it.
        ValueError: if a revision is asked for that there cannot be.
    """
    folder = Path(checkpoint)
    if folder.is_dir():
        if revision is not None:
            raise ValueError(f"{checkpoint} is a folder, which has no revision {revision!r}.")
        return folder
    name, at, own_revision = str(checkpoint).partition("@")
    if at and revision not in (None, own_revision):
        raise ValueError(f"{checkpoint} names the revision {own_revision!r}, but {revision!r} was asked for, too.")
    is_hub_name = name.count("/") == 1 and not folder.is_absolute() and not folder.parent.is_dir()
    if folder.exists() or not is_hub_name:
        raise FileNotFoundError(f"Checkpoint `{checkpoint}` does not exist. Give a folder or the name of a Hub model.")
    with explained(name):
        revision = own_revision or revision
        download = partial(snapshot_download, name, revision=revision, token=token)
        return Path(retried(partial(download, allow_patterns=_FILES, ignore_patterns=["*/*"])))
