"""Images of a review for annotation tools, with what is known and what the model predicts."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from ..data.files import replace_text


@dataclass(frozen=True, kw_only=True)
class ReviewedImage:
    """An image with questions.

    file: its path, or its id where it has none.
    asked: labels that are asked about.
    present, absent: labels that are known.
    scores: of all labels that the model predicts, in [0, 1].
    """

    file: str
    image_id: str
    part: str
    asked: Sequence[str]
    present: Sequence[str]
    absent: Sequence[str]
    scores: Mapping[str, float]


def write_label_studio(file: Path, images: Sequence[ReviewedImage], names: Sequence[str], model: str) -> None:
    """Write tasks with predictions for Label Studio, and beside them, as `.xml`, the labeling interface to paste.

    https://labelstud.io/guide/predictions
    """
    tasks = [
        {
            "data": {
                "image": image.file,
                "image_id": image.image_id,
                "part": image.part,
                "ask": f"asked: {', '.join(image.asked)}",
            },
            "predictions": [_prediction(image, model)],
        }
        for image in images
    ]
    replace_text(file, json.dumps(tasks, indent=1, ensure_ascii=False) + "\n")
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in names)
    interface = (
        '<View>\n  <Image name="image" value="$image"/>\n  <Text name="ask" value="$ask"/>\n'
        f'  <Choices name="labels" toName="image" choice="multiple">\n{choices}\n  </Choices>\n</View>\n'
    )
    replace_text(file.with_suffix(".xml"), interface)


def _prediction(image: ReviewedImage, model: str) -> dict[str, Any]:
    chosen = {"from_name": "labels", "to_name": "image", "type": "choices", "value": {"choices": list(image.scores)}}
    mean = sum(image.scores.values()) / max(1, len(image.scores))
    return {"model_version": model, "score": round(mean, 4), "result": [chosen]}


def write_fiftyone(file: Path, images: Sequence[ReviewedImage], names: Sequence[str], model: str) -> None:
    """Write samples for FiftyOne, each as `fiftyone.Sample.from_dict` reads it.

    Fields: `present`, `absent` and `asked` with what is known and asked, `predictions` with a confidence.
    """
    samples = [dict(_fields(image)) for image in images]
    content = {"name": file.stem, "media_type": "image", "info": {"model": model, "classes": list(names)}}
    replace_text(file, json.dumps({**content, "samples": samples}, indent=1, ensure_ascii=False) + "\n")


def _fields(image: ReviewedImage) -> Iterator[tuple[str, Any]]:
    yield "filepath", image.file
    yield "tags", [image.part]
    yield "image_id", image.image_id
    for field in ("present", "absent", "asked"):
        yield field, _classifications([{"label": name} for name in getattr(image, field)])
    yield (
        "predictions",
        _classifications([{"label": name, "confidence": round(score, 4)} for name, score in image.scores.items()]),
    )


def _classifications(labels: list[dict[str, Any]]) -> dict[str, Any]:
    return {"_cls": "Classifications", "classifications": [{"_cls": "Classification", **label} for label in labels]}


EXPORTS = {"label-studio": (write_label_studio, ".label_studio.json"), "fiftyone": (write_fiftyone, ".fiftyone.json")}
