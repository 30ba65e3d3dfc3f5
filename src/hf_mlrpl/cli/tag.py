"""`hf-mlrpl tag`: the labels of photos, on the screen, as pictures, or of very many in a file."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..faults import blamed_on
from .checkpoint import add_checkpoint_arguments, find_checkpoint, load_model

if TYPE_CHECKING:
    from ..data.images.listing import PhotoList
    from ..pipelines.image_tagging import ImageTaggingPipeline

_EPILOG = """\
examples:
  hf-mlrpl tag runs/my_photos photo.jpg holiday/ https://example.org/cat.jpg
  hf-mlrpl tag user/model@v1 holiday/ --top-k 5 --pictures out --on-bad-image skip
  hf-mlrpl tag user/model a_million_photos/ --out tags.parquet
  accelerate launch -m hf_mlrpl tag user/model user/photos --split train --out tags.parquet   on all GPUs
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "tag",
        help="find the labels of photos with a trained model",
        description="Find the labels of photos with a trained model, the surest first.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_checkpoint_arguments(parser)
    parser.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="image file, folder with images, http(s) address, or data set: a Parquet file, user/data on the Hub",
    )
    parser.add_argument(
        "--labels",
        metavar="NAMES",
        help='ask about other labels, separated by commas, where the model reads names: "zebra, traffic light"',
    )
    parser.add_argument(
        "--threshold", type=float, metavar="X", help="score from which a label counts (default: the model's)"
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="at most K labels per photo")
    parser.add_argument("--json", action="store_true", help="print one JSON object per photo instead of a table")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="draw each photo with the places looked at")
    parser.add_argument("--batch-size", type=int, metavar="N", help="photos at a time (default: 8, on GPUs 64)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps, ... (default: a GPU where there is one)")
    parser.add_argument(
        "--on-bad-image",
        choices=("error", "skip"),
        help="stop at a photo that cannot be read (default), or skip it and list it at the end (default with --out)",
    )
    parser.add_argument("--split", help="of data sets that have several")
    parser.add_argument("--image-column", metavar="NAME", help="of data sets where it is not plain")
    many = parser.add_argument_group("many photos")
    many.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write the tags as .parquet, .jsonl or .csv; after a kill the same command goes on",
    )
    many.add_argument("--workers", type=int, metavar="N", help="processes that open photos (default: by the cores)")
    many.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="of the computation (default: bfloat16 on GPUs that have it: faster, a little different)",
    )
    many.add_argument(
        "--draft", action="store_true", help="decode large JPEG photos smaller: faster, a little different"
    )
    many.add_argument("--overwrite", action="store_true", help="replace FILE, or an unfinished run")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    check_options(args)
    if args.out is not None:
        from .tag_out import check_out

        check_out(args)
    photos = find_photos(args)
    labels = None if args.labels is None else [name.strip() for name in args.labels.split(",")]
    tagger = load_tagger(find_checkpoint(args), args.device, labels, name=args.checkpoint)
    if args.batch_size is None:
        args.batch_size = 64 if tagger.device.type == "cuda" else 8
    if args.out is not None:
        from .tag_out import tag_into_file

        tag_into_file(args, tagger, photos)
    else:
        show_tags(args, tagger, photos)


def check_options(args: argparse.Namespace) -> None:
    if args.batch_size is not None and args.batch_size < 1:
        raise ValueError(f"`--batch-size` must be at least 1, got {args.batch_size}.")
    if args.out is None:
        for option in ("workers", "dtype", "draft", "overwrite"):
            if getattr(args, option):
                raise ValueError(f"`--{option}` is for `--out FILE`, which tags many photos into a file.")


def find_photos(args: argparse.Namespace) -> "PhotoList":
    from ..data.images.listing import list_photos

    return list_photos(args.photos, split=args.split, image_column=args.image_column, token=args.token)


def show_tags(args: argparse.Namespace, tagger: "ImageTaggingPipeline", photos: "PhotoList") -> None:
    """Print the tags of each photo as soon as it has some."""
    from tqdm import tqdm

    from .tag_shown import Artist, Reader, Table, show_json

    options = {"threshold": args.threshold, "top_k": args.top_k, "batch_size": args.batch_size}
    artist = None if args.pictures is None else Artist(args.pictures)
    if artist is not None:
        options["attention_maps"] = tagger.has_attention_maps
    show = show_json if args.json else Table(photos, list(tagger.model.config.id2label.values()))
    reader = Reader(photos, skip=args.on_bad_image == "skip")
    hidden = True if len(photos) == 1 else None  # `None`: a bar only where somebody watches
    with tqdm(total=len(photos), unit="photo", file=sys.stderr, leave=False, disable=hidden) as progress_bar:
        for tags in tagger(reader.images(), **options):
            photo, image = reader.opened.popleft()
            if artist is not None:
                artist.draw(photo, image, tags)
            with tqdm.external_write_mode():
                show(photo, tags)
            progress_bar.update()
    reader.report()


_WITHOUT_IT = "Without that file the one that belongs to the model is made."


def load_tagger(
    folder: Path, device: str | None = None, labels: list[str] | None = None, name: str | None = None
) -> "ImageTaggingPipeline":
    """The pipeline of a checkpoint, for its own labels or for others; or an error that says what is wrong with it.

    Args:
        name: what the checkpoint is called in errors.
    """
    from transformers import AutoImageProcessor

    from ..data.files import read_json
    from ..pipelines.image_tagging import ImageTaggingPipeline

    _check_device(device)
    model = load_model(folder, name)
    processor = None  # made from the config, where there is none
    if (folder / "preprocessor_config.json").is_file():
        with blamed_on(folder / "preprocessor_config.json", _WITHOUT_IT, OSError, ValueError, RuntimeError):
            processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
            read_json(folder / "preprocessor_config.json")  # once more: transformers takes the last of repeated keys
            _try_out(processor, model.config)
    return ImageTaggingPipeline(model=model, image_processor=processor, device=device, labels=labels)


def _try_out(processor: Any, config: Any) -> None:
    """Raise `ValueError` unless `processor` makes finite pixels in the size of the model."""
    import torch

    blank = torch.zeros(3, 8, 8, dtype=torch.uint8)
    pixels = torch.as_tensor(processor(images=[blank], return_tensors="pt")["pixel_values"])
    expected = (1, 3, *config.height_and_width)
    if not pixels.isfinite().all():
        raise ValueError("it makes pixels that are infinite or NaN")
    if tuple(pixels.shape) != expected:
        raise ValueError(f"it makes pixels of the shape {tuple(pixels.shape)}, and the model needs {expected}")


def _check_device(device: str | None) -> None:
    import torch

    if device is None:
        return
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ValueError(f"`--device` must be cpu, cuda, cuda:1, mps or similar, got {device!r}.") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"`--device {device}` needs a GPU, but torch finds none. Leave it out, or use `--device cpu`."
        )
