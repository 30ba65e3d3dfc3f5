"""`hf-mlrpl evaluate`: metrics of a checkpoint on test or validation images."""

import argparse
import json
import sys
from pathlib import Path

from .checkpoint import add_checkpoint_arguments, find_checkpoint, load_model
from .report import REPORT, format_labels, format_metrics, save_report

_EPILOG = """\
examples:
  hf-mlrpl evaluate runs/sst-digit_scenes_30                    on the test images of its recipe
  hf-mlrpl evaluate runs/coco --recipe sst/voc2007_10 data.path=/data/VOCdevkit
  hf-mlrpl evaluate runs/scpnet-coco2014_10 --recipe sst/voc2007_10 data.path=/data/VOCdevkit
                              models with CLIP, which can be asked about other labels: seen and unseen ones apart, too
  hf-mlrpl evaluate user/model@v1 data.path=/other/place/coco --json
  hf-mlrpl evaluate runs/my_photos --split validation --report

--report writes, with the worst label first:
  labels.csv, report.json   average precision (AP), and precision, recall and F1 at the threshold of the label, in
                            percent; the threshold; how many images are known to show it, known not to, or unknown
  average_precision.png     AP of each label (the worst 80), precision_recall.png its curve (the worst 24)
Empty cells are not defined: no AP without a known positive and a known negative, no recall without a positive.
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="measure a checkpoint on labelled images",
        description="Measure a checkpoint; unknown labels of the images are left out. All values are in percent.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_checkpoint_arguments(parser)
    parser.add_argument("overrides", nargs="*", metavar="SECTION.KEY=VALUE", help="settings that replace the recipe's")
    parser.add_argument("--recipe", help="recipe whose data to use (default: the one saved with the checkpoint)")
    parser.add_argument("--split", choices=("test", "validation", "train"), default="test", help="default: test")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--report", action="store_true", help="also write a report of each label, see below")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="of the report (default: report_SPLIT in the checkpoint)",
    )
    parser.add_argument(
        "--pointing",
        action="store_true",
        help="also how often the place looked at most for a label lies on an object of it, where the data have boxes",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    import tempfile
    from dataclasses import replace

    from ..distributed import end_processes
    from ..hub.publish import RECIPE_NAME
    from ..pipelines.pointing import measure_pointing
    from ..recipe.document import Recipe

    checkpoint = find_checkpoint(arguments)
    model = load_model(checkpoint, arguments.checkpoint)
    saved = checkpoint / RECIPE_NAME
    if arguments.recipe is None and not saved.is_file():
        raise FileNotFoundError(
            f"{arguments.checkpoint} has no {RECIPE_NAME}. Say with --recipe which data to evaluate on."
        )
    recipe = Recipe.load(arguments.recipe or saved, arguments.overrides)
    if arguments.pointing:
        recipe = replace(recipe, data=recipe.data.with_boxes())
    dataset = _load_images(recipe, arguments.split)
    parts = take_labels_of(dataset, model, arguments.checkpoint)

    with tempfile.TemporaryDirectory() as scratch:
        trainer = recipe.build_trainer(scratch, model=model)
        images = recipe.data.images(dataset, model.config, training=False)
        metrics, report = trainer.measure(images, arguments.split, parts)
    for name in ("epoch", f"{arguments.split}_model_preparation_time"):
        metrics.pop(name, None)
    if arguments.pointing:
        skip = recipe.data.config.on_bad_image == "skip"
        measured = measure_pointing(trainer.model, dataset, skip=skip)
        metrics |= {f"{arguments.split}_{name}": value for name, value in measured.items()}
    num_bad = images.count_bad_images()
    if trainer.args.process_index == 0:
        print(json.dumps(metrics) if arguments.json else format_metrics(metrics))
        if arguments.report:
            folder = _report_folder(arguments)
            save_report(folder, report, metrics, arguments.split)
            if not arguments.json:
                print(f"\n{format_labels(report)}\n\nreport of each label: {folder}")
        if num_bad:
            print(f"warning: {num_bad} unreadable image(s) were skipped.", file=sys.stderr)
    end_processes()


def _report_folder(arguments: argparse.Namespace) -> Path:
    """Where the report goes: into a local checkpoint, unless another folder is named."""
    if arguments.output is not None:
        return arguments.output
    folder = Path(arguments.checkpoint)
    return (folder if folder.is_dir() else Path()) / REPORT.format(arguments.split)


def _load_images(recipe, split: str):
    from ..data.columns import SplitNotFound

    if split == "test":
        try:
            return recipe.data.load_split("test")
        except SplitNotFound as error:
            raise ValueError(
                f"{error} `--split validation` measures the part that `data.validation` holds out."
            ) from error
    if split == "train" and recipe.data.config.captions is not None:
        raise ValueError("The recipe trains on captions, which are no images to measure on. Choose another `--split`.")
    splits = recipe.data.load()
    if split == "validation" and splits.validation is None:
        raise ValueError("The recipe holds out no validation part: set `data.validation`, for example to 0.1.")
    return splits.train if split == "train" else splits.validation


def take_labels_of(dataset, model, checkpoint: str) -> dict[str, list[int]]:
    """Ask the model about the labels of the data, and say so where these are not its own.

    Returns:
        Columns of the labels that it was trained with, "seen", and of the others, "unseen", where there are both.

    Raises:
        ValueError: where the model knows its labels by numbers, or by contexts of their own, and the data have others.
    """
    from ..data.columns import label_names
    from ..models.priors.label_embeddings import normalized_name

    own, theirs = model.config.label_names, label_names(dataset)
    if not model.reads_names:
        check_same_labels(own, dataset, checkpoint)
    if own == theirs:
        return {}
    model.set_labels(theirs)
    trained = {normalized_name(name) for name in own}
    seen = [column for column, name in enumerate(theirs) if normalized_name(name) in trained]
    unseen = [column for column in range(len(theirs)) if column not in set(seen)]
    print(
        f"note: the model is asked about the {len(theirs)} labels of the data; {len(seen)} of them are among the "
        f"{len(own)} of {checkpoint}. Unseen labels have the threshold 0.5.",
        file=sys.stderr,
    )
    learned = getattr(model, "prompt_learners", True)  # without prompts to learn, no label was seen
    is_split = bool(learned and seen and unseen)
    return {"seen": seen, "unseen": unseen} if is_split else {}


def check_same_labels(names: list[str], dataset, checkpoint: str) -> None:
    """Raise `ValueError` unless the data have the labels of the checkpoint, in its order."""
    from ..data.columns import label_names
    from ..settings import as_setting

    theirs = label_names(dataset)
    if theirs != names:
        if set(theirs) == set(names):
            raise ValueError(
                f"The checkpoint {checkpoint} and the data have the same labels in another order. Give the data that "
                f"of the checkpoint, in the same order: {as_setting('labels', names)}."
            )
        only_model, only_data = sorted(set(names) - set(theirs)), sorted(set(theirs) - set(names))
        raise ValueError(
            f"The checkpoint {checkpoint} and the data have different labels: the checkpoint has {len(names)} "
            f"({', '.join(only_model[:5]) or 'none'} missing in the data), the data {len(theirs)} "
            f"({', '.join(only_data[:5]) or 'none'} missing in the checkpoint). Use data with the same labels."
        )
