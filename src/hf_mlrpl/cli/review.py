"""`hf-mlrpl review`: what to correct and what to annotate next, and the answers merged into a new table."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..faults import writing
from .checkpoint import add_checkpoint_arguments, find_checkpoint, load_model

if TYPE_CHECKING:
    import numpy as np

    from ..review.choice import Choice
    from .review_data import Photos

APPLY = "apply"
PICTURES = 24

_EPILOG = """\
examples:
  hf-mlrpl review runs/my_photos photos/photos.csv --out review.csv     ask about labels of a table
  hf-mlrpl review runs/my_photos --out review.csv --folds 5             those that the run was trained with
  hf-mlrpl review user/model photos/photos.csv --unseen --ask 200       by a model from the Hub
  hf-mlrpl review apply review.csv --write corrected.parquet            merge the answers into a new table

What is asked about, see the column `why` of the table:
  suspect   a known label that the model contradicts most, found and ranked as cleanlab does, over known labels only.
            A model repeats the mistakes that it learned from, so only photos that it was not trained on are looked at:
            its validation part, or with --folds K all photos, by K models of the same recipe, each trained without a
            part of them. --unseen says that the model has seen none of the photos.
  ask       an unknown label whose answer would help most: uncertainty of the score times rarity of the label
  sample    an unknown label drawn uniformly, which shows how often the model is right
Fill in the column `answer`: present (1, yes), absent (0, no), unknown (?), or nothing. Beside review.csv:
  review.json                 where the data came from, for `apply`
  review.completed.parquet    all unknown labels with their scores, and what the method decided in training, where it
                              completes labels and remembers them (curriculum, role, scpnet, large_loss with LL-Cp)
  review.png                  the first photos with their questions
  review.label_studio.json    with --export label-studio, and .xml with the labeling interface to paste
  review.fiftyone.json        with --export fiftyone
`apply` leaves the old table as it is, refuses answers that contradict each other or a label that has changed since,
and counts what has become of the labels.
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "review",
        help="find what to correct and what to annotate next",
        description="Choose labels to correct and to annotate next, by the scores of a trained model.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_checkpoint_arguments(parser)
    parser.add_argument("data", nargs="?", metavar="DATA", help="as for `hf-mlrpl data` (default: those of the run)")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of the data")
    parser.add_argument("--out", type=Path, default=Path("review.csv"), metavar="FILE", help="default: review.csv")
    parser.add_argument("--suspects", type=int, default=100, metavar="N", help="known labels (default: 100)")
    parser.add_argument("--ask", type=int, default=100, metavar="N", help="most useful unknown labels (default: 100)")
    parser.add_argument("--sample", type=int, default=100, metavar="N", help="uniform unknown labels (default: 100)")
    parser.add_argument("--per-photo", type=int, default=3, metavar="N", help="at most so many to ask (default: 3)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the uniform sample (default: 0)")
    known = parser.add_mutually_exclusive_group()
    known.add_argument("--folds", type=int, metavar="K", help="score training photos by K models trained without them")
    known.add_argument("--unseen", action="store_true", help="the model was trained on none of these photos")
    parser.add_argument("--export", choices=("label-studio", "fiftyone"), help="also write the photos for this tool")
    parser.add_argument("--write", metavar="OUT", help="with `apply`: a .parquet file, or a new folder with photos")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    if arguments.checkpoint == APPLY:
        from .review_apply import apply_answers

        if arguments.data is None or arguments.overrides:
            raise ValueError("`hf-mlrpl review apply` takes one table with answers, such as review.csv.")
        apply_answers(Path(arguments.data), arguments.write)
        return
    if arguments.write:
        raise ValueError("`--write` belongs to `hf-mlrpl review apply review.csv`; the questions go to `--out`.")
    _ask(arguments)


