"""`hf-mlrpl tag --out`: the labels of very many photos, in a file."""

import argparse
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..data.images.listing import PhotoList
    from ..pipelines.bulk_tagging import TaggedPhotos
    from ..pipelines.image_tagging import ImageTaggingPipeline


def check_out(args: argparse.Namespace) -> None:
    """Raise for options that do not go together, before anything is loaded; choose the GPU of this process."""
    from ..distributed import launched_processes, own_device
    from ..pipelines.tag_files import check_suffix

    check_suffix(args.out)
    for option in ("json", "pictures"):
        if getattr(args, option):
            raise ValueError(f"`--{option}` shows tags, `--out` writes them to a file: give one of them.")
    if args.workers is not None and args.workers < 0:
        raise ValueError(f"`--workers` must be at least 0, got {args.workers}.")
    if args.device is None and launched_processes()[1] > 1:
        args.device = str(own_device())


def tag_into_file(args: argparse.Namespace, tagger: "ImageTaggingPipeline", photos: "PhotoList") -> None:
    """Tag all photos, and say what came out."""
    import torch

    from ..distributed import launched_processes
    from ..pipelines.bulk_tagging import tag_to_file

    begin = time.monotonic()
    try:
        result = tag_to_file(
            tagger,
            photos,
            args.out,
            threshold=args.threshold,
            top_k=args.top_k,
            batch_size=args.batch_size,
            num_workers=args.workers,
            dtype=args.dtype,
            on_bad_image=args.on_bad_image or "skip",
            draft=args.draft,
            overwrite=args.overwrite,
        )
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"{tagger.device} has too little memory for {args.batch_size} photos at a time. Give a smaller "
            "`--batch-size`; what is done already stays."
        ) from error
    if result is not None:
        report(result, time.monotonic() - begin)
        return
    process, num_processes = launched_processes()
    print(f"process {process + 1} of {num_processes} is ready, the last one writes {args.out}", file=sys.stderr)


def report(result: "TaggedPhotos", seconds: float) -> None:
    """Say what was written, and list the bad photos; nothing but bad ones is an error."""
    for photo, fault in result.bad:
        print(f"skipped {photo}: {fault}", file=sys.stderr)
    if result.num_bad > len(result.bad):
        print(f"... and {result.num_bad - len(result.bad)} more, see `error` in {result.file}", file=sys.stderr)
    skipped = f", {result.num_bad:,} of them could not be read" if result.num_bad else ""
    print(f"{result.file}: {result.total:,} photos{skipped} ({seconds:.0f} s)")
    if result.num_bad == result.total:
        raise ValueError(f"None of the {result.total} photos can be read.")
