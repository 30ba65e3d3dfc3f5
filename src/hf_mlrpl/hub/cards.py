"""Model cards: how to use a model, how it was trained, what it can do and what not.

The generated part stands between two marks and is made anew by every push. What an author writes around it, and fields
of the metadata that are not made here, stay.
"""

from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers.utils import logging

from .facts import SELECTED_ON_TEST, TrainingFacts

logger = logging.get_logger(__name__)

CARD_NAME = "README.md"
BEGIN = "<!-- hf-mlrpl: from here on made anew by every push; write above or below -->"
END = "<!-- hf-mlrpl: end -->"
UNKNOWN_LICENSE = "unknown"  # as the Hub calls it
FEW = 20  # images that show a label, with which its average precision says little
MANY_LABELS = 30  # a longer table is folded

# Our names, those of the Hub where it has one, and those of people.
_METRICS = {
    "map": ("mean_average_precision", "mAP"),
    "map_interpolated": ("mean_average_precision", "mAP, interpolated as in VOC 2012"),
    "cf1": ("f1", "CF1, mean over labels"),
    "of1": ("f1", "OF1, over all labels"),
    "cf1_chosen": ("f1", "CF1 at the chosen thresholds"),
    "of1_chosen": ("f1", "OF1 at the chosen thresholds"),
    "mean_f1": ("f1", "mean F1 at 0.5"),
    "mean_f1_chosen": ("f1", "mean F1 at the chosen thresholds"),
    "cp": ("precision", "CP, mean over labels"),
    "op": ("precision", "OP, over all labels"),
    "cr": ("recall", "CR, mean over labels"),
    "or": ("recall", "OR, over all labels"),
}
_SAMPLES = [
    {
        "src": f"https://huggingface.co/datasets/mishig/sample_images/resolve/main/{name}.jpg",
        "example_title": name.capitalize(),
    }
    for name in ("tiger", "teapot")
]


def write_card(
    folder: Path,
    repo_id: str,
    model: Any,
    *,
    recipe: dict[str, Any] | None = None,
    metrics: dict[str, float] | None = None,
    facts: TrainingFacts | None = None,
    license: str | None = None,
) -> None:
    """Write `README.md` of a checkpoint.

    Args:
        repo_id: its name on the Hub, or its folder, for the examples.
        recipe: settings to show.
        metrics: of `hf_mlrpl.metrics`, in percent, with the name of the split in front.
    """
    facts = facts or TrainingFacts(method=type(model).__name__)
    metrics = metrics or {}
    sections = [
        _introduction(repo_id, model, facts),
        _usage(repo_id, model.config.thresholds),
        _training(facts, recipe),
        _results(facts, metrics),
        _labels(model.config, facts),
        _limits(model.config, facts),
        _citation(facts),
    ]
    body = "\n\n".join(section for section in sections if section)
    data = _metadata(folder, repo_id, recipe, metrics, facts, license)
    ModelCard(f"---\n{data.to_yaml()}\n---\n\n{BEGIN}\n{body}\n{END}\n").save(folder / CARD_NAME)


def keep_what_the_author_wrote(card: Path, earlier: str) -> None:
    """Carry fields and text that are not generated from an `earlier` card over to the new `card`.

    Where both have such text, that of the earlier one stays.
    """
    new, old = ModelCard.load(card), ModelCard(earlier, ignore_metadata_errors=True)
    new.data = _merged(new.data, old.data)
    above, generated, below = _parts(new.text)
    theirs = _parts(old.text)
    if theirs[0].strip() or theirs[2].strip():
        if (above + below).strip() not in ("", (theirs[0] + theirs[2]).strip()):
            logger.warning(f"{card.name} keeps the text that its earlier version has around the generated part.")
        above, below = theirs[0], theirs[2]
    new.text = f"{above.strip()}\n\n{generated}\n\n{below.strip()}".strip() + "\n"
    ModelCard(f"---\n{new.data.to_yaml()}\n---\n\n{new.text}").save(card)


