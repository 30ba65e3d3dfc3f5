"""Answers of a person, merged into the labels that they are about."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..data.columns import FULL_LABELS, IMAGE_ID, keep_columns, label_matrix, label_names, set_labels
from ..labels import UNKNOWN, shorten
from ..settings import did_you_mean
from .sheet import WORDS, Answer

if TYPE_CHECKING:
    from datasets import Dataset


def merge_answers(
    parts: Mapping[str, "Dataset"], answers: Sequence[Answer]
) -> "tuple[dict[str, Dataset], Counter[str]]":
    """New data sets with the answers, and how many labels became what: "unknown to present", "present confirmed", ...

    Args:
        parts: images by the name of the part; they stay as they are.

    Raises:
        ValueError: for images and labels that are not there, and for a label that is neither what it was when it was
            asked about nor what the answer says; nothing is merged then.
    """
    merged, counts = dict(parts), Counter[str]()
    conflicts = []
    for part in dict.fromkeys(answer.part for answer in answers):
        if part not in parts:
            first = next(answer for answer in answers if answer.part == part)
            raise ValueError(f"{first.place}: the data have no part {part!r}. {did_you_mean(part, parts)}")
        dataset = parts[part]
        names, labels = label_names(dataset), label_matrix(dataset).copy()
        rows = {image_id: row for row, image_id in enumerate(dataset[IMAGE_ID])}
        columns = {name: column for column, name in enumerate(names)}
        for answer in (answer for answer in answers if answer.part == part):
            for kind, name, known in (("image", answer.image_id, rows), ("label", answer.label, columns)):
                if name not in known:
                    raise ValueError(f"{answer.place}: the data have no {kind} {name!r}. {did_you_mean(name, known)}")
            place = rows[answer.image_id], columns[answer.label]
            now = int(labels[place])
            if now not in (answer.known, answer.value):
                conflicts.append(
                    f"{answer.place}: {answer.label!r} of {answer.image_id} was {WORDS[answer.known]} when it was "
                    f"asked about and is {WORDS[now]} now, but the answer is {WORDS[answer.value]}"
                )
            counts[_change(now, answer.value)] += 1
            labels[place] = answer.value
        kept = [name for name in dataset.column_names if name != FULL_LABELS]
        merged[part] = set_labels(keep_columns(dataset, kept), labels, names)
    if conflicts:
        raise ValueError(
            f"{len(conflicts)} answer(s) contradict data that have changed: {shorten(conflicts)}. Take these answers "
            "out, or make the review anew."
        )
    return merged, counts


def _change(before: int, after: int) -> str:
    if before == after:
        return "still unknown" if after == UNKNOWN else f"{WORDS[after]} confirmed"
    return f"{WORDS[before]} to {WORDS[after]}"
