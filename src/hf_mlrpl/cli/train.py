"""`hf-mlrpl train`: from a recipe to a checkpoint, a model card and pictures."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .report import MAIN, REPORT, format_metrics, remove_reports, save_report

if TYPE_CHECKING:
    from datasets import Dataset
    from filelock import FileLock

    from ..hub.facts import TrainingFacts
    from ..models.modeling_utils import MultiLabelPreTrainedModel
    from ..recipe.data_part import Splits
    from ..recipe.document import Recipe
    from ..trainer.trainer import MultiLabelTrainer

LOG_NAME = "log.json"  # what was logged, as a list: `hf-mlrpl picture curves` draws it
LOCK_NAME = ".lock"  # of the folder of a run, held by the process that writes to it
_BEGINNING = (
    LOCK_NAME,
    f"{LOCK_NAME}.owner",
    "recipe.yaml",
    "facts.json",
    "runs",
)  # what a run leaves that ends before it saves

_DESCRIPTION = """\
Train a method from a recipe. Without arguments: SST on scenes of handwritten digits, with 30 % of the labels known.

The output folder gets the checkpoint (with the weights, its model card, the recipe and the metrics), a report of each
label with its average precision, precision and recall (`report_test`, or `report_validation` where there are no test
images), a picture of attention maps, a few example photos to tag, and checkpoints to resume from.
"""

_EPILOG = """\
examples:
  hf-mlrpl train                                              the built-in example
  hf-mlrpl train data.proportion=0.5 training.seed=1          the same with other settings
  hf-mlrpl train sst/coco2014_10 data.path=/data/coco         a shipped recipe
  hf-mlrpl train my_photos.yaml                               your own recipe; results go to runs/my_photos
  hf-mlrpl train my_photos.yaml --resume                      go on after an interruption
  accelerate launch --num_processes 8 -m hf_mlrpl train my_photos.yaml training.per_device_train_batch_size=4
                                                              8 GPUs, 32 images in each step
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "train",
        help="train a method from a recipe",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_recipe_arguments(parser)
    parser.add_argument("--output", metavar="FOLDER", help="where results go (default: runs/<name of the recipe>)")
    parser.add_argument("--resume", action="store_true", help="go on from the newest complete checkpoint there")
    parser.add_argument("--overwrite", action="store_true", help="replace the results of an earlier run in the output")
    parser.add_argument("--no-pictures", action="store_true", help="leave pictures and example photos out")
    parser.add_argument("--print-config", action="store_true", help="print the resolved recipe and stop")
    parser.set_defaults(run=run)


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE",
        help="a YAML file, or the name of a shipped one (see `hf-mlrpl list recipes`)",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="SECTION.KEY=VALUE",
        help="settings that replace those of the recipe; SECTION.KEY= takes one out",
    )


def load_recipe(arguments: argparse.Namespace) -> "Recipe":
    """The recipe that was asked for; the first argument may already be an override of the default one."""
    from ..recipe.document import DEFAULT_RECIPE, Recipe

    recipe, overrides = arguments.recipe or DEFAULT_RECIPE, arguments.overrides
    if "=" in recipe and not Path(recipe).is_file():
        recipe, overrides = DEFAULT_RECIPE, [recipe, *overrides]
    return Recipe.load(recipe, overrides)


def run(arguments: argparse.Namespace) -> None:
    recipe = load_recipe(arguments)
    if arguments.print_config:
        print(recipe.to_yaml(), end="")
        return
    train(
        recipe,
        recipe_output(recipe, arguments.output),
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        with_pictures=not arguments.no_pictures,
    )


def recipe_output(recipe: "Recipe", output: str | None) -> Path:
    return Path(output or recipe.training.settings.get("output_dir") or Path("runs") / recipe.name)


