"""`hf-mlrpl demo`: a page to try a model with photos, in the browser."""

import argparse
from pathlib import Path

from .checkpoint import add_checkpoint_arguments, find_checkpoint

_DESCRIPTION = """\
Serve a page where photos are dropped and tagged: scores, a slider for the threshold, where the model looks for each
label, and own labels for models that read them (SCPNet, DualCoOp). It needs pip install "hf-mlrpl[demo]".

Only this machine reaches the page, unless --host says otherwise. Uploads are limited in size, lie in a folder of their
own, and are deleted.
"""

_EPILOG = """\
examples:
  hf-mlrpl demo runs/my_photos
  hf-mlrpl demo user/my-tagger --examples some_photos --port 8000
  hf-mlrpl push runs/my_photos user/my-tagger --space my_space     the same page as the folder of a Space
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "demo",
        help="try a model in the browser",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_checkpoint_arguments(parser)
    parser.add_argument("--examples", type=Path, metavar="FOLDER", help="photos to start with (default: its examples)")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in, without a password")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.add_argument("--open", action="store_true", help="also open the page in the browser")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps, ... (default: a GPU where there is one)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from ..extras import check_installed

    check_installed("gradio")  # before a model is downloaded
    from ..demo.server import check_address, launch_demo, read_examples
    from .tag import load_tagger

    check_address(arguments.host, arguments.port)
    folder = find_checkpoint(arguments)
    examples = arguments.examples or (folder / "examples" if (folder / "examples").is_dir() else None)
    photos = [] if examples is None else read_examples(examples)
    launch_demo(
        load_tagger(folder, arguments.device, name=arguments.checkpoint),
        name=arguments.checkpoint.rstrip("/"),
        examples=photos,
        host=arguments.host,
        port=arguments.port,
        open_browser=arguments.open,
    )
