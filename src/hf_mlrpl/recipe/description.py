"""Facts of a training that follow from its recipe, for the card of its model."""

from typing import TYPE_CHECKING, Any

from ..clip.configuration_clip import PUBLISHED, ClipConfig
from ..hub.facts import TrainingFacts
from ..hub.privacy import is_local
from ..hub.shipped import facts_of_page
from ..labels import LabelSummary
from ..registry import PROTOCOLS

if TYPE_CHECKING:
    from .document import Recipe


def describe_training(recipe: "Recipe", summary: LabelSummary, config: Any) -> TrainingFacts:
    """The facts that are known when a training begins.

    Args:
        summary: of the known training labels.
        config: of the model.
    """
    data = recipe.data
    name, protocol, dataset = data.config.name, data.config.protocol, data.settings.get("dataset")
    hidden = "" if data.protocol is None else f"{PROTOCOLS[protocol].summary} (protocol {data.hidden})"
    if data.config.captions is not None:
        hidden = "those that a caption names are present, all others absent"
    numbers = {key: value for key, value in data.protocol_settings.items() if isinstance(value, int | float)}
    return TrainingFacts(
        data=name if name not in ("table", "dataset") else "own photos",
        dataset=dataset if dataset and not is_local(dataset, "dataset") else None,
        hidden=hidden,
        protocol={} if data.protocol is None else {"protocol": protocol, **numbers},
        base_model=base_model(recipe.model.settings.get("pretrained", True), config),
        things=summary.things,
        num_images=summary.num_images,
        selected_on="test" if data.config.selects_on_test else None,
        present=summary.present.tolist(),
        absent=summary.absent.tolist(),
        **facts_of_page(recipe.method),
    )


def base_model(pretrained: bool | str, config: Any) -> str | None:
    """The name on the Hub of the weights that a model starts from, where they come from there."""
    if isinstance(pretrained, str):
        return None if is_local(pretrained, "pretrained") else pretrained.partition("@")[0]
    if not pretrained:
        return None
    if isinstance(config, ClipConfig):
        return PUBLISHED[config.backbone].hub_name if config.backbone in PUBLISHED else None
    import timm

    weights = timm.get_pretrained_cfg(config.backbone)
    return (weights and weights.hf_hub_id) or None
