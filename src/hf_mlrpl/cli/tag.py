"""`hf-mlrpl tag`: the labels of photos, as a table, as JSON lines, and as pictures."""

import argparse
import json
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from .checkpoint import add_checkpoint_arguments, find_checkpoint, load_model

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..pipelines.image_tagging import ImageTaggingPipeline

NAME_WIDTH = 40  # characters
BAR_WIDTH = 20  # characters of a score of 1

_EPILOG = """\
examples:
  hf-mlrpl tag runs/my_photos photo.jpg holiday/ https://example.org/cat.jpg
  hf-mlrpl tag user/model@v1 holiday/ --top-k 5 --pictures out --on-bad-image skip
"""

Tags = list[dict[str, Any]]


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
        "photos", nargs="+", metavar="PHOTO", help="image file, folder with images, or http(s) address"
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
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="photos at a time (default: 8)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps, ... (default: a GPU where there is one)")
    parser.add_argument(
        "--on-bad-image",
        choices=("error", "skip"),
        default="error",
        help="stop at a photo that cannot be read (default), or skip it and list it at the end",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    if args.batch_size < 1:
        raise ValueError(f"`--batch-size` must be at least 1, got {args.batch_size}.")
    photos = list_photos(args.photos)
    labels = None if args.labels is None else [name.strip() for name in args.labels.split(",")]
    tagger = load_tagger(find_checkpoint(args), args.device, labels, name=args.checkpoint)
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


def list_photos(sources: list[str]) -> list[str]:
    """Files and addresses; a folder is replaced by the images in it."""
    from ..data.images.photos import find_images, is_url

    photos: list[str] = []
    for source in sources:
        if is_url(source) or Path(source).is_file():
            photos.append(source)
        elif Path(source).is_dir():
            photos += [str(path) for path in find_images(source)]
        else:
            raise FileNotFoundError(f"There is no file or folder `{source}`.")
    return photos


def load_tagger(
    folder: Path, device: str | None = None, labels: list[str] | None = None, name: str | None = None
) -> "ImageTaggingPipeline":
    """The pipeline of a checkpoint, for its own labels or for others; or an error that says what is wrong with it.

    Args:
        name: what the checkpoint is called in errors.
    """
    from transformers import AutoImageProcessor

    from ..pipelines.image_tagging import ImageTaggingPipeline

    _check_device(device)
    model = load_model(folder, name)
    processor = None  # made from the config, where there is none
    if (folder / "preprocessor_config.json").is_file():
        processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
    return ImageTaggingPipeline(model=model, image_processor=processor, device=device, labels=labels)


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


class Reader:
    """Opens photos one after the other.

    opened: photos with their images that were read, but whose labels were not shown yet; the pipeline reads a batch
        ahead.
    skipped: photos that could not be read, with the fault.
    """

    def __init__(self, photos: list[str], skip: bool):
        self.photos, self.skip = photos, skip
        self.opened: deque[tuple[str, Image]] = deque()
        self.skipped: list[tuple[str, str]] = []

    def images(self) -> "Iterator[Image]":
        from ..data.images.photos import BadImageError, open_image

        for photo in self.photos:
            try:
                image = open_image(photo)
            except BadImageError as error:
                if not self.skip:
                    raise
                self.skipped.append((photo, error.fault))
                continue
            self.opened.append((photo, image))
            yield image

    def report(self) -> None:
        """List what was skipped; nothing but bad photos is an error."""
        if not self.skipped:
            return
        for photo, fault in self.skipped:
            print(f"skipped {photo}: {fault}", file=sys.stderr)
        if len(self.skipped) == len(self.photos):
            raise ValueError(f"None of the {len(self.photos)} photos can be read.")
        print(f"skipped {len(self.skipped)} of {len(self.photos)} photos", file=sys.stderr)


def show_json(photo: str, tags: Tags) -> None:
    found = [{"label": tag["label"], "score": round(tag["score"], 6)} for tag in tags]
    print(json.dumps({"file": photo, "tags": found}, ensure_ascii=False), flush=True)


class Table:
    """Prints a line per label, in columns that fit all photos and labels."""

    def __init__(self, photos: list[str], names: list[str]):
        self.photo_width = min(NAME_WIDTH, max(len(name) for name in [*photos, "photo"]))
        self.label_width = min(NAME_WIDTH, max(len(name) for name in [*names, "label"]))
        self.block = "█" if (sys.stdout.encoding or "").lower().startswith("utf") else "#"
        self.is_empty = True

    def __call__(self, photo: str, tags: Tags) -> None:
        if self.is_empty:
            self._print("photo", "label", "score")
            self.is_empty = False
        name = photo if len(photo) <= self.photo_width else "..." + photo[3 - self.photo_width :]
        for tag in tags:
            bar = self.block * round(tag["score"] * BAR_WIDTH)
            self._print(name, tag["label"], f"{tag['score']:.2f}  {bar}")
            name = ""
        if not tags:
            self._print(name, "-", "no label reaches its threshold")

    def _print(self, photo: str, label: str, score: str) -> None:
        print(f"{photo:<{self.photo_width}}  {label:<{self.label_width}}  {score}".rstrip(), flush=True)


class Artist:
    """Writes a picture per photo into `folder`, named after the photo."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.taken: set[str] = set()

    def draw(self, photo: str, image: "Image", tags: Tags) -> None:
        from ..visualization.attention import plot_tags

        stem = Path(urlparse(photo).path).stem or "photo"
        name, number = f"{stem}_tags.png", 2
        while name in self.taken:  # photos of the same name in several folders
            name, number = f"{stem}_{number}_tags.png", number + 1
        self.taken.add(name)
        plot_tags([image], [tags]).savefig(self.folder / name, dpi=150)
