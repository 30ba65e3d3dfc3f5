"""`hf-mlrpl export`: a tagger for where this library is not."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from ..faults import writing
from .checkpoint import add_checkpoint_arguments, find_checkpoint

EXAMPLES = "examples"  # photos that a training leaves beside its checkpoint
MOST_PHOTOS = 16

_DESCRIPTION = """\
Write a tagger as an ONNX file, for onnxruntime and others: pixel_values (batch, 3, height, width) to logits (batch,
labels), any batch. Labels, thresholds and preprocessing stand in its metadata. The file is then run beside the model
on photos, and the largest difference is printed.
"""

_EPILOG = """\
examples:
  hf-mlrpl export onnx runs/my_photos tagger.onnx
  hf-mlrpl export onnx user/model tagger.onnx --int8 --photos holiday/
  python tag_with_onnx.py tagger.onnx photo.jpg          a script that needs onnxruntime and Pillow alone

The script is {script}.
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "export",
        help="write a tagger as an ONNX file",
        description="Write a tagger for where this library is not. Each format has its own --help.",
    )
    formats = parser.add_subparsers(title="formats", metavar="FORMAT", required=True)
    onnx = formats.add_parser(
        "onnx",
        help="for onnxruntime",
        description=_DESCRIPTION,
        epilog=_EPILOG.format(script=Path(__file__).parents[1] / "export" / "tag_with_onnx.py"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_checkpoint_arguments(onnx)
    onnx.add_argument("out", metavar="OUT", type=Path, help="file to write, which ends in .onnx")
    onnx.add_argument("--opset", type=int, metavar="N", help="version of the ONNX operators (default: that of torch)")
    onnx.add_argument(
        "--int8", action="store_true", help="8 bit weights in matrix products: smaller, a little different"
    )
    onnx.add_argument(
        "--labels", metavar="NAMES", help="other labels, separated by commas, where the model reads names"
    )
    onnx.add_argument(
        "--photos",
        nargs="+",
        metavar="PHOTO",
        help="photos or folders to compare on, the first 16 (default: the run's own examples)",
    )
    onnx.add_argument("--overwrite", action="store_true", help="replace OUT")
    onnx.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from ..export import onnx_check, onnx_file
    from .tag import load_tagger

    out = onnx_file.check_file(arguments.out)
    onnx_file.check_opset(arguments.opset)
    if out.exists() and not arguments.overwrite:
        raise FileExistsError(f"{out} exists already. Give another name, or --overwrite to replace it.")
    onnx_file.import_onnx()
    folder = find_checkpoint(arguments)
    photos, of = _photos(arguments.photos, folder)
    labels = None if arguments.labels is None else [name.strip() for name in arguments.labels.split(",")]
    tagger = load_tagger(folder, "cpu", labels, name=arguments.checkpoint)
    processor = tagger.image_processor
    with writing(out), TemporaryDirectory(dir=out.parent, prefix=".onnx-") as scratch:
        file = Path(scratch) / out.name
        onnx_file.export_onnx(tagger.model, file, processor, opset=arguments.opset, int8=arguments.int8)
        comparison = onnx_check.compare(tagger.model, file, processor, photos)
        print(f"compared on {of}, {comparison}")
        if not comparison.scores <= (1.0 if arguments.int8 else onnx_check.LARGEST_DIFFERENCE):  # nor NaN
            raise RuntimeError(
                f"The file gives other scores than the model, see above. {out} is not written; try another --opset."
            )
        size = sum(part.stat().st_size for part in file.parent.iterdir())
        onnx_file.move_onnx(file, out.parent)
    print(f"wrote {out}: {size / 1e6:.1f} MB")


def _photos(told: list[str] | None, folder: Path) -> tuple[list, str]:
    """Photos to compare on, and what they are: those that are `told`, the examples of a run, or else noise."""
    import numpy as np
    from PIL import Image

    from ..data.images.listing import list_photos
    from ..data.images.photos import open_image

    if told is None and not (folder / EXAMPLES).is_dir():
        noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
        return [Image.fromarray(each) for each in noise], "noise (--photos names real ones)"
    found = list_photos(told or [str(folder / EXAMPLES)])[:MOST_PHOTOS]
    return [open_image(photo.source) for photo in found], "photos" if told else "the examples of the run"
