"""Measures `hf-mlrpl review` on digit scenes, of which 10 % of the labels are known; the README shows the results.

    python training/review_study.py --seeds 0 1 2 --results training/sweeps/review.jsonl

Suspects: 5 % of the known labels are flipped; how many of the 100 most suspicious ones are among them, by scores of
models that were trained without the image (cross-validation). Ask next: test mAP after 1,000 more labels that
`ask_next` chooses, after 1,000 random ones, and without. A line of the results is printed and kept as soon as it is
there; a call goes on where an earlier one ended.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from hf_mlrpl.data.columns import FULL_LABELS, keep_columns, label_matrix, set_labels
from hf_mlrpl.metrics.average_precision import mean_average_precision
from hf_mlrpl.recipe.document import Recipe
from hf_mlrpl.recipe.scores import cross_validated_scores, score_images, train_on
from hf_mlrpl.review.questions import ask_next, uniform_sample
from hf_mlrpl.review.suspects import find_suspects

SETTINGS = ["data.validation=0", "training.bf16=false", "training.dataloader_num_workers=0"]
QUIET = ["training.disable_tqdm=true", "training.report_to=none"]
MORE = 1000  # labels that are asked for
FLIPPED = 0.05  # of the known labels


class Study:
    """Digit scenes with one seed, which hides labels, flips them, and trains."""

    def __init__(self, recipe: str, seed: int, overrides: list[str]):
        seeds = [f"data.seed={seed}", f"training.seed={seed}"]
        self.seed, self.recipe = seed, Recipe.load(recipe, [*SETTINGS, *QUIET, *seeds, *overrides])
        splits = self.recipe.data.load()
        self.train, self.test, self.names = splits.train, splits.test, splits.names
        self.known, self.full = label_matrix(self.train), label_matrix(self.train, FULL_LABELS)

    def with_labels(self, labels: np.ndarray):
        return set_labels(keep_columns(self.train, ["image", "image_id"]), labels, self.names)

    def train_with(self, labels: np.ndarray):
        with TemporaryDirectory() as scratch:
            return train_on(self.recipe, self.with_labels(labels), scratch)

    def test_map(self, model) -> float:
        return 100 * mean_average_precision(score_images(self.recipe, model, self.test), label_matrix(self.test))

    def asked(self) -> dict[str, float]:
        model = self.train_with(self.known)
        scores = score_images(self.recipe, model, self.train)
        found = {"before": self.test_map(model)}
        for name, chosen in (
            ("ask_next", ask_next(scores, self.known, MORE)[:2]),
            ("random", uniform_sample(self.known, MORE, seed=self.seed)),
        ):
            labels = self.known.copy()
            labels[chosen] = self.full[chosen]
            found[name] = self.test_map(self.train_with(labels))
            found[f"{name}_present"] = 100 * float((self.full[chosen] == 1).mean())
        return found

    def suspected(self, folds: int) -> dict[str, float]:
        random = np.random.default_rng(self.seed)
        rows, columns = np.nonzero(self.known)
        chosen = random.choice(len(rows), round(FLIPPED * len(rows)), replace=False)
        labels = self.known.copy()
        labels[rows[chosen], columns[chosen]] *= -1
        is_flipped = labels != self.known
        scores = cross_validated_scores(self.recipe, self.with_labels(labels), folds, seed=self.seed)
        found = find_suspects(scores, labels)
        quality = np.where(labels == 1, scores, 1 - scores)
        least = np.argsort(np.where(labels == 0, np.inf, quality).ravel(), kind="stable")[:100]
        return {
            "flipped": len(chosen),
            "known": len(rows),
            "suspects": len(found),
            "precision_at_100": 100 * float(is_flipped[found.rows, found.columns][:100].mean()),
            "precision_at_100_self_confidence_alone": 100 * float(is_flipped.ravel()[least].mean()),
            "cross_validated_map": 100 * mean_average_precision(scores, self.full),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="SECTION.KEY=VALUE")
    parser.add_argument("--recipe", default="partial_bce/digit_scenes_10")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parts", nargs="+", choices=("asked", "suspected"), default=["asked", "suspected"])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=Path("review.jsonl"))
    arguments = parser.parse_intermixed_args()
    done = arguments.results.read_text().splitlines() if arguments.results.is_file() else []
    finished = [{key: line[key] for key in ("key", "part", "seed")} for line in map(json.loads, done)]
    for seed in arguments.seeds:
        for part in arguments.parts:
            folds = [arguments.folds] if part == "suspected" else []
            key = " ".join([arguments.recipe, *arguments.overrides, *(f"folds={count}" for count in folds)])
            line = {"key": key, "part": part, "seed": seed}
            if line not in finished:
                study = Study(arguments.recipe, seed, arguments.overrides)
                line |= {"results": getattr(study, part)(*folds)}
                with open(arguments.results, "a") as file:
                    file.write(json.dumps(line) + "\n")
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
