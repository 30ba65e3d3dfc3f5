"""Facts of a training that a card tells beside its settings and metrics."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..data.files import replace_text

FACTS_NAME = "facts.json"
SELECTED_ON_TEST = "The test images selected the weights, as published, so metrics on them are too good"


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """Kept in the folder of a run, and published with the model.

    method: its title; summary, paper, citation: those of its page.
    data: name of the data set; dataset: its name on the Hub, where it came from there.
    hidden: the rule that hid labels of the training images, or finds those of captions, in words; empty if none did.
    base_model: name on the Hub of the weights that the training started from.
    things: what was trained on, images or captions in their place.
    num_images: how many of them; present, absent: how many are known to show each label, or not to show it.
    selected_on: "test" where the test images chose epoch or thresholds, as in many papers.
    measured: the split that the metrics are of; average_precision: of each label there, in percent, `None` where it
        cannot be measured.
    """

    method: str
    summary: str = ""
    paper: str = ""
    citation: str = ""
    data: str = ""
    dataset: str | None = None
    hidden: str = ""
    protocol: dict[str, Any] = field(default_factory=dict)
    base_model: str | None = None
    things: str = "images"
    num_images: int = 0
    present: list[int] = field(default_factory=list)
    absent: list[int] = field(default_factory=list)
    selected_on: str | None = None
    measured: str | None = None
    average_precision: list[float | None] = field(default_factory=list)

    @property
    def known_proportion(self) -> float:
        """Known labels of the training images over all, in [0, 1]."""
        return (sum(self.present) + sum(self.absent)) / max(1, self.num_images * len(self.present))

    def save(self, folder: Path) -> None:
        replace_text(folder / FACTS_NAME, json.dumps(asdict(self), indent=1, ensure_ascii=False))

    @classmethod
    def read(cls, folder: Path) -> "TrainingFacts | None":
        """Those of a run, or `None` where it has none, as runs of the first version."""
        file = folder / FACTS_NAME
        return cls(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None
