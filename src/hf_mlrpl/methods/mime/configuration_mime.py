from huggingface_hub.dataclasses import strict

from ...ranges import number
from ..query2label.configuration_query2label import Query2LabelConfig


@strict
class MimeConfig(Query2LabelConfig):
    """Query2Label, and a normal distribution of the vector of each label.

    latent_dim: length of what is drawn from it.
    num_samples: whose mean is classified.
    sample_at_inference: also at inference (authors' code), where otherwise the mean of the distribution counts; the
        scores of an image are then random.
    """

    model_type = "mlrpl-mime"

    latent_dim: int = number("[1, 65536]", 256)
    num_samples: int = number("[1, 1e6]", 10)
    sample_at_inference: bool = False

    def label_vector_dim(self) -> int:
        return self.latent_dim
