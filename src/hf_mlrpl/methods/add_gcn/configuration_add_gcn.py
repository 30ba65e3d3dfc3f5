from huggingface_hub.dataclasses import strict

from ...models.configuration_utils import MultiLabelConfig
from ...ranges import number


@strict
class AddGcnConfig(MultiLabelConfig):
    """Sizes of ADD-GCN.

    representation_dim: length of the vector of each label.
    """

    model_type = "mlrpl-add_gcn"
    earlier_model_type = "add_gcn"

    representation_dim: int = number("[1, 65536]", 1024)
