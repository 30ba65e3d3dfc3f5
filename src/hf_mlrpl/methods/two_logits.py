"""What DualCoOp and its relatives share: two logits for each label, from the regions that CLIP pools by attention."""

from torch import Tensor

from ..clip.configuration_clip import ClipConfig
from ..clip.modeling_clip import ClipImageModel
from ..data.images.feature_files import StoredFeatures


class TwoLogitsModel(ClipImageModel):
    """Base of the models that ask of the regions of CLIP whether each label is absent, and whether it is present.

    A subclass defines `represent` and `two_logits`.
    """

    def __init__(self, config: ClipConfig):
        super().__init__(config)
        for unused in (self.backbone.network.head.q, self.backbone.network.head.k):  # regions do not attend
            unused.requires_grad_(False)

    def encode(self, pixel_values: Tensor | StoredFeatures) -> Tensor:
        """The map that CLIP pools by attention."""
        return self.backbone.feature_map(pixel_values)

    def classify(self, representations: Tensor) -> Tensor:
        """Logits whose sigmoid is the softmax over the two."""
        negative, positive = self.two_logits(representations).unbind(dim=1)
        return positive - negative

    def two_logits(self, representations: Tensor) -> Tensor:
        """Logits of absence and of presence, `(batch_size, 2, num_labels)`."""
        raise NotImplementedError(f"{type(self).__name__} must define `two_logits`.")


def maps_of(weights: Tensor, features: Tensor) -> Tensor:
    """Attention maps from the weights of regions, without that of the mean region, which would come first.

    Args:
        weights: `(batch_size, num_labels, num_regions)`.
        features: the map of the regions, `(batch_size, channels, height, width)`.
    """
    height, width = features.shape[2:]
    return weights[..., -height * width :].unflatten(2, (height, width))
