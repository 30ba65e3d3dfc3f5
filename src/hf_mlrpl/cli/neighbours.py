"""`hf-mlrpl neighbours`: find the nearest neighbours of training images before a run."""

import argparse

_DESCRIPTION = """\
Compute the features of all training images of a recipe, and the nearest neighbours of each image, for methods that
look at them. Training does it by itself when they are missing; this command does it beforehand, for example for many
runs on the same images, whatever labels they hide.

The results are kept in the cache of Hugging Face (HF_ASSETS_CACHE, by default ~/.cache/huggingface/assets). After an
interruption the same command goes on behind what is finished.
"""

_EPILOG = """\
examples:
  hf-mlrpl neighbours RECIPE
  hf-mlrpl neighbours RECIPE data.path=/data/coco training.dataloader_num_workers=16
  torchrun --nproc_per_node 8 -m hf_mlrpl neighbours RECIPE data.path=/data/coco
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "neighbours",
        help="prepare the neighbours of training images, for methods that look at them",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, or the name of a shipped one")
    parser.add_argument(
        "overrides", nargs="*", metavar="SECTION.KEY=VALUE", help="settings that replace those of the recipe"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    import tempfile
    import time

    from transformers.utils import logging

    from ..distributed import end_processes
    from ..recipe.document import Recipe

    logging.disable_progress_bar()
    started = time.perf_counter()
    recipe = Recipe.load(arguments.recipe, arguments.overrides)
    if not getattr(recipe.objective.config, "needs_neighbours", False):
        raise ValueError(f"{arguments.recipe} needs no neighbours: its objective does not look at them.")
    with tempfile.TemporaryDirectory() as scratch:
        trainer = recipe.build_trainer(scratch)
        assert trainer.training_images is not None, "those of the recipe"
        folder = trainer.objective.find_neighbours(trainer.model.eval(), trainer.training_images)
    if trainer.args.process_index == 0:
        size = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
        images, seconds = len(trainer.train_dataset), time.perf_counter() - started
        print(f"{images} images, {seconds:.0f} s, {size:.0f} MiB in {folder}")
    end_processes()
