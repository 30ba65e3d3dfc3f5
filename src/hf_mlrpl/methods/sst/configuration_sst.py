from typing import Literal

from huggingface_hub.dataclasses import strict

from ...ranges import number
from ..ssgrl.configuration_ssgrl import SsgrlConfig


@strict
class SstConfig(SsgrlConfig):
    """SSGRL, and the head that predicts which labels occur together.

    cooccurrence_dim: size of a label's vector in the co-occurrence head, `phi_intra` of Eq. 1.
    cooccurrence_hidden_dim: size of a pair's vector there.
    cooccurrence_layers: "published" has one ReLU and four linear layers (the authors' code); "paper" has a ReLU behind
        the layer of a label, too, and no layer between that of a pair and the classifier: the three layers of Eq. 1.
    pair_classifier: "per_pair" has one linear classifier for every pair of labels (the authors' code); "shared" has a
        single one (the paper), the only choice for thousands of labels.
    """

    model_type = "mlrpl-sst"
    earlier_model_type = "sst"

    cooccurrence_dim: int = number("[1, 65536]", 512)
    cooccurrence_hidden_dim: int = number("[1, 65536]", 1024)
    cooccurrence_layers: Literal["published", "paper"] = "published"
    pair_classifier: Literal["per_pair", "shared"] = "per_pair"
