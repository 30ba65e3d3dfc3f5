"""`hf-mlrpl picture`: figures of runs as papers have them."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..faults import writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class Kind:
    """A kind of picture.

    summary: what it shows.
    takes: "runs", any number; "run", one; "photo", one and a photo.
    figures: of which papers, by method.
    """

    summary: str
    takes: str
    figures: tuple[tuple[str, str], ...] = ()


KINDS = {
    "curves": Kind("what was logged, over the epochs, of any runs side by side", "runs", (("sarb", "figure 4"),)),
    "precision": Kind(
        "pseudo-labels over the epochs: how many, and how many are right", "runs", (("scpnet", "figure 4"),)
    ),
    "average-precision": Kind(
        "average precision of each label over how often it is known, of one or two runs",
        "runs",
        (("soft_exposure", "figure 5"),),
    ),
    "temperatures": Kind("temperature over distance", "run", (("soft_exposure", "figure 2"),)),
    "label-graph": Kind("which labels hear of which, as a heat map", "run", (("scpnet", "figure 3"),)),
    "label-vectors": Kind("the labels of SCPNet or DualCoOp in two dimensions", "run", (("scpnet", "figure 3"),)),
    "cooccurrence": Kind(
        "which labels occur together in a photo, and what that completes", "photo", (("sst", "figure 4"),)
    ),
    "similarities": Kind("photos of the bank that resemble a photo, label by label", "photo", (("sst", "figure 5"),)),
}

_EPILOG = """\
kinds:
{kinds}

A photo is a file, or the number of a training image: that one comes with its known labels, a file with --known.

examples:
  hf-mlrpl picture curves runs/sst-digit_scenes_10 runs/ssgrl-digit_scenes_10 --numbers loss eval_map
  hf-mlrpl picture cooccurrence runs/sst-digit_scenes_10 17
  hf-mlrpl picture similarities runs/sst-digit_scenes_10 my_photo.jpg --labels "3, 7" --out similar.pdf
  hf-mlrpl picture average-precision runs/fe runs/se --out figure_5.svg
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    width = max(map(len, KINDS))
    kinds = "\n".join(f"  {name:<{width}}  {kind.summary}" for name, kind in KINDS.items())
    parser = commands.add_parser(
        "picture",
        help="figures of runs as papers have them",
        description="Draw a figure of one run or several: curves, graphs of labels, what a method does in a photo.",
        epilog=_EPILOG.format(kinds=kinds),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help="see below")
    parser.add_argument("of", nargs="+", metavar="RUN", help="folders of runs; some kinds take one, and then a PHOTO")
    parser.add_argument("--out", metavar="FILE", help=f"{', '.join(SUFFIXES)} (default: RUN/<kind>.png)")
    parser.add_argument("--labels", metavar="NAMES", help="only these labels, separated by commas")
    parser.add_argument("--known", metavar="NAMES", help="labels that are known to be present in a photo of yours")
    parser.add_argument(
        "--numbers", nargs="+", metavar="NAME", help="curves: what to draw (default: loss, validation mAP)"
    )
    parser.add_argument(
        "--top", type=int, default=6, metavar="N", help="similarities: photos of each label (default: 6)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    kind = KINDS[arguments.kind]
    needed = {"run": 1, "photo": 2}.get(kind.takes, len(arguments.of))
    if len(arguments.of) != needed:
        wanted = {"run": "one run", "photo": "one run and a photo"}[kind.takes]
        raise ValueError(f"`hf-mlrpl picture {arguments.kind}` takes {wanted}, got {' '.join(arguments.of)}.")
    runs = arguments.of[:1] if kind.takes == "photo" else arguments.of
    for name in runs:
        if not (Path(name) / "recipe.yaml").is_file():
            raise FileNotFoundError(
                f"{name} is no folder of a run: there is no recipe.yaml, as `hf-mlrpl train` writes."
            )
    out = Path(arguments.out or Path(runs[0]) / f"{arguments.kind}.png")
    if out.suffix not in SUFFIXES:
        raise ValueError(f"`--out` must end in {', '.join(SUFFIXES)}, got {out}.")
    if arguments.top < 1:
        raise ValueError(f"`--top` must be at least 1, got {arguments.top}.")
    figure = _draw(arguments, kind)
    with writing(out):
        figure.savefig(out, dpi=150)
    print(f"{arguments.kind} of {', '.join(runs)}: {out}")


def _draw(arguments: argparse.Namespace, kind: Kind) -> "Figure":
    from . import picture_logs, picture_model

    name = arguments.kind.replace("-", "_")
    for module in (picture_logs, picture_model):
        if hasattr(module, name):
            return getattr(module, name)(arguments)
    return picture_model.picture_of_method(arguments, kind.takes)
