from typing import Literal

from huggingface_hub.dataclasses import strict

from ...clip.configuration_clip import ClipPromptConfig
from ...ranges import number


@strict
class ScpnetConfig(ClipPromptConfig):
    """CLIP with a learned context, and a graph network over the label vectors; defaults are those of COCO.

    image_network: timm network with average pooling in the place of CLIP's image tower, the row "ResNet" of Table 6;
        `trainable_backbone` then names its parts, and `image_mean` and `image_std` must be its own.
    scale: factor of the cosines that gives the logits; 100 for NUS-WIDE.
    learn_scale: whether its logarithm is trained, as for NUS-WIDE.
    adjacency: what the graph network passes messages along: the "graph" (authors' code), the "calibration" (the
        paper, which has one matrix for both), or `None` for no graph network, the row of the prompts alone.
    graph_layers, graph_dim: number of its graph convolutions, and the length of the vectors between them.
    graph_last_activation: LeakyReLU behind the last graph convolution, too (the paper; the authors' code has none).
    prior: how alike labels are. "clip": cosines of the text features of "a photo of a <name>"; "images": cosines of
        the mean vectors of the training images where a label is known to be present; or a source of
        `hf_mlrpl.models.priors.label_similarity`: "glove", the path of a GloVe file or of the matrix, a text encoder.
    prior_top_k: labels that a row of the graph keeps, with the label itself; `None` keeps all.
    prior_reweight: what the neighbours of a label get together, `s`.
    prior_temperature: of the calibration, `tau'`.
    graph_prior, calibration_prior: whether graph and calibration come from `prior` ("static"), or from the text
        features of each step ("dynamic"); without a calibration ("none"), scores are distilled as they are.
    """

    model_type = "mlrpl-scpnet"
    earlier_model_type = "scpnet"

    resize: Literal["stretch", "crop"] = "crop"
    num_context: int = 4
    context_words: str | None = "a photo of a"
    image_network: str | None = None
    scale: float | int = number("(0, 1e4]", 10.0)
    learn_scale: bool = False
    adjacency: Literal["graph", "calibration"] | None = "graph"
    graph_layers: int = number("[1, 100]", 3)
    graph_dim: int = number("[1, 65536]", 2048)
    graph_last_activation: bool = False
    prior: str = "clip"
    prior_top_k: int | None = number("[2, 1e6]", 62)
    prior_reweight: float | int = number("[0, 1]", 0.2)
    prior_temperature: float | int = number("(0, 1e6]", 0.2)
    graph_prior: Literal["static", "dynamic"] = "static"
    calibration_prior: Literal["static", "dynamic", "none"] = "static"
