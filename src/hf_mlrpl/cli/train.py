"""`hf-mlrpl train`: from a recipe to a checkpoint, a model card and pictures."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..faults import writing
from .report import REPORT, save_report
from .train_folder import LOG_NAME, begin_output, check_output, save_plan, save_when_training_begins
from .train_results import push_trained, save_results, say_goodbye, training_metrics

if TYPE_CHECKING:
    from ..recipe.data_part import Splits
    from ..recipe.document import Recipe

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
    changed = check_output(output, recipe, resume=resume, overwrite=overwrite)
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
    lock = begin_output(output, resume=resume, is_main=is_main)
    trainer.add_callback(save_when_training_begins(output, recipe, facts))
    if only_measures and is_main:
        save_plan(output, recipe, facts)
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
    metrics |= training_metrics(trainer.state.log_history, kept_step)
    for name, dataset in images.items():
        if dataset is not None and (count := dataset.count_bad_images()):
            say(f"warning: {count} unreadable {name} image(s) were skipped.")
    if is_main:
        with writing(output, "Then add --resume."):
            save_results(output, facts, measured if with_pictures else None, trainer.model, metrics)
            save_completed_labels(output, splits.train, trainer.objective)
            if report is not None and facts.measured is not None:
                folder = output / REPORT.format(facts.measured)
                save_report(folder, report, metrics, facts.measured, with_pictures=with_pictures)
        if arguments.push_to_hub:
            push_trained(trainer, output)
        say_goodbye(output, facts, metrics, type(trainer.model).__name__)
    lock.release()
    end_processes()
    return metrics


def _say_nothing(*args: Any) -> None:
    pass


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