def _merged(new: Any, old: Any) -> ModelCardData:
    ours, theirs = new.to_dict(), old.to_dict()
    merged = theirs | ours
    for key in ("tags", "datasets"):
        if values := [*_as_list(ours.get(key)), *_as_list(theirs.get(key))]:
            merged[key] = list(dict.fromkeys(values))
    if ours.get("license") == UNKNOWN_LICENSE:
        merged["license"] = theirs.get("license", UNKNOWN_LICENSE)
    if ours.get("widget") == _SAMPLES:
        merged["widget"] = theirs.get("widget", _SAMPLES)
    for key in ("model-index", "model_name", "eval_results"):
        merged.pop(key, None)
    measured = {result.unique_identifier for result in new.eval_results or []}
    others = [result for result in old.eval_results or [] if result.unique_identifier not in measured]
    results = [*(new.eval_results or []), *others] or None
    name = (new.model_name or old.model_name) if results else None
    return ModelCardData(**merged, model_name=name, eval_results=results)


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def _parts(text: str) -> tuple[str, str, str]:
    """Text above the generated part, that part with its marks, and text below."""
    above, begin, rest = text.partition(BEGIN)
    generated, end, below = rest.partition(END)
    return above, begin + generated + end, below


# ---- metadata ----


def _metadata(
    folder: Path,
    repo_id: str,
    recipe: dict[str, Any] | None,
    metrics: dict[str, float],
    facts: TrainingFacts,
    license: str | None,
) -> ModelCardData:
    results = _eval_results(metrics, facts)
    method = [] if recipe is None else [recipe["method"]]
    return ModelCardData(
        license=license or UNKNOWN_LICENSE,
        library_name="transformers",  # which loads it, with our package
        pipeline_tag="image-classification",
        tags=["hf-mlrpl", "multi-label", "partial-labels", "image-tagging", *method],
        base_model=facts.base_model,
        datasets=None if facts.dataset is None else [facts.dataset],
        model_name=Path(repo_id).name if results else None,
        eval_results=results or None,
        widget=_widget(folder, repo_id),
    )


def _eval_results(metrics: dict[str, float], facts: TrainingFacts) -> list[EvalResult]:
    split = facts.measured
    return [
        EvalResult(
            task_type="image-classification",
            task_name="Multi-label image classification",
            dataset_type=facts.dataset or facts.data,
            dataset_name=facts.data,
            dataset_split=split,
            dataset_args=facts.protocol or None,
            metric_type=kind,
            metric_name=title,
            metric_value=round(metrics[f"{split}_{name}"], 2),
        )
        for name, (kind, title) in _METRICS.items()
        if f"{split}_{name}" in metrics
    ]


def _widget(folder: Path, repo_id: str) -> list[dict[str, str]]:
    """Photos to try: the examples, where they are published, or public ones."""
    examples = sorted((folder / "examples").glob("*.png"))
    if examples:
        address = f"https://huggingface.co/{repo_id}/resolve/main/examples"
        return [{"src": f"{address}/{file.name}", "example_title": file.stem} for file in examples]
    return _SAMPLES


# ---- text ----


def _introduction(repo_id: str, model: Any, facts: TrainingFacts) -> str:
    names = model.config.label_names
    shown = ", ".join(names[:MANY_LABELS]) + (", ..." if len(names) > MANY_LABELS else "")
    data = f" on {facts.data}" if facts.data else ""
    return (
        f"# {Path(repo_id).name}\n\nTags a photo with any number of {len(names)} labels: {shown}.\n\n"
        f"Trained{data} with [{facts.method}](#training) by `hf-mlrpl`, as a `{type(model).__name__}`."
    )


def _usage(repo_id: str, thresholds: Any) -> str:
    default = "0.5" if thresholds == 0.5 else "that its line below names"
    return f"""\
## Use

```bash
pip install hf-mlrpl
hf-mlrpl tag {repo_id} photo.jpg
```

```python
import hf_mlrpl.auto  # makes the model and the task known to transformers
from transformers import pipeline

tagger = pipeline("image-tagging", model="{repo_id}")
print(tagger("photo.jpg"))
```

A label is returned from the score {default} on; `threshold=` sets another one. Scores are sigmoids: each label is
judged by itself."""


