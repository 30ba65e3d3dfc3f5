"""Registers models, image processors and the tagging pipeline with the Auto classes of transformers.

`import hf_mlrpl.auto` is all that is needed before `AutoModelForImageClassification.from_pretrained` or
`pipeline("image-tagging", ...)`. It is not part of `import hf_mlrpl`, which shall stay light.
"""

from transformers import CONFIG_MAPPING, AutoConfig, AutoImageProcessor, AutoModelForImageClassification

from .clip.configuration_clip import ClipConfig
from .models.image_processing import MultiLabelImageProcessor, MultiLabelImageProcessorPil
from .pipelines.image_tagging import register as register_pipeline
from .registry import METHODS, load


def register() -> None:
    """Make `AutoModelForImageClassification.from_pretrained` and the task "image-tagging" know every model here."""
    for target in {spec.model for spec in METHODS.values()}:
        model_class = load(target)
        config_class = model_class.config_class
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        if config_class.earlier_model_type:
            CONFIG_MAPPING.register(config_class.earlier_model_type, config_class, exist_ok=True)
        AutoModelForImageClassification.register(config_class, model_class, exist_ok=True)
        processors: dict[str, type] = {"torchvision": MultiLabelImageProcessor, "pil": MultiLabelImageProcessorPil}
        AutoImageProcessor.register(config_class, image_processor_classes=processors, exist_ok=True)
    AutoConfig.register(ClipConfig.model_type, ClipConfig, exist_ok=True)  # its towers alone are no tagger
    register_pipeline()


register()
