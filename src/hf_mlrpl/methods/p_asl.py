"""P-ASL and CSL, the class-aware selective loss (Ben-Baruch et al., CVPR 2022), https://arxiv.org/abs/2110.10955."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..data.images.training_images import TrainingImages
from ..distributed import gather_rows
from ..labels import POSITIVE, UNKNOWN
from ..losses import asymmetric_loss, unknown_weights
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import OBJECTIVE_NAME, Objective, ObjectiveOutput, logits_of, sum_of_terms
from ..ranges import number
from ..schedules import Progress


@dataclass(frozen=True, kw_only=True)
class PAslObjectiveConfig:
    """Defaults of the authors' code.

    unknown: unknown labels count as absent ("negative"); are left out ("ignore"); are left out, with a larger weight
        for images with few known labels ("ignore_normalized"); or count as absent, but for those that are likely to be
        present, which are left out ("select").
    likely_per_image: with "select", so many unknown labels with the highest scores are ignored, on average.
    prior: with "select", the output folder of a run with "ignore", which has estimated how often each label is
        present; labels above `prior_threshold` are ignored where they are unknown. `null` does without.
    gamma_positive, gamma_negative, gamma_unknown: exponents of the focusing factors.
    positive_weight, negative_weight, unknown_weight: factors of the losses.
    clip: see `hf_mlrpl.losses.asymmetric_loss`.
    """

    unknown: Literal["negative", "ignore", "ignore_normalized", "select"] = "select"
    likely_per_image: int = 5
    prior: str | None = None
    prior_threshold: float = number("(0, 1]", 0.05)
    gamma_positive: float = number("[0, 100]", 0.0)
    gamma_negative: float = number("[0, 100]", 1.0)
    gamma_unknown: float = number("[0, 100]", 2.0)
    positive_weight: float = 1.0
    negative_weight: float = 1.0
    unknown_weight: float = 1.0
    clip: float = number("[0, 1)", 0.0)

    def __post_init__(self):
        if self.prior is not None and self.unknown != "select":
            raise ValueError(f"`prior` needs `unknown: select`, got {self.unknown!r}. Leave one of them out.")

    @property
    def needs_negatives(self) -> bool:
        return self.unknown in ("ignore", "ignore_normalized")


def selected_weights(logits: Tensor, labels: Tensor, config: PAslObjectiveConfig, prior: Tensor | None) -> Tensor:
    """Weight of every entry, `(batch_size, num_labels)`, from what is done with unknown labels.

    Args:
        prior: `(num_labels,)` probabilities that a label is present, or `None`.
    """
    if config.unknown == "ignore_normalized":
        known = labels.ne(UNKNOWN).to(logits.dtype)
        return known * (1 + 1 / (1 + known.sum(dim=1, keepdim=True)))
    return unknown_weights(
        logits,
        labels,
        config.unknown,
        likely_per_image=config.likely_per_image,
        priors=prior,
        prior_threshold=config.prior_threshold,
    )


def partial_asymmetric_loss(logits: Tensor, labels: Tensor, config: PAslObjectiveConfig, weights: Tensor) -> Tensor:
    """Asymmetric loss of every entry with an exponent of its own for unknown labels; gradients skip the factors."""
    positive, unknown = labels.eq(POSITIVE), labels.eq(UNKNOWN)
    weight = torch.where(unknown, config.unknown_weight, config.negative_weight)
    losses = asymmetric_loss(
        logits,
        positive,
        gamma_positive=config.gamma_positive,
        gamma_negative=torch.where(unknown, config.gamma_unknown, config.gamma_negative),
        clip=config.clip,
        detach_focus=True,
    )
    return weights * torch.where(positive, config.positive_weight, weight) * losses


def load_prior(path: str, num_labels: int) -> Tensor:
    """The share of images that show each label, `(num_labels,)`, from the memory of a run with `unknown: ignore`.

    Args:
        path: the memory of the objective, or a folder in which the newest one counts.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        file = max(file.rglob(OBJECTIVE_NAME), key=lambda found: found.stat().st_mtime, default=file / OBJECTIVE_NAME)
    if not file.is_file():
        raise FileNotFoundError(f"`objective.prior`: there is no {file}. Train with `objective.unknown=ignore` first.")
    try:
        prior = load_file(file).get("prior", torch.empty(0))
    except SafetensorError as error:
        raise ValueError(f"`objective.prior`: {file} cannot be read: {error}") from error
    if prior.shape != (num_labels,):
        advice = "Take the output of a run on the same data with `objective.unknown=ignore`."
        raise ValueError(f"{file} must hold `prior` for {num_labels} labels, it has {len(prior)}. {advice}")
    return prior


class PAslObjective(Objective):
    """Partial asymmetric loss, a mean over images of the sum over labels.

    Where unknown labels are ignored, it remembers the mean score of each label, the prior for a run that selects.
    """

    config_class = PAslObjectiveConfig
    config: PAslObjectiveConfig
    prior: Tensor
    prior_images: Tensor

    def __init__(self, config: PAslObjectiveConfig, model_config):
        super().__init__(config, model_config)
        self.num_labels = model_config.num_labels
        if config.unknown.startswith("ignore"):
            self.register_buffer("prior", torch.zeros(self.num_labels))
            self.register_buffer("prior_images", torch.zeros((), dtype=torch.int64))

    def prepare(self, images: TrainingImages) -> None:
        if self.config.prior is not None:
            self.register_buffer("prior", load_prior(self.config.prior, self.num_labels))

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        logits = logits_of(model, batch["pixel_values"])  # (B, C)
        config, labels = self.config, batch["labels"]
        if config.unknown.startswith("ignore"):
            self.estimate_prior(logits.detach().sigmoid())
        weights = selected_weights(logits, labels, config, self.remembered("prior") if config.prior else None)
        losses = partial_asymmetric_loss(logits, labels, config, weights)
        return sum_of_terms({"asymmetric": losses.sum(dim=1).mean()}, logits=logits)

    def estimate_prior(self, scores: Tensor) -> None:
        """Take the scores of all processes into the mean."""
        scores = gather_rows(scores)
        self.prior_images += len(scores)
        self.prior += (scores.mean(dim=0) - self.prior) * (len(scores) / self.prior_images)