def _training(facts: TrainingFacts, recipe: dict[str, Any] | None) -> str:
    lines = [f"## Training\n\n**{facts.method}**. {facts.summary}".strip()]
    if facts.paper:
        lines.append(facts.paper)
    if facts.present:
        known = f"{100 * facts.known_proportion:.1f} %"
        lines.append(
            f"Data: {facts.data}, {facts.num_images:,} training {facts.things} with {len(facts.present)} labels each, "
            f"of which {known} are known: {facts.hidden or 'all that the data came with'}."
        )
    if facts.base_model:
        lines.append(f"Started from [{facts.base_model}](https://huggingface.co/{facts.base_model}).")
    if recipe is not None:
        text = yaml.safe_dump(recipe, sort_keys=False)
        lines.append(f"<details><summary>Recipe</summary>\n\n```yaml\n{text}```\n\n</details>")
    return "\n\n".join(lines)


def _results(facts: TrainingFacts, metrics: dict[str, float]) -> str:
    rows = [
        f"| {title} | {metrics[f'{facts.measured}_{name}']:.1f} |"
        for name, (_, title) in _METRICS.items()
        if f"{facts.measured}_{name}" in metrics
    ]
    if not rows:
        return ""
    of = "test images" if facts.measured == "test" else f"images of the {facts.measured} part"
    selected = f" {SELECTED_ON_TEST}." if facts.selected_on == "test" else ""
    head = f"## Results\n\nIn percent, on the {of}, over their known labels.{selected}\n\n| metric | value |"
    return "\n".join([head, "|---|---|", *rows])


def _labels(config: Any, facts: TrainingFacts) -> str:
    """One line per label, with what is known of it."""
    names = config.label_names
    thresholds = _as_list(config.thresholds)
    thresholds = thresholds * len(names) if len(thresholds) == 1 else thresholds
    columns: dict[str, list[str]] = {
        "label": [name.replace("|", "\\|") for name in names],
        "threshold": [f"{value:.3g}" for value in thresholds],
    }
    if len(facts.present) == len(names):
        columns["present"] = [f"{count:,}" for count in facts.present]
        columns["absent"] = [f"{count:,}" for count in facts.absent]
    if len(facts.average_precision) == len(names):
        columns["AP"] = ["-" if value is None else f"{value:.1f}" for value in facts.average_precision]
    rows = [" | ".join(row) for row in zip(*columns.values(), strict=True)]
    table = "\n".join(f"| {row} |" for row in [" | ".join(columns), " | ".join(["---"] * len(columns)), *rows])
    if len(names) > MANY_LABELS:
        table = f"<details><summary>{len(names)} labels</summary>\n\n{table}\n\n</details>"
    explained = "From which score on a label is returned"
    if "present" in columns:
        explained += ", in how many training images it is known to be present or absent"
    if "AP" in columns:
        explained += f", and its average precision on the {facts.measured} images"
    return f"## Labels\n\n{explained}.\n\n{table}"


def _limits(config: Any, facts: TrainingFacts) -> str:
    height, width = config.height_and_width
    how = "the centre is cut out" if config.resize == "crop" else "proportions are not kept"
    lines = [
        "It knows these labels and no others; that a label is missing from its answer is no proof of absence.",
        f"It sees photos at {height}x{width} pixels ({how}), so it may overlook small things.",
    ]
    if facts.selected_on == "test":
        lines.append(f"{SELECTED_ON_TEST}.")
    if facts.measured == "validation":
        lines.append("The results are of images that may have served to choose settings, so they may be too good.")
    elif facts.measured is None:
        lines.append("It has not been measured on images that it was not trained on.")
    rare = [name for name, count in zip(config.label_names, facts.present, strict=False) if count < FEW]
    if rare:
        shown = ", ".join(rare[:10]) + (", ..." if len(rare) > 10 else "")
        lines.append(f"Fewer than {FEW} training images are known to show: {shown}.")
    if facts.present and facts.known_proportion < 1:
        lines.append("It was trained with partial labels: what nobody had annotated was filled in or left out.")
    lines.append("Its data have not been checked for fairness; do not let it decide about people.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _citation(facts: TrainingFacts) -> str:
    return f"## Citation\n\n```bibtex\n{facts.citation}\n```" if facts.citation else ""
