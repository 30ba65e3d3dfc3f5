"""Checkpoints named on the command line."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..faults import UNEXPECTED, reason_of

if TYPE_CHECKING:
    from ..models.modeling_utils import MultiLabelPreTrainedModel


def add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of a command that uses a checkpoint."""
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="folder that `hf-mlrpl train` has written, or a model on the Hub: user/model, or user/model@revision",
    )
    parser.add_argument("--revision", help="branch, tag or commit of a model on the Hub")
    parser.add_argument("--token", help="for private models (default: that of `hf auth login`, or HF_TOKEN)")


def find_checkpoint(arguments: argparse.Namespace) -> Path:
    """The folder of the checkpoint that these arguments name."""
    from ..hub.download import checkpoint_folder

    return checkpoint_folder(arguments.checkpoint, revision=arguments.revision, token=arguments.token)


def load_model(folder: Path, name: str | None = None) -> "MultiLabelPreTrainedModel":
    """The model of a checkpoint, with the averaged weights where a training was stopped that had them.

    Args:
        name: what the checkpoint is called in errors.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForImageClassification
    from transformers.utils import logging

    from .. import auto  # noqa: F401  makes the models known
    from ..models.warm_start import AVERAGED_WEIGHTS, read_weights

    logging.disable_progress_bar()  # of reading the weights, which takes no time
    name = name or str(folder)
    check_checkpoint(folder, name)
    try:
        model = AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=False)
        if (folder / AVERAGED_WEIGHTS).is_file():
            model.load_state_dict(read_weights(folder))
    except SafetensorError as error:
        raise ValueError(f"The weights of {name} are damaged ({error}). Copy or train them again.") from error
    except json.JSONDecodeError as error:  # config.json has been read by now
        raise ValueError(
            f"The list of weights of {name}, *.safetensors.index.json, is no valid JSON: {error}."
        ) from error
    except ValueError as error:
        if name in str(error) or str(folder) in str(error):
            raise
        raise ValueError(f"Checkpoint `{name}` cannot be used: {error}") from error
    except UNEXPECTED as error:
        raise ValueError(
            f"Checkpoint `{name}` cannot be used: {reason_of(error)}. Its config.json (or the list of its weights, "
            "*.safetensors.index.json) is damaged or of another model."
        ) from error
    return model


def check_checkpoint(folder: Path, name: str) -> None:
    """Raise unless `folder` holds a config of ours."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    from ..clip.configuration_clip import ClipConfig
    from ..data.files import read_json
    from ..models.configuration_utils import MultiLabelConfig

    if not (folder / "config.json").is_file():
        inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
        hint = f"Did you mean {folder / inside[-1]}?" if inside else "`hf-mlrpl train` writes such folders."
        raise FileNotFoundError(f"`{name}` holds no checkpoint: there is no config.json. {hint}")
    try:
        read_json(folder / "config.json")  # transformers takes the last of repeated keys
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, StrictDataclassError, *UNEXPECTED) as error:
        reason = str(error).strip().splitlines()[0] if type(error) in (OSError, ValueError) else reason_of(error)
        raise ValueError(f"Checkpoint `{name}` cannot be read: config.json: {reason}") from error
    if not isinstance(config, MultiLabelConfig):
        raise ValueError(
            f"Checkpoint `{name}` is a model of the type {config.model_type!r}, not of hf-mlrpl. Use one that "
            "`hf-mlrpl train` has written."
        )
    if config.model_type == ClipConfig.model_type:
        raise ValueError(
            f"Checkpoint `{name}` has the towers of CLIP without labels. Train a model from it, with "
            f"`model.pretrained={name}` in a recipe of a method that starts from CLIP, such as SCPNet or DualCoOp."
        )