def train(
    recipe: "Recipe", output: Path, *, resume: bool = False, overwrite: bool = False, with_pictures: bool = True
) -> dict[str, float]:
    """Train, evaluate on the test images, save, and say what to do next; returns the test metrics."""
    import time
    from dataclasses import replace

    from transformers.utils import logging

    from ..data.files import replace_text
    from ..distributed import describe_processes, end_processes
    from ..hub.facts import SELECTED_ON_TEST
    from ..recipe.description import describe_training
    from ..trainer.devices import describe_precision
    from .completed import save_completed_labels

    logging.disable_progress_bar()  # of reading and writing weight files; training has its own
    started = time.perf_counter()
    arguments = recipe.build_arguments(output)
    is_main = arguments.process_index == 0
    say = print if is_main else _say_nothing
    changed = _check_output(output, recipe, resume=resume, overwrite=overwrite)
    precision = describe_precision(arguments)
    on = ", ".join(filter(None, [describe_processes(), precision]))
    say(f"{recipe.method} on {recipe.data.config.name}, {on}, results in {output}")

    only_measures = not arguments.num_train_epochs and arguments.max_steps < 1
    if only_measures:
        say("`training.num_train_epochs` is 0: nothing is trained, the model is measured as it is")
    if changed:
        say(f"going on with other settings: {', '.join(changed)}")
    splits = recipe.data.load()
    _check_data(splits, say)
    if recipe.data.config.selects_on_test:
        say(f"warning: {SELECTED_ON_TEST}. `data.validation=0.1 data.model_selection=held_out` does without.")
    trainer = recipe.build_trainer(arguments, splits)
    if trainer.model.warm_start is not None:
        say(trainer.model.warm_start)
    if trainer.storing is not None:
        say(trainer.train_dataset)
    facts = describe_training(recipe, splits.summary, trainer.model.config)
    lock = _begin_output(output, resume=resume, is_main=is_main)
    trainer.add_callback(_save_when_training_begins(output, recipe, facts))
    if only_measures and is_main:
        _save_plan(output, recipe, facts)
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_averaged_weights_to_model()
    metrics: dict[str, float] = {}
    images = {"training": trainer.train_dataset, "validation": trainer.eval_dataset}
    name, measured = splits.measured
    report = None
    if measured is not None:
        images[name] = recipe.data.images(measured, trainer.model.config, training=False)
        metrics, report = trainer.measure(images[name], name)
        facts = replace(facts, measured=name, average_precision=report.average_precision)
    metrics["train_seconds"] = round(time.perf_counter() - started, 1)
    kept_step = trainer.state.best_global_step if arguments.load_best_model_at_end else None
    if is_main:
        replace_text(output / LOG_NAME, json.dumps(trainer.state.log_history, indent=1) + "\n")
    metrics |= _training_metrics(trainer.state.log_history, kept_step)
    for name, dataset in images.items():
        if dataset is not None and (count := dataset.count_bad_images()):
            say(f"warning: {count} unreadable {name} image(s) were skipped.")
    if is_main:
        save_results(output, facts, measured if with_pictures else None, trainer.model, metrics)
        save_completed_labels(output, splits.train, trainer.objective)
        if report is not None and facts.measured is not None:
            folder = output / REPORT.format(facts.measured)
            save_report(folder, report, metrics, facts.measured, with_pictures=with_pictures)
        if arguments.push_to_hub:
            _push(trainer, output)
        _say_goodbye(output, facts, metrics, type(trainer.model).__name__)
    lock.release()
    end_processes()
    return metrics


def _say_nothing(*args: Any) -> None:
    pass


def _check_output(output: Path, recipe: "Recipe", *, resume: bool, overwrite: bool) -> list[str]:
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
    changed = _check_same_recipe(recipe, output / "recipe.yaml") if resume else []
    parent = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        fault = "cannot be written to" if parent.is_dir() else "is a file"
        raise OSError(f"The results cannot go to {output}: {parent} {fault}. Name another folder with --output.")
    return changed


def _begin_output(output: Path, *, resume: bool, is_main: bool) -> "FileLock":
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
            for result in ("recipe.yaml", "facts.json", "metrics.json", "model.safetensors", "attention.png"):
                (output / result).unlink(missing_ok=True)
            remove_reports(output)
    PartialState().wait_for_everyone()
    return lock


