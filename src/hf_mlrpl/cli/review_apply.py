"""`hf-mlrpl review apply`: the answers of a person, merged into a new table."""

import json
from pathlib import Path


def apply_answers(file: Path, out: str | None) -> None:
    """Merge the answers in `file` into the data that they are about, and write those as new ones."""
    from ..data.columns import SplitNotFound
    from ..recipe.document import Recipe
    from ..review.answers import merge_answers
    from ..review.sheet import read_answers
    from .data import write_data
    from .review_data import load_parts

    if not file.is_file():
        raise FileNotFoundError(f"There is no table {file}. `hf-mlrpl review` writes one.")
    facts = file.with_suffix(".json")
    if not facts.is_file():
        raise FileNotFoundError(
            f"There is no {facts}, which says where the labels came from: keep it beside {file.name}, under its name."
        )
    target = Path(out) if out else file.with_suffix(".answered.parquet")
    if target.exists():
        raise FileExistsError(f"{target} exists. Name another table with --write; old ones stay as they are.")
    answers, unanswered = read_answers(file)
    if not answers:
        raise ValueError(f"{file} has no answers: fill in the column `answer` with present, absent or unknown.")
    settings = json.loads(facts.read_text(encoding="utf-8"))["data"]
    recipe = Recipe.from_dict({"method": "partial_bce", "data": settings})
    merged, counts = merge_answers(load_parts(recipe).parts, answers)
    try:
        merged["test"] = recipe.data.load_split("test")
    except SplitNotFound:
        pass
    write_data(merged, target, recipe.data.hidden)
    print(f"{len(answers)} answers, {unanswered} questions without one")
    for change, count in sorted(counts.items(), key=lambda item: -item[1]):
        print(f"{count:>9} {change}")
    print(f"\nwritten: {target}")
    if "validation" in merged:
        print("It keeps the split: train with data.validation=validation.")
