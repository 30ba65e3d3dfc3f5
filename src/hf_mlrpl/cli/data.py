"""`hf-mlrpl data`: what is in a data set, as numbers and as a picture."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import PIL.Image
    from datasets import Dataset

_EPILOG = """\
examples:
  hf-mlrpl data                                           the data of the built-in example
  hf-mlrpl data table path=photos/labels.csv              your own photos
  hf-mlrpl data sst/coco2014_10 data.path=/data/coco      the data of a recipe
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "data",
        help="summarise a data set and show examples",
        description="Count present, absent and unknown labels, and show a few images with them as a picture.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", nargs="?", metavar="DATA", help="a data set, or a recipe (see `hf-mlrpl list`)")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings, such as path=photos/labels.csv")
    parser.add_argument("--split", choices=("train", "test"), default="train", help="default: train")
    parser.add_argument("--picture", metavar="FILE", default="examples.png", help="default: examples.png")
    parser.add_argument("--examples", type=int, default=12, metavar="N", help="images in the picture (default: 12)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from ..recipe.data_part import Splits

    data = _recipe(arguments.source, arguments.overrides).data
    if arguments.split == "train":
        splits = data.load()
        if data.protocol is not None:
            print(f"labels hidden by the protocol {data.hidden}")
    else:
        splits = Splits(data.load_split("test"))
    dataset = splits.train
    print(splits.summary)
    if arguments.examples > 0:
        skip = data.config.on_bad_image == "skip"
        count = save_examples(dataset, Path(arguments.picture), arguments.examples, skip)
        print(f"\n{count} examples: {arguments.picture}")


def _recipe(source: str | None, overrides: list[str]):
    """A recipe, or one made up around the name of a data set."""
    from ..recipe.document import DEFAULT_RECIPE, Recipe
    from ..registry import DATASETS, lookup
    from ..settings import parse_settings

    if source is not None and "=" in source and not Path(source).is_file():
        overrides, source = [source, *overrides], None
    if source in DATASETS:
        data = {"name": source, **parse_settings(overrides, "data")}
        return Recipe.from_dict({"method": "partial_bce", "data": data})
    if source is not None and not Path(source).suffix and "/" not in source:
        lookup(DATASETS, source, "data set")
    prefixed = [text if text.startswith("data.") else f"data.{text}" for text in overrides]
    return Recipe.load(source or DEFAULT_RECIPE, prefixed)


def save_examples(dataset: "Dataset", path: Path, count: int, skip: bool) -> int:
    """Draw the first images with their known and unknown labels; returns their number.

    Args:
        skip: leave out images that cannot be read.
    """
    from ..data.columns import FULL_LABELS, label_matrix, label_names
    from ..visualization.examples import plot_examples

    rows, images = first_images(dataset, count, skip)
    if not images:
        raise ValueError("None of the first images can be read: there is nothing to draw.")
    shown = dataset.select(rows)
    full = label_matrix(shown, FULL_LABELS) if FULL_LABELS in shown.column_names else None
    figure = plot_examples(images, label_matrix(shown), label_names(dataset), full_labels=full)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return len(images)


def first_images(dataset: "Dataset", count: int, skip: bool) -> "tuple[list[int], list[PIL.Image.Image]]":
    """Rows and photos of the first `count` images.

    Args:
        skip: leave out images that cannot be read; at most `4 * count` are tried.
    """
    from datasets import Image

    from ..data.columns import IMAGE, IMAGE_ID
    from ..data.images.photos import BadImageError, open_image

    rows, images = [], []
    tried = dataset.select(range(min(len(dataset), 4 * count if skip else count)))
    for row, stored in enumerate(tried.cast_column(IMAGE, Image(decode=False))):
        try:
            images.append(open_image(stored[IMAGE], name=str(stored[IMAGE_ID])))
            rows.append(row)
        except BadImageError:
            if not skip:
                raise
        if len(rows) == count:
            break
    return rows, images
