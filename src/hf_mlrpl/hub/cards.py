"""Model cards: the page of the method, with the numbers and the recipe of the run."""

from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .shipped import page_of

if TYPE_CHECKING:
    from ..models.modeling_utils import MultiLabelPreTrainedModel
    from ..recipe.document import Recipe

_USE = """\
# {title}

It tags an image with any number of {num_labels} labels: {method}, trained on {dataset} ({protocol}) with the package
`hf-mlrpl` (`{model_class}`).

## Use

```python
import hf_mlrpl.auto  # registers the models and the task "image-tagging"
from transformers import pipeline

tagger = pipeline("image-tagging", model="{folder}")
print(tagger("photo.jpg"))
```

```bash
hf-mlrpl tag {folder} photo.jpg
```

{thresholds} Labels: {labels}.

## Results

mAP, F1, precision and recall are in percent, over the known labels of the images.

{results}

## Recipe

```yaml
{recipe}```

"""


def write_model_card(
    output: Path, recipe: "Recipe", model: "MultiLabelPreTrainedModel", metrics: dict[str, float]
) -> None:
    """Write `README.md` of a checkpoint."""
    data = recipe.data_config()
    protocol = data.protocol if data.protocol != "none" else "no labels hidden"
    if "proportion" in recipe.data:
        protocol += f", proportion {recipe.data['proportion']}"
    endings = ("_map", "_map_interpolated", "_cf1", "_of1")
    shown = {name: value for name, value in metrics.items() if name.endswith(endings)}
    card_data = ModelCardData(
        library_name="hf-mlrpl",
        pipeline_tag="image-classification",
        tags=["multi-label", "partial-labels", recipe.method],
        model_name=output.name,
        eval_results=[
            EvalResult(
                task_type="image-classification",
                dataset_type=data.name,
                dataset_name=f"{data.name} ({protocol})",
                metric_type=name,
                metric_name=name,
                metric_value=round(value, 4),
            )
            for name, value in shown.items()
        ]
        or None,
    )
    body = _USE.format(
        title=output.name,
        method=recipe.method,
        dataset=data.name,
        protocol=protocol,
        num_labels=model.config.num_labels,
        model_class=type(model).__name__,
        folder=output.name,
        thresholds="A label counts from a score of 0.5 on."
        if model.config.thresholds == 0.5
        else "From which score a label counts is `thresholds` in `config.json`.",
        labels=", ".join(model.config.label_names),
        results=_table(metrics),
        recipe=recipe.to_yaml(),
    )
    if page := page_of(recipe.method):
        body += page.read_text(encoding="utf-8")
    ModelCard(f"---\n{card_data.to_yaml()}\n---\n\n{body}", ignore_metadata_errors=True).save(output / "README.md")


def _table(metrics: dict[str, float]) -> str:
    lines = ["| metric | value |", "|---|---|"]
    lines += [f"| {name} | {value:.4g} |" for name, value in metrics.items() if isinstance(value, int | float)]
    return "\n".join(lines)