def _ask(arguments: argparse.Namespace) -> None:
    import numpy as np

    from ..hub.publish import RECIPE_NAME
    from ..recipe.document import Recipe
    from ..review.choice import Sizes, choose_questions
    from .completed import completed_labels
    from .evaluate import check_same_labels
    from .review_data import learned_from, load_photos, score_photos
    from .review_files import Review, save_completed, save_exports, save_pictures, save_questions

    sizes = Sizes(**{name: getattr(arguments, name) for name in Sizes.__dataclass_fields__})
    out: Path = arguments.out
    if out.suffix != ".csv":
        raise ValueError(f"`--out` must name a .csv file, got {out}.")
    checkpoint = find_checkpoint(arguments)
    model = load_model(checkpoint, arguments.checkpoint)
    saved = checkpoint / RECIPE_NAME
    run_recipe = Recipe.load(saved) if saved.is_file() else None
    if arguments.folds is not None and run_recipe is None:
        raise ValueError(f"`--folds` trains with the recipe of the run, but {arguments.checkpoint} has none.")
    photos, settings = load_photos(arguments.data, arguments.overrides, run_recipe)
    check_same_labels(model.config.label_names, next(iter(photos.parts.values())), arguments.checkpoint)
    learned = np.zeros(len(photos.labels), bool) if arguments.unseen else learned_from(photos, run_recipe)
    out.parent.mkdir(parents=True, exist_ok=True)
    scores = score_photos(photos, model, arguments.folds, cache=out.with_suffix(".folds"))
    unreadable = np.isnan(scores[:, 0])
    if unreadable.any():
        print(f"warning: {unreadable.sum()} unreadable image(s) are left out.")
    labels = np.where(unreadable[:, None], 0, photos.labels)
    judged = _judged(photos, learned, arguments.folds) & ~unreadable
    asked = labels.copy()
    asked[unreadable] = 1  # nothing is asked about them
    choice = choose_questions(np.nan_to_num(scores), asked, judged, sizes)
    review = Review(arguments.checkpoint, settings, photos, scores, choice)
    decided = completed_labels(checkpoint, photos.files, photos.names)
    with writing(out):
        save_questions(out, review)
        completed = save_completed(out.with_suffix(".completed.parquet"), review, decided)
        pictures = save_pictures(out.with_suffix(".png"), review, PICTURES)
    _say(choice, photos, learned, judged)
    print(f"\nquestions             {out}")
    print(f"{completed:>9,} unknown     {out.with_suffix('.completed.parquet')}")
    if pictures:
        print(f"{pictures:>9} pictures    {out.with_suffix('.png')}")
    if arguments.export:
        print(f"for {arguments.export:<17} {save_exports(arguments.export, out, review, model)}")
    print(f"\nFill in the column `answer`, then: hf-mlrpl review apply {out} --write NEW_TABLE.parquet")


def _judged(photos: "Photos", learned: "np.ndarray | None", folds: int | None) -> "np.ndarray":
    """Which photos' known labels may be suspects: those that the scores were made without."""
    import numpy as np

    known = np.zeros(len(photos.labels), bool) if learned is None else ~learned
    return known | (np.array(photos.part_of) == "train") if folds is not None else known


def _say(choice: "Choice", photos: "Photos", learned: "np.ndarray | None", judged: "np.ndarray") -> None:
    """Say what was chosen, and what could not be."""
    print(f"{len(photos.labels):,} photos, {len(photos.names)} labels, {(photos.labels == 0).mean():.1%} unknown")
    print(f"{choice.count('suspect'):>9} suspects    among the known labels of {judged.sum():,} photos")
    print(f"{choice.count('ask'):>9} to ask      {choice.count('sample')} in a uniform sample")
    if not judged.any():
        why = (
            "it is not known which photos the model was trained on"
            if learned is None
            else "the model was trained on all of these photos, and repeats their mistakes"
        )
        print(f"No suspects: {why}. Add --folds 5, or --unseen if it was trained on none of them.")
    if choice.suspects.not_judged:
        from ..labels import shorten

        names = shorten([photos.names[column] for column in choice.suspects.not_judged], 8)
        print(f"warning: no suspects among labels with too few known present or absent photos: {names}.")
