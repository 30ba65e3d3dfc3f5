"""Checkpoints named on the command line."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..models.modeling_utils import MultiLabelPreTrainedModel


def load_model(checkpoint: str) -> "MultiLabelPreTrainedModel":
    """The model of a folder or of a name on the Hub, or an error that says what is wrong with it."""
    from safetensors import SafetensorError
    from transformers import AutoModelForImageClassification
    from transformers.utils import logging

    from .. import auto  # noqa: F401  makes the models known

    logging.disable_progress_bar()  # of reading the weights, which takes no time
    check_checkpoint(checkpoint)
    try:
        return AutoModelForImageClassification.from_pretrained(checkpoint, use_safetensors=True)
    except SafetensorError as error:
        raise ValueError(f"The weights of {checkpoint!r} are damaged ({error}). Copy or train them again.") from error


def check_checkpoint(checkpoint: str) -> None:
    """Raise unless `checkpoint` is a folder, or a model of the Hub, whose config is one of ours."""
    from transformers import AutoConfig

    from ..clip.configuration_clip import ClipConfig
    from ..models.configuration_utils import MultiLabelConfig

    folder = Path(checkpoint)
    if folder.is_dir() and not (folder / "config.json").is_file():
        inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
        hint = f"Did you mean {folder / inside[-1]}?" if inside else "`hf-mlrpl train` writes such folders."
        raise FileNotFoundError(f"Folder `{checkpoint}` holds no checkpoint: there is no config.json. {hint}")
    is_hub_name = checkpoint.count("/") == 1 and not folder.is_absolute() and not folder.parent.is_dir()
    if not folder.is_dir() and not is_hub_name:
        raise FileNotFoundError(f"Checkpoint `{checkpoint}` does not exist. Give a folder or the name of a Hub model.")
    try:
        config = AutoConfig.from_pretrained(checkpoint)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"Checkpoint `{checkpoint}` cannot be read: {reason}") from error
    if not isinstance(config, MultiLabelConfig):
        raise ValueError(
            f"Checkpoint `{checkpoint}` is a model of the type {config.model_type!r}, not of hf-mlrpl. Use one that "
            "`hf-mlrpl train` has written."
        )
    if config.model_type == ClipConfig.model_type:
        raise ValueError(
            f"Checkpoint `{checkpoint}` has the towers of CLIP without labels. Train a model from it, with "
            f"`model.pretrained={checkpoint}` in a recipe of SCPNet or DualCoOp."
        )
