"""The questions of a review as a table that a person fills in, and the answers in it."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ..data.tables.table_files import read_table
from ..data.tables.values import DEFAULTS, EMPTY, canonical
from ..labels import NEGATIVE, POSITIVE, UNKNOWN

WORDS = {POSITIVE: "present", NEGATIVE: "absent", UNKNOWN: "unknown"}
ANSWER = "answer"


@dataclass(frozen=True, kw_only=True)
class Question:
    """One label of one image.

    part: of the data, "train" or "validation".
    image: its file, or its id where it has none.
    why: "suspect", "ask" or "sample"; two of them where a label was chosen twice.
    known: what the label is in the data, -1, 0 or +1.
    score: of the model, in [0, 1].
    """

    part: str
    image_id: str
    image: str
    label: str
    why: str
    known: int
    score: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a person said about one label; `place` is where, for messages, and `known` what the label was."""

    place: str
    part: str
    image_id: str
    label: str
    known: int
    value: int


def write_questions(file: Path, questions: Sequence[Question]) -> None:
    """Write the table, with an empty column for answers."""
    with open(file, "w", newline="", encoding="utf-8") as text:
        columns = [*(field.name for field in fields(Question)), ANSWER]
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        for question in questions:
            row = asdict(question) | {"known": WORDS[question.known], "score": f"{question.score:.4f}"}
            writer.writerow(row)


def read_answers(file: Path) -> tuple[list[Answer], int]:
    """The answers in a table, and the number of questions that have none.

    Understood are present, yes, true, 1 and x; absent, no, false and 0; unknown and ? for what one cannot tell.

    Raises:
        ValueError: for other answers, for columns that are gone, and for two answers to one question that differ.
    """
    table = read_table(file)
    needed = ("part", "image_id", "label", "known", ANSWER)
    missing = [name for name in needed if name not in table.columns]
    if missing:
        names = ", ".join(map(repr, missing))
        raise ValueError(f"{file} has no column {names}. `hf-mlrpl review` writes such tables.")
    cells = zip(*(table.columns[name].cells() for name in needed), strict=True)
    answers: dict[tuple[str, str, str], Answer] = {}
    unanswered = 0
    for row, (part, image_id, label, known, said) in enumerate(cells):
        place, key = table.where(row), canonical(said)
        if key == EMPTY:
            unanswered += 1
            continue
        if key not in DEFAULTS:
            raise ValueError(f"{place}: `{ANSWER}` must be present, absent, unknown or nothing, got {said!r}.")
        if known not in WORDS.values():
            raise ValueError(f"{place}: `known` must be one of {', '.join(WORDS.values())}, got {known!r}.")
        value = next(number for number, word in WORDS.items() if word == known)
        answer = Answer(
            place=place, part=part, image_id=str(image_id), label=str(label), known=value, value=DEFAULTS[key]
        )
        other = answers.setdefault((part, answer.image_id, answer.label), answer)
        if other.value != answer.value:
            raise ValueError(
                f"{place} says that {label!r} is {WORDS[answer.value]} in {image_id}, but {other.place} says "
                f"{WORDS[other.value]}. Keep one."
            )
    return list(answers.values()), unanswered
