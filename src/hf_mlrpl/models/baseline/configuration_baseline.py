from huggingface_hub.dataclasses import strict

from ..configuration_utils import MultiLabelConfig


@strict
class BaselineConfig(MultiLabelConfig):
    """A backbone, global average pooling, and a linear layer."""

    model_type = "mlrpl-baseline"
