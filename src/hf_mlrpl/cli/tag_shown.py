"""Tags of some photos on the screen and as pictures, one photo after the other."""

import json
import sys
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from ..faults import writing

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..data.images.listing import PhotoList

NAME_WIDTH = 40  # characters
LOOKED_AT = 1000  # photos whose names decide about the width of the first column
BAR_WIDTH = 20  # characters of a score of 1

Tags = list[dict[str, Any]]


class Reader:
    """Opens photos one after the other.

    opened: photos with their images that were read, but whose labels were not shown yet; the pipeline reads a batch
        ahead.
    skipped: photos that could not be read, with the fault.
    """

    def __init__(self, photos: "PhotoList", skip: bool):
        self.photos, self.skip = photos, skip
        self.opened: deque[tuple[str, Image]] = deque()
        self.skipped: list[tuple[str, str]] = []

    def images(self) -> "Iterator[Image]":
        from ..data.images.photos import BadImageError, open_image

        for name, source in self.photos:
            try:
                image = open_image(source, None if isinstance(source, str) else name)
            except BadImageError as error:
                if not self.skip:
                    raise
                self.skipped.append((name, error.fault))
                continue
            self.opened.append((name, image))
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
    from ..pipelines.tag_files import tag_of

    found = [tag_of(tag["label"], tag["score"]) for tag in tags]
    print(json.dumps({"file": photo, "tags": found}, ensure_ascii=False), flush=True)


class Table:
    """Prints a line per label, in columns that fit all photos and labels."""

    def __init__(self, photos: "PhotoList", names: list[str]):
        self.photo_width = min(NAME_WIDTH, max(len(name) for name in [*islice(photos.names(), LOOKED_AT), "photo"]))
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
        with writing(self.folder / name):
            plot_tags([image], [tags]).savefig(self.folder / name, dpi=150)
