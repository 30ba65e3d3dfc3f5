"""`hf-mlrpl convert`: published weights as folders of ours."""

import argparse
from functools import partial
from pathlib import Path

_CLIP = ".clip.converters:ClipConverter"  # the one kind that is no method


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "convert",
        help="convert published weights of CLIP, and of methods",
        description="Convert published weights into folders that `hf-mlrpl` reads. Each kind has its own --help.",
    )
    parser.set_defaults(complete=_add_kinds)


def _add_kinds(parser: argparse.ArgumentParser) -> None:
    from ..registry import METHODS

    kinds = parser.add_subparsers(title="kinds", metavar="KIND", required=True)
    clip = kinds.add_parser("clip", help="both towers of CLIP: OpenAI, open_clip, transformers")
    clip.set_defaults(complete=partial(_add_arguments, _CLIP))
    for name, spec in METHODS.items():
        if spec.converter:
            kind = kinds.add_parser(name, help=f"a checkpoint of the authors: {spec.summary}")
            kind.set_defaults(complete=partial(_add_arguments, spec.converter))


def _add_arguments(target: str, parser: argparse.ArgumentParser) -> None:
    from ..registry import load

    converter = load(target)()
    parser.description, parser.epilog = converter.description, converter.epilog
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("source", metavar="FILE", help="published weights: a file, or what the text above names")
    parser.add_argument("output", metavar="OUT", type=Path, help="folder to write")
    converter.add_arguments(parser)
    parser.set_defaults(run=run, converter=converter)


def run(arguments: argparse.Namespace) -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    for line in arguments.converter.convert(arguments):
        print(line)
    print(f"wrote {arguments.output}: {', '.join(sorted(file.name for file in arguments.output.iterdir()))}")
