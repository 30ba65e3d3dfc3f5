"""`hf-mlrpl push`: a trained model onto the Hub."""

import argparse
from pathlib import Path

from .checkpoint import load_model

_DESCRIPTION = """\
Publish a trained model: its final weights, config with thresholds, image processor, card, recipe without local paths,
and metrics. Nothing else of the folder goes up: no photos, no optimizer states, no logs, no pickles.

Log in once with `hf auth login`, or set HF_TOKEN. After an interruption the same command goes on.
"""

_EPILOG = """\
examples:
  hf-mlrpl push runs/my_photos user/my-tagger --dry-run            only list what would go up
  hf-mlrpl push runs/my_photos user/my-tagger --private --license apache-2.0
  hf-mlrpl push runs/my_photos user/my-tagger --space my_space     also a page to try it, to look at and upload
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "push",
        help="publish a trained model on the Hugging Face Hub",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder that `hf-mlrpl train` has written")
    parser.add_argument("repository", metavar="REPOSITORY", help="its name on the Hub, such as user/my-tagger")
    parser.add_argument("--dry-run", action="store_true", help="list what would go up, and stop")
    parser.add_argument("--private", action="store_true", help="only you may see it, if the repository is new")
    parser.add_argument("--license", help="of the weights, as the Hub calls it, such as apache-2.0")
    parser.add_argument("--pictures", action="store_true", help="also the example photos and the attention maps")
    parser.add_argument(
        "--space", type=Path, metavar="FOLDER", help="also write the page of `hf-mlrpl demo` as a Space, to upload"
    )
    parser.add_argument("--revision", metavar="BRANCH", help="branch to push to, made if there is none")
    parser.add_argument("--tag", help="a name for this version, such as v1")
    parser.add_argument("--message", default="Upload tagger", help="of the commit")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from tempfile import TemporaryDirectory

    from huggingface_hub import ModelCard
    from huggingface_hub.utils import validate_repo_id

    from ..demo.space import check_space_folder, write_space
    from ..hub.cards import CARD_NAME, UNKNOWN_LICENSE
    from ..hub.download import checkpoint_folder
    from ..hub.errors import explained
    from ..hub.publish import Destination, listed_files, upload, write_folder

    with explained(arguments.repository, writing=True):
        validate_repo_id(arguments.repository)
    if arguments.space is not None:
        check_space_folder(arguments.space)
    trained = checkpoint_folder(arguments.checkpoint, with_card=True)
    model = load_model(trained)
    with TemporaryDirectory(prefix="hf-mlrpl-") as scratch:
        folder = Path(scratch)
        write_folder(
            folder,
            model,
            arguments.repository,
            run=trained,
            license=arguments.license,
            pictures=arguments.pictures,
        )
        print(f"{'would go' if arguments.dry_run else 'going'} to {arguments.repository}:")
        for file in listed_files(folder):
            print(f"  {_size((folder / file).stat().st_size):>9}  {file}")
        license = ModelCard.load(folder / CARD_NAME).data.license
        if license == UNKNOWN_LICENSE:
            print("The card names no license of the weights; --license gives one.")
        if arguments.dry_run:
            return
        destination = Destination(
            repo_id=arguments.repository,
            private=arguments.private or None,
            revision=arguments.revision,
            tag=arguments.tag,
            commit_message=arguments.message,
        )
        address = upload(folder, destination)
    name = "/".join(address.split("/")[-2:])
    print(f"\npublished: {address}\n\nTag photos with it, here or elsewhere:\n  hf-mlrpl tag {name} PHOTOS")
    if arguments.space is not None:
        write_space(arguments.space, name, license=license)
        print(f"\nThe page to try it is in {arguments.space}. It becomes a Space by")
        print(f"  {_space_commands(arguments, name)}")


def _space_commands(arguments: argparse.Namespace, name: str) -> str:
    private = " --private" if arguments.private else ""
    create = f"hf repos create {name} --type space --space-sdk gradio{private}"
    return f"{create}\n  hf upload {name} {arguments.space} . --type space"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:.1f} kB"
