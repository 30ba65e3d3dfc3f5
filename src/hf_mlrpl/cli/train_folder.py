"""The folder of a training run: whose it is, and what lies in it before there are results."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .report import REPORT, REPORT_FILES

if TYPE_CHECKING:
    from filelock import FileLock

    from ..hub.facts import TrainingFacts
    from ..recipe.document import Recipe

LOG_NAME = "log.json"  # what was logged, as a list: `hf-mlrpl picture curves` draws it
LOCK_NAME = ".lock"  # held by the process that writes to the folder
_BEGINNING = (
    LOCK_NAME,
    f"{LOCK_NAME}.owner",
    "recipe.yaml",
    "facts.json",
    "runs",
)  # left by a run that ends before it saves


def check_output(output: Path, recipe: "Recipe", *, resume: bool, overwrite: bool) -> list[str]:
    """Refuse to mix two runs in one folder, or to train what cannot be written; returns what a resumed run changes."""
    import os

    from ..trainer.checkpoints import foreign_checkpoints

    if resume and overwrite:
        raise ValueError("--resume goes on with a run and --overwrite replaces it: give one of them.")
    is_used = output.is_dir() and any(file.name not in _BEGINNING for file in output.iterdir())
    if is_used and not (resume or overwrite):
        raise ValueError(
            f"The output folder {output} has the results of an earlier run. Add --resume to go on with it, "
            "--overwrite to start afresh, or --output for another folder."
        )
    foreign = foreign_checkpoints(output)
    if foreign:
        raise ValueError(
            f"{foreign[0]} is called like a checkpoint of a run, but no run wrote it, and this one would write into "
            "it. Move it, or name another folder with --output."
        )
    changed = check_same_recipe(recipe, output / "recipe.yaml") if resume else []
    parent = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        fault = "cannot be written to" if parent.is_dir() else "is a file"
        raise OSError(f"The results cannot go to {output}: {parent} {fault}. Name another folder with --output.")
    return changed


def begin_output(output: Path, *, resume: bool, is_main: bool) -> "FileLock":
    """Make the folder that of this run. Called when everything else is ready, so that a mistake leaves no trace.

    Returns:
        A lock, which the first process holds until it ends.
    """
    import shutil

    from accelerate import PartialState
    from filelock import FileLock

    from ..trainer.checkpoints import checkpoint_folders

    PartialState().wait_for_everyone()  # until all have looked into the folder
    lock = FileLock(output / LOCK_NAME)
    if is_main:
        output.mkdir(parents=True, exist_ok=True)
        _take(lock)
        if not resume:
            for checkpoint in checkpoint_folders(output):
                shutil.rmtree(checkpoint)
            _remove_results(output)
    PartialState().wait_for_everyone()
    return lock


def _remove_results(output: Path) -> None:
    """Remove what an earlier run left, and no file of yours: it would be taken for a result of the next one."""
    from .completed import COMPLETED_NAME
    from .picture import KINDS

    files = ("recipe.yaml", "facts.json", LOG_NAME, "metrics.json", COMPLETED_NAME, "model.safetensors")
    pictures = ("attention.png", "examples/[0-9][0-9][0-9].png", *(f"{kind}.png" for kind in KINDS))
    reports = (f"{REPORT.format('*')}/{name}" for name in REPORT_FILES)
    for pattern in (*files, *pictures, *reports):
        for file in output.glob(pattern):
            file.unlink()
    for folder in (output / "examples", *output.glob(REPORT.format("*"))):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def save_when_training_begins(output: Path, recipe: "Recipe", facts: "TrainingFacts") -> Any:
    """A callback of the trainer that saves recipe and facts once the checkpoint to resume is loaded: what is written
    down about a run is that of the one that really goes on."""
    from transformers import TrainerCallback

    class _Begin(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            if state.is_world_process_zero:
                save_plan(output, recipe, facts)

    return _Begin()


def save_plan(output: Path, recipe: "Recipe", facts: "TrainingFacts") -> None:
    recipe.save(output / "recipe.yaml")
    facts.save(output)


def _take(lock: "FileLock") -> None:
    """Hold `lock` until this process ends, or say which other one does."""
    import os
    import socket

    from filelock import Timeout

    owner = Path(lock.lock_file).with_suffix(".owner")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        who = owner.read_text(encoding="utf-8") if owner.is_file() else "another process"
        raise OSError(
            f"{owner.parent} is being written to by {who}. Wait for it, stop it, or name another folder with --output."
        ) from error
    owner.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")


def check_same_recipe(recipe: "Recipe", saved: Path) -> list[str]:
    """Settings that a resumed run changes, all of which may; raises for those that may not."""
    from ..recipe.document import Recipe
    from ..trainer.checkpoints import checkpoint_folders
    from ..trainer.training_args import MAY_CHANGE, MAY_GROW

    if not saved.is_file() and checkpoint_folders(saved.parent):
        raise FileNotFoundError(
            f"{saved} is missing, so nobody can tell whether these are the settings of the run. Bring it back, or "
            "start afresh with --overwrite."
        )
    differences = recipe.differences(Recipe.load(saved)) if saved.is_file() else {}
    allowed = MAY_CHANGE
    has_free_end = not getattr(recipe.objective.config, "needs_num_epochs", False)
    if has_free_end and recipe.training.settings.get("lr_schedule", "step") == "step":
        allowed |= MAY_GROW
    refused = [text for name, text in differences.items() if name.removeprefix("training.") not in allowed]
    if refused:
        raise ValueError(
            f"The run in {saved.parent} cannot be resumed with other settings: {', '.join(refused)}. Use the settings "
            "of the run (what is logged, saved, shown and pushed may change), or --overwrite to start afresh."
        )
    return list(differences.values())
