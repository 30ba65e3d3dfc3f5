"""A checkpoint that is named by its folder, or by its name on the Hub."""

from functools import partial
from pathlib import Path

from huggingface_hub import snapshot_download

from .cards import CARD_NAME
from .errors import explained, retried

_FILES = ["*.json", "*.safetensors", "*.yaml"]  # no code, no pickles, no pictures


def checkpoint_folder(
    checkpoint: str | Path, *, revision: str | None = None, token: str | None = None, with_card: bool = False
) -> Path:
    """The folder of a checkpoint, in the cache where it comes from the Hub.

    Args:
        checkpoint: a folder, or `user/model`, or `user/model@revision` with a branch, a tag or a commit.
        token: by default that of `hf auth login` or of HF_TOKEN.
        with_card: also what its author wrote about it, for a copy.

    Raises:
        OSError: if there is no such folder or repository, or the Hub cannot be reached and the cache lacks it.
        ValueError: if a revision is asked for that there cannot be.
    """
    if not str(checkpoint).strip():
        raise ValueError("The checkpoint has an empty name. Was a variable of the command line empty?")
    folder = Path(checkpoint)
    if folder.is_dir():
        if revision is not None:
            raise ValueError(f"{checkpoint} is a folder, which has no revision {revision!r}.")
        return folder
    found = hub_name(str(checkpoint))
    if found is None:
        raise FileNotFoundError(f"Checkpoint `{checkpoint}` does not exist. Give a folder or the name of a Hub model.")
    name, own_revision = found
    if own_revision is not None and revision not in (None, own_revision):
        raise ValueError(f"{checkpoint} names the revision {own_revision!r}, but {revision!r} was asked for, too.")
    with explained(name):
        revision = own_revision or revision
        download = partial(snapshot_download, name, revision=revision, token=token)
        files = [*_FILES, CARD_NAME] if with_card else _FILES
        return Path(retried(partial(download, allow_patterns=files, ignore_patterns=["*/*"])))


def hub_name(text: str) -> tuple[str, str | None] | None:
    """Name and revision, where `text` can only be a model on the Hub: `user/model`, or `user/model@revision`."""
    name, _, revision = text.partition("@")
    path = Path(text)
    if name.count("/") != 1 or path.exists() or path.is_absolute() or path.parent.is_dir():
        return None
    return name, revision or None
