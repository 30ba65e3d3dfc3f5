from typing import TYPE_CHECKING, Literal

from huggingface_hub.dataclasses import strict

from ...models.baseline.configuration_baseline import BaselineConfig
from ...ranges import number


@strict
class ImclConfig(BaselineConfig):
    """The baseline, and a graph by which the labels of dictionary images complete each other.

    class_graph: "identity" (published for CUB), or "cooccurrence", which starts from how often labels are known to
        occur together, with columns that sum to 1, and is trained where it is not zero.
    representation_dim: length of the vector of an image; that of the backbone, `None` before it is known.
    """

    model_type = "mlrpl-imcl"
    earlier_model_type = ""

    class_graph: Literal["identity", "cooccurrence"] = "identity"
    if TYPE_CHECKING:  # never `None` once there is a model
        representation_dim: int = 0
    else:
        representation_dim: int | None = number("[1, 65536]", None)
