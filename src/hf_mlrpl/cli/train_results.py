"""What a training run leaves and says when it ends."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .report import MAIN, REPORT, format_metrics

if TYPE_CHECKING:
    from datasets import Dataset

    from ..hub.facts import TrainingFacts
    from ..models.modeling_utils import MultiLabelPreTrainedModel
    from ..trainer.trainer import MultiLabelTrainer


def training_metrics(history: list[dict[str, float]], kept_step: int | None = None) -> dict[str, float]:
    """Validation mAP and mean F1, and number and precision of the pseudo-labels of the last epoch.

    Args:
        kept_step: the step whose weights are kept, by default the last one.
    """
    from ..trainer.logs import completed_in_last_epoch

    last: dict[str, float] = {}
    for entry in history:
        last |= {name: value for name, value in entry.items() if name == "validation_mean_f1_chosen"}
        if "eval_map" in entry and kept_step in (None, entry["step"]):
            last["validation_map"] = entry["eval_map"]
    return last | completed_in_last_epoch(history)


def save_results(
    output: Path,
    facts: "TrainingFacts",
    shown: "Dataset | None",
    model: "MultiLabelPreTrainedModel",
    metrics: dict[str, float],
) -> None:
    """Write the checkpoint, its card, the metrics, and pictures of images that are `shown`."""
    from ..data.files import replace_text
    from ..hub.publish import describe_folder

    model.save_pretrained(output)
    replace_text(output / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    facts.save(output)
    describe_folder(output, model, str(output))
    if shown is not None:
        save_pictures(output, model, shown)


def push_trained(trainer: "MultiLabelTrainer", output: Path) -> None:
    """Push the results, which are safe on the disk by now."""
    try:
        print(f"\npublished: {trainer.push_to_hub()}")
    except (OSError, ValueError, RuntimeError) as error:
        name = trainer.hub_model_id or "user/my-tagger"
        raise OSError(f"{error} The results are in {output}: `hf-mlrpl push {output} {name}` sends them.") from error


def save_pictures(output: Path, model: "MultiLabelPreTrainedModel", dataset: Any, count: int = 6) -> None:
    """A few photos as files, and a picture of what the model finds in them, and where."""
    from ..data.columns import label_matrix
    from ..pipelines.image_tagging import ImageTaggingPipeline
    from ..visualization.attention import plot_tags
    from .data import first_images

    rows, images = first_images(dataset, count, skip=True)
    if not images:
        return
    folder = output / "examples"
    folder.mkdir(exist_ok=True)
    for row, image in zip(rows, images, strict=True):
        image.save(folder / f"{row:03d}.png")
    tagger = ImageTaggingPipeline(model=model.eval(), device=model.device)
    if tagger.has_attention_maps:
        names, labels = model.config.label_names, label_matrix(dataset.select(rows)).tolist()
        tags = tagger(images, attention_maps=True, batch_size=len(images))
        figure = plot_tags(images, tags, [dict(zip(names, row, strict=True)) for row in labels])
        figure.savefig(output / "attention.png", dpi=110)


def describe_learning(facts: "TrainingFacts", metrics: dict[str, float]) -> list[str]:
    """From how many labels a model learned, which it completed itself, and what that does to the loss."""
    share = 100 * facts.known_proportion
    known = sum(facts.present) + sum(facts.absent)
    lines = [
        f"learned from {known:,} known labels of {facts.num_images:,} {facts.things}, {share:.3g} % of all; "
        f"{sum(facts.present):,} of them say that something is there"
    ]
    completed = {name: int(value) for name, value in metrics.items() if name.startswith("pseudo_labels") and value}
    for name, count in completed.items():
        right = metrics.get(name.replace("labels", "precision"))
        kind = name.removeprefix("pseudo_labels").strip("_").replace("_", " ")
        lines.append(
            f"completed {count:,} more in the last epoch{kind and f' ({kind})'}"
            + (f", {right:.3g} % of them right" if right is not None else "")
        )
    if completed:
        lines.append("so the training loss may rise while the model improves: completed labels add terms to it")
    return lines


def say_goodbye(output: Path, facts: "TrainingFacts", metrics: dict[str, float], class_name: str) -> None:
    print()
    print("\n".join(describe_learning(facts, metrics)))
    print()
    print(format_metrics(metrics, (*MAIN, "train_seconds")))
    picture = output / "attention.png"
    print(f"\nCheckpoint and model card   {output}")
    print(f"All metrics, in percent     {output / 'metrics.json'}")
    for report in sorted(output.glob(REPORT.format("*"))):
        print(f"Report of each label        {report}")
    if picture.exists():
        print(f"Attention maps              {picture}")
    examples = output / "examples"
    print("\nTag photos with it:")
    print(f"  hf-mlrpl tag {output} {examples if examples.is_dir() else 'PHOTOS'}")
    print("\nUse it in Python:")
    print(f"  from hf_mlrpl import {class_name}")
    print(f'  model = {class_name}.from_pretrained("{output}")')
    sys.stdout.flush()
