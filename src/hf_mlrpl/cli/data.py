"""`hf-mlrpl data`: what is in a data set, as numbers and as a picture."""

import argparse
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..faults import writing

if TYPE_CHECKING:
    import PIL.Image
    from datasets import Dataset

    from ..recipe.document import Recipe

PICTURE, _OURS = "examples.png", "hf-mlrpl data"

_EPILOG = """\
examples:
  hf-mlrpl data                                           the data of the built-in example
  hf-mlrpl data photos/labels.csv                         your own photos: a table, or what an annotation tool wrote
  hf-mlrpl data cvat path=export unlisted=absent          the same, told which format it is
  hf-mlrpl data sst/coco2014_10 data.path=/data/coco      the data of a recipe
  hf-mlrpl data tai_dpt/coco2014 data.path=/data/coco     captions, and how many of them name each label
  hf-mlrpl data photos/labels.csv --write clean.parquet   what was read, as one table of 1, 0 and nothing
  hf-mlrpl data sst/coco2014_10 --write a_folder          the same with the photos and a card, ready for the Hub

settings of own photos, where they say what can mean two things:
  labels=[dog, cat]          which labels, in this order; or a file with one per line
  unlisted=absent            what lists do not name is absent, not unknown
  values=zero_absent         what cells mean: zero_absent (-1 is unknown), zero_unknown (-1 is absent), both_absent,
                             minus_one_absent, empty_absent, or '{"1": present, "-1": unknown, empty: absent}'
  separator=comma            between names in a cell: comma, semicolon, bar, blank, tab, newline, hash, or the text
  label_columns=attr_*       columns with labels, or that list them; negative_column: those that list absent ones
  ignore=[id, width]         columns that are no labels
  image_column=file          the column with the photos; image_folder=photos and image_suffix=.jpg complete it
  rename={Dog: dog}          new names, from a mapping or a file; rename=lowercase; rename=exact keeps all apart
  missing=skip               leaves out photos that do not exist, and counts them
`python -c "import hf_mlrpl; help(hf_mlrpl.load_table)"` says more; each format has such a function.
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "data",
        help="summarise a data set and show examples",
        description="Count present, absent and unknown labels, show a few images with them as a picture, and say "
        "which methods suit such labels.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source",
        nargs="?",
        metavar="DATA",
        help="a file or folder, the name of a data set, or a recipe (see `hf-mlrpl list`)",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings, such as path=photos/labels.csv")
    parser.add_argument("--split", choices=("train", "test"), default="train", help="default: train")
    parser.add_argument("--picture", metavar="FILE", help=f"default: {PICTURE}")
    parser.add_argument("--write", metavar="OUT", help="a .parquet file, or a new folder with photos and a card")
    parser.add_argument("--examples", type=int, default=12, metavar="N", help="images in the picture (default: 12)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from ..data.columns import are_captions
    from ..data.label_kinds import kind_of_labels
    from ..recipe.data_part import Splits

    picture = _picture(arguments.picture) if arguments.examples > 0 else Path(PICTURE)
    data = find_recipe_of_data(arguments.source, arguments.overrides).data
    if arguments.split == "train":
        splits = data.load()
        if data.protocol is not None:
            print(f"labels hidden by the protocol {data.hidden}")
    else:
        splits = Splits(data.load_split("test"))
    dataset = splits.train
    print(splits.summary)
    if are_captions(dataset):
        if arguments.write:
            raise ValueError("`--write` writes images with their labels, and these are captions: leave it out.")
        print("\nexamples:", *describe_captions(dataset, arguments.examples), sep="\n  ")
        return
    if arguments.write:
        named = {"train": splits.train, "validation": splits.validation, "test": splits.test}
        present = {name: images for name, images in named.items() if images is not None}
        write_data(present, Path(arguments.write), data.hidden)
        print(f"\nwritten: {arguments.write}")
    if arguments.examples > 0:
        skip = data.config.on_bad_image == "skip"
        count = save_examples(dataset, picture, arguments.examples, skip)
        print(f"\n{count} examples: {picture}")
    print(f"\nkind of labels: {kind_of_labels(splits.known_labels)}")


def describe_captions(dataset: "Dataset", count: int) -> list[str]:
    """The first captions, each with its labels."""
    from ..data.columns import CAPTION, POSITIVES, label_names

    names = label_names(dataset)
    shown = dataset.select(range(min(count, len(dataset))))
    return [f"{row[CAPTION]}  [{', '.join(names[label] for label in row[POSITIVES])}]" for row in shown]


def _picture(name: str | None) -> Path:
    """Where the picture goes: to a file that is named, or to `PICTURE`, unless that is a picture of somebody else."""
    import PIL.Image

    if name is not None:
        return Path(name)
    path = Path(PICTURE)
    if path.exists():
        try:
            with PIL.Image.open(path) as image:
                is_ours = image.info.get("Software") == _OURS
        except OSError:
            is_ours = False
        if not is_ours:
            raise FileExistsError(
                f"There is a file {path} that this command has not written. Name another one with `--picture FILE`, "
                "or leave the picture out with `--examples 0`."
            )
    return path


def find_recipe_of_data(source: str | None, overrides: list[str]) -> "Recipe":
    """A recipe, or one made up around a file, a folder or the name of a data set."""
    from ..recipe.document import DEFAULT_RECIPE, Recipe
    from ..registry import DATASETS, lookup
    from ..settings import parse_settings

    if source is not None and not source.strip():
        raise ValueError("The data set has an empty name. Was a variable of the command line empty?")
    if source is not None and "=" in source and not Path(source).is_file():
        overrides, source = [source, *overrides], None
    if source in DATASETS:
        data = {"name": source, **parse_settings(overrides, "data")}
        return Recipe.from_dict({"method": "partial_bce", "data": data})
    if source is not None and Path(source).exists() and Path(source).suffix not in (".yaml", ".yml"):
        return find_recipe_of_data(*_recognised(Path(source), overrides))
    if source is not None and not Path(source).suffix and "/" not in source:
        lookup(DATASETS, source, "data set")
    prefixed = [text if text.startswith("data.") else f"data.{text}" for text in overrides]
    return Recipe.load(source or DEFAULT_RECIPE, prefixed)


def write_data(splits: "Mapping[str, Dataset]", out: Path, hidden: str) -> None:
    """Write the images of all splits as a Parquet table or as a folder.

    Args:
        hidden: what happened to labels, see `write_folder`.
    """
    from ..data.written import write_folder, write_table

    if out.suffix not in ("", ".parquet"):
        raise ValueError(f"`--write` must name a .parquet file or a new folder, got {out}.")
    with writing(out):
        if out.suffix:
            write_table(splits, out)
        else:
            write_folder(splits, out, hidden)


def _recognised(path: Path, overrides: list[str]) -> tuple[str, list[str]]:
    """The name of the data set that `path` holds, and its settings; says what it is, and what else it may be."""
    from ..registry import DATASETS, load, recognise

    found, reasons = recognise(path)
    if not found:
        lines = [f"  {name}: {reason}" for name, reason in reasons.items()]
        raise ValueError("\n".join([f"{path} is recognised as none of the data sets:", *lines]))
    name = found[0]
    key = next(iter(inspect.signature(load(DATASETS[name].target)).parameters))
    print(f"{path} is read as `{name}`: {DATASETS[name].summary}")
    if len(found) > 1:
        print(
            f"It may also be {', '.join(f'`{other}`' for other in found[1:])}: hf-mlrpl data {found[1]} {key}={path}"
        )
    print(f"In a recipe: data: {{name: {name}, {key}: {path}}}\n")
    return name, [f"{key}={path}", *overrides]


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
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110, metadata={"Software": _OURS} if path.suffix.lower() == ".png" else None)
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
