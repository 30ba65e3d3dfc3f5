"""Pictures of what runs have written down."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..settings import did_you_mean
from .train_folder import LOG_NAME

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_IN_WORDS = {"loss": "loss", "eval_map": "mAP on validation images, in percent"}
_PRECISION, _COUNT = "pseudo_precision_", "pseudo_labels_"


def curves(arguments: argparse.Namespace) -> "Figure":
    """What was logged, a panel for each number."""
    from ..visualization.figures import plot_curves

    logs = {name: log_of(Path(name)) for name in arguments.of}
    logged = list(dict.fromkeys(key for log in logs.values() for entry in log for key in entry))
    wanted = arguments.numbers or [name for name in ("loss", "eval_map") if name in logged]
    for name in wanted:
        if name not in logged:
            raise ValueError(f"None of the runs has logged {name!r}. {did_you_mean(name, logged)}")
    panels = {
        _IN_WORDS.get(number, number.replace("_", " ")): {
            names: points for names, log in _named(logs).items() if (points := _points(log, number))
        }
        for number in wanted
    }
    return plot_curves(panels, "epoch")


def precision(arguments: argparse.Namespace) -> "Figure":
    """Pseudo-labels of each rule and run: how many percent of them are right, and how many there are."""
    from ..visualization.figures import plot_curves

    right, count = {}, {}
    for name, log in _named({name: log_of(Path(name)) for name in arguments.of}).items():
        rules = dict.fromkeys(key.removeprefix(_COUNT) for entry in log for key in entry if key.startswith(_COUNT))
        for rule in rules:
            if points := _points(log, _PRECISION + rule):
                right[f"{rule}, {name}"] = points
            count[f"{rule}, {name}"] = _points(log, _COUNT + rule)
    if not right:
        raise ValueError(
            "None of these runs has logged the precision of pseudo-labels: their methods make none, or there is no "
            "hidden truth to compare them with."
        )
    return plot_curves({"right pseudo-labels, in percent": right, "pseudo-labels since the last line": count}, "epoch")


def average_precision(arguments: argparse.Namespace) -> "Figure":
    """Average precision of each label over the training images that are known to show it."""
    from ..hub.facts import TrainingFacts
    from ..visualization.figures import plot_prevalence

    runs = {}
    for name in arguments.of:
        facts = TrainingFacts.read(Path(name))
        if facts is None or not facts.average_precision:
            raise ValueError(f"The run {name} has no average precisions: they are measured when a training ends.")
        names = _label_names(Path(name))
        values = zip(names, facts.present, facts.average_precision, strict=True)
        runs[name] = [(label, count, value) for label, count, value in values if value is not None]
    return plot_prevalence(_named(runs))


def log_of(folder: Path) -> list[dict[str, float]]:
    """What a run has logged: of a finished one, or up to its last checkpoint."""
    from ..trainer.checkpoints import checkpoint_folders

    if (folder / LOG_NAME).is_file():
        return json.loads((folder / LOG_NAME).read_text(encoding="utf-8"))
    for checkpoint in reversed(checkpoint_folders(folder)):
        state = checkpoint / "trainer_state.json"
        if state.is_file():
            return json.loads(state.read_text(encoding="utf-8"))["log_history"]
    raise FileNotFoundError(
        f"The run {folder} has no {LOG_NAME} and no checkpoint: train it again to have its curves."
    )


def _points(log: list[dict[str, float]], number: str) -> list[tuple[float, float]]:
    return [(entry["epoch"], entry[number]) for entry in log if number in entry and "epoch" in entry]


def _named(runs: dict[str, Any]) -> dict[str, Any]:
    """Runs by the name of their folder, where these differ."""
    names = [Path(name).name for name in runs]
    return dict(zip(names, runs.values(), strict=True)) if len(set(names)) == len(names) else runs


def _label_names(folder: Path) -> list[str]:
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return [name for _, name in sorted(content["id2label"].items(), key=lambda item: int(item[0]))]
