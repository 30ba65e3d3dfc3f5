"""The files of a review."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..models.modeling_utils import MultiLabelPreTrainedModel
    from ..review.choice import Choice
    from ..visualization.canvas import Line
    from .review_data import Photos


@dataclass(frozen=True)
class Review:
    """What there is to write.

    checkpoint: name of the model.
    settings: of the data that the photos come from.
    scores: `(num_images, num_labels)` in [0, 1], NaN where a photo cannot be read and is skipped.
    """

    checkpoint: str
    settings: dict[str, Any]
    photos: "Photos"
    scores: np.ndarray
    choice: "Choice"


def save_questions(out: Path, review: Review) -> None:
    """Write the table to fill in, and beside it where the data came from."""
    from ..data.files import replace_text
    from ..review.sheet import Question, write_questions

    photos = review.photos
    questions = [
        Question(
            part=photos.part_of[row],
            image_id=photos.ids[row],
            image=photos.files[row],
            label=photos.names[column],
            why=why,
            known=int(photos.labels[row, column]),
            score=float(review.scores[row, column]),
        )
        for (row, column), why in review.choice.reasons.items()
    ]
    write_questions(out, questions)
    content = {"checkpoint": review.checkpoint, "data": review.settings, "labels": photos.names}
    replace_text(out.with_suffix(".json"), json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def save_completed(file: Path, review: Review, decided: np.ndarray | None) -> int:
    """Write all unknown labels with their scores, and what the method decided; returns their number.

    Args:
        decided: `(num_images, num_labels)` in {-1, 0, +1}, where the method remembers it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    photos, scores = review.photos, review.scores
    rows, columns = np.nonzero((photos.labels == 0) & ~np.isnan(scores))
    table = {
        "part": _coded(rows, photos.part_of),
        "image_id": _coded(rows, photos.ids),
        "image": _coded(rows, photos.files),
        "label": _coded(columns, photos.names),
        "score": pa.array(scores[rows, columns]),
    }
    if decided is not None:
        values = decided[rows, columns]
        words = pa.array(["absent", "present"]).take(pa.array(np.maximum(values, 0).astype(np.int8)))
        table["completed"] = pa.array(np.where(values == 0, None, words.to_numpy(zero_copy_only=False)), pa.string())
    pq.write_table(pa.table(table), file)
    return len(rows)


def _coded(codes: np.ndarray, values: list[str]) -> Any:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(values))


def save_pictures(out: Path, review: Review, count: int) -> int:
    """Draw the first photos of each reason with their questions; returns how many."""
    from ..data.images.photos import BadImageError, open_image
    from ..visualization.examples import plot_captioned

    photos = review.photos
    by_row: dict[int, list[tuple[int, str]]] = {}
    for (row, column), why in review.choice.reasons.items():
        by_row.setdefault(row, []).append((column, why))
    shown: list[int] = []
    for reason in ("suspect", "ask", "sample"):
        of_reason = [row for row, asked in by_row.items() if any(reason in why for _, why in asked)]
        shown += [row for row in of_reason if row not in shown][: count // 3]
    images, texts = [], []
    for row, stored in zip(shown, photos.stored(shown) if shown else [], strict=True):
        try:
            images.append(open_image(stored, name=photos.ids[row]))
        except BadImageError:  # of a photo that is skipped
            continue
        texts.append([_caption(review, row, column, why) for column, why in by_row[row]])
    if images:
        title = "why it is asked: label, what it is in the data, score"
        plot_captioned(images, texts, columns=6, title=title).savefig(out, dpi=80)
    return len(images)


def _caption(review: Review, row: int, column: int, why: str) -> "Line":
    from ..review.sheet import WORDS
    from ..visualization.canvas import BLACK, ORANGE, RED, cut
    from ..visualization.examples import CHARACTERS

    known = f"{WORDS[int(review.photos.labels[row, column])]}, {review.scores[row, column]:.2f}"
    label = cut(review.photos.names[column], max(8, CHARACTERS - len(why) - len(known) - 3))
    colour = RED if why.startswith("suspect") else ORANGE if why.startswith("ask") else BLACK
    return f"{why}: {label} {known}", colour


def save_exports(tool: str, out: Path, review: Review, model: "MultiLabelPreTrainedModel") -> Path:
    """Write the photos with questions for an annotation tool."""
    from ..pipelines.image_tagging import label_thresholds
    from ..review.exports import EXPORTS, ReviewedImage

    write, suffix = EXPORTS[tool]
    photos, scores, choice = review.photos, review.scores, review.choice
    thresholds = label_thresholds(model.config.thresholds, model.config).numpy()
    images = []
    for row in dict.fromkeys(row for row, _ in choice.reasons):
        of_value = {value: np.flatnonzero(photos.labels[row] == value) for value in (-1, 1)}
        predicted = np.flatnonzero(scores[row] >= thresholds)
        predicted = predicted[np.argsort(-scores[row, predicted], kind="stable")]
        images.append(
            ReviewedImage(
                file=photos.file(row, out.with_suffix(".photos")),
                image_id=photos.ids[row],
                part=photos.part_of[row],
                asked=[photos.names[column] for at, column in choice.reasons if at == row],
                present=[photos.names[column] for column in of_value[1]],
                absent=[photos.names[column] for column in of_value[-1]],
                scores={photos.names[column]: float(scores[row, column]) for column in predicted},
            )
        )
    file = out.with_suffix(suffix)
    write(file, images, photos.names, review.checkpoint)
    return file
