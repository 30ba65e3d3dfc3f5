"""What `hf-mlrpl doctor` finds out about a recipe: what its network sees, and what it needs."""

import argparse
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extras import EXTRAS, how_to_install

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.modeling_utils import MultiLabelPreTrainedModel
    from ..recipe.document import Recipe

COARSE = 4  # cells on a side, below which a map hardly tells places apart


def examine_recipe(arguments: argparse.Namespace, problems: list[str]) -> dict[str, Any]:
    """The network of a recipe, which is made without pretrained weights; a map of one place is a problem."""
    from .train import load_recipe

    if missing := [name for name in EXTRAS["train"] if find_spec(name) is None]:
        problems.append(f"Training needs {', '.join(missing)}: {how_to_install(missing[0])}.")
        return {"recipe": "not read"}
    recipe = load_recipe(arguments)
    found = {"recipe": recipe.name, "method": recipe.method, "batch": _batch(recipe)}
    _check_data(recipe, problems)
    return found | _network(recipe, problems)


def _batch(recipe: "Recipe") -> str:
    from accelerate import PartialState

    from ..trainer.training_args import MultiLabelTrainingArguments

    processes = PartialState().num_processes
    names = ("per_device_train_batch_size", "gradient_accumulation_steps")
    each, steps = (recipe.training.settings.get(name, getattr(MultiLabelTrainingArguments, name)) for name in names)
    return f"{each * processes * steps} images a step: {each} x {processes} process(es) x {steps} accumulated"


def _check_data(recipe: "Recipe", problems: list[str]) -> None:
    for key in ("path", "captions"):
        path = recipe.data.settings.get(key)
        if path is not None and not Path(path).exists():
            problems.append(f"`data.{key}` is {path}, which does not exist.")
    workers, cores = recipe.training.settings.get("dataloader_num_workers") or 0, os.cpu_count() or 1
    if workers > cores:
        problems.append(f"`training.dataloader_num_workers` is {workers}, but there are {cores} CPU cores.")


def _network(recipe: "Recipe", problems: list[str]) -> dict[str, Any]:
    import torch

    config = recipe.model.config(["one", "another"])
    model = recipe.model.model_class(config).eval()
    height, width = config.height_and_width
    with torch.inference_mode():
        features = model.encode(torch.zeros(1, 3, height, width))
    found: dict[str, Any] = {
        "network": type(model).__name__,
        "backbone": config.backbone,
        "image size": f"{height}x{width}",
    }
    found["parameters"] = f"{model.num_parameters() / 1e6:.1f} M"
    found["pretrained weights"] = recipe.model.settings.get("pretrained", True)
    if features.ndim != 4:
        return found | {"feature map": "none: one vector per image"}
    rows, columns = features.shape[2:]
    found["feature map"] = f"{rows}x{columns}, {features.shape[1]} channels"
    found["attention maps"] = _attends(model, features)
    if found["attention maps"] and min(rows, columns) < COARSE:
        shown = "show nothing" if rows * columns == 1 else "are coarse"
        problems.append(
            f"The feature map of {config.backbone} has {rows}x{columns} places for images of {height}x{width}: "
            f"pictures of attention {shown}. Set a larger model.image_size, or model.output_stride=8 where the "
            "backbone can dilate."
        )
    return found


def _attends(model: "MultiLabelPreTrainedModel", features: "Tensor") -> bool:
    """Whether the network attends to places for each label."""
    import torch

    try:
        with torch.inference_mode():
            return model.represent(features)[1] is not None
    except RuntimeError:  # attention by prompts, which there are none of before the priors
        return True