def _save_when_training_begins(output: Path, recipe: "Recipe", facts: "TrainingFacts") -> Any:
    """A callback of the trainer that saves recipe and facts once the checkpoint to resume is loaded: what is written
    down about a run is that of the one that really goes on."""
    from transformers import TrainerCallback

    class _Begin(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            if state.is_world_process_zero:
                _save_plan(output, recipe, facts)

    return _Begin()


def _save_plan(output: Path, recipe: "Recipe", facts: "TrainingFacts") -> None:
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


def _check_same_recipe(recipe: "Recipe", saved: Path) -> list[str]:
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


def _check_data(splits: "Splits", say: Callable[..., None]) -> None:
    """Say what there is; raises now, not after the training, if nothing could be learned or measured."""
    from ..data.columns import label_matrix
    from ..labels import NEGATIVE, POSITIVE

    say(str(splits.summary).splitlines()[0])
    for message in splits.summary.warnings:
        say(f"warning: {message}")
    if not splits.known_labels.any():
        raise ValueError("All training labels are unknown: there is nothing to learn from. Check `data`.")
    for name, dataset in (("validation", splits.validation), ("test", splits.test)):
        if dataset is None:
            continue
        labels = label_matrix(dataset)
        present, absent = (labels == POSITIVE).any(axis=0), (labels == NEGATIVE).any(axis=0)
        if not present.any():
            raise ValueError(
                f"No label of the {name} images is known to be present, so there is nothing to measure. Give them "
                "labels, or leave them out."
            )
        if not (present & absent).any():
            raise ValueError(
                f"No label of the {name} images is known to be present in some and absent in others, so no average "
                "precision is defined. If what is not listed is absent, say so (`data.unlisted=absent`); or leave "
                "these images out."
            )
    if splits.measured[1] is None:
        say("There are neither test images nor a validation part (`data.validation`): nothing will be measured.")


def _training_metrics(history: list[dict[str, float]], kept_step: int | None = None) -> dict[str, float]:
    """Validation mAP and mean F1, and number and precision of the pseudo-labels of the last epoch.

    Args:
        kept_step: the step whose weights are kept, by default the last one.
    """
    from ..trainer.logs import completed_in_last_epoch

    last: dict[str, float] = {}
    for entry in history:
        last |= {name: value for name, value in entry.items() if name == "validation_mean_f1_chosen"}
        if "eval_map" in entry and kept_step in (None, entry["step"]):
            last["validation_map"] = entry["eval_map"]
    return last | completed_in_last_epoch(history)


def save_results(
    output: Path,
    facts: "TrainingFacts",
    shown: "Dataset | None",
    model: "MultiLabelPreTrainedModel",
    metrics: dict[str, float],
) -> None:
    """Write the checkpoint, its card, the metrics, and pictures of images that are `shown`."""
    from safetensors import SafetensorError

    from ..data.files import replace_text
    from ..hub.publish import describe_folder

    try:
        model.save_pretrained(output)
    except SafetensorError as error:
        raise OSError(f"The weights could not be written to {output}: {error}. Make room and add --resume.") from error
    replace_text(output / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    facts.save(output)
    describe_folder(output, model, str(output))
    if shown is not None:
        save_pictures(output, model, shown)


def _push(trainer: "MultiLabelTrainer", output: Path) -> None:
    """Push the results, which are safe on the disk by now."""
    try:
        print(f"\npublished: {trainer.push_to_hub()}")
    except (OSError, ValueError, RuntimeError) as error:
        name = trainer.hub_model_id or "user/my-tagger"
        raise OSError(f"{error} The results are in {output}: `hf-mlrpl push {output} {name}` sends them.") from error


def save_pictures(output: Path, model: "MultiLabelPreTrainedModel", dataset: Any, count: int = 6) -> None:
    """A few photos as files, and a picture of what the model looks at in them."""
    import torch

    from ..data.columns import label_matrix
    from ..models.attention_placement import AttentionPlacement
    from ..models.image_processing import processor_for
    from ..visualization.attention import plot_attention
    from .data import first_images

    rows, images = first_images(dataset, count, skip=True)
    if not images:
        return
    folder = output / "examples"
    folder.mkdir(exist_ok=True)
    for row, image in zip(rows, images, strict=True):
        image.save(folder / f"{row:03d}.png")
    pixel_values = processor_for(model.config)(images, return_tensors="pt")["pixel_values"].to(model.device)
    model.eval()
    with torch.inference_mode():
        prediction = model(pixel_values, output_attention_maps=True)
    if prediction.attention_maps is not None:
        placement = AttentionPlacement.of(model)
        assert placement is not None, "a model with attention maps has a feature map"
        figure = plot_attention(
            images,
            [
                placement.place(maps, (i.height, i.width))
                for maps, i in zip(prediction.attention_maps, images, strict=True)
            ],
            prediction.logits.sigmoid().cpu().numpy(),
            model.config.label_names,
            labels=label_matrix(dataset.select(rows)),
        )
        figure.savefig(output / "attention.png", dpi=110)


def describe_learning(facts: "TrainingFacts", metrics: dict[str, float]) -> list[str]:
    """From how many labels a model learned, which it completed itself, and what that does to the loss."""
    share = 100 * facts.known_proportion
    known = sum(facts.present) + sum(facts.absent)
    lines = [
        f"learned from {known:,} known labels of {facts.num_images:,} {facts.things}, {share:.3g} % of all; "
        f"{sum(facts.present):,} of them say that something is there"
    ]
    completed = {name: int(value) for name, value in metrics.items() if name.startswith("pseudo_labels") and value}
    for name, count in completed.items():
        right = metrics.get(name.replace("labels", "precision"))
        kind = name.removeprefix("pseudo_labels").strip("_").replace("_", " ")
        lines.append(
            f"completed {count:,} more in the last epoch{kind and f' ({kind})'}"
            + (f", {right:.3g} % of them right" if right is not None else "")
        )
    if completed:
        lines.append("so the training loss may rise while the model improves: completed labels add terms to it")
    return lines


def _say_goodbye(output: Path, facts: "TrainingFacts", metrics: dict[str, float], class_name: str) -> None:
    print()
    print("\n".join(describe_learning(facts, metrics)))
    print()
    print(format_metrics(metrics, (*MAIN, "train_seconds")))
    picture = output / "attention.png"
    print(f"\nCheckpoint and model card   {output}")
    print(f"All metrics, in percent     {output / 'metrics.json'}")
    for report in sorted(output.glob(REPORT.format("*"))):
        print(f"Report of each label        {report}")
    if picture.exists():
        print(f"Attention maps              {picture}")
    examples = output / "examples"
    print("\nTag photos with it:")
    print(f"  hf-mlrpl tag {output} {examples if examples.is_dir() else 'PHOTOS'}")
    print("\nUse it in Python:")
    print(f"  from hf_mlrpl import {class_name}")
    print(f'  model = {class_name}.from_pretrained("{output}")')
    sys.stdout.flush()
