"""The asymmetric loss as an objective: what ASL, ML-Decoder and Query2Label share."""

from dataclasses import dataclass

from torch import Tensor

from ..labels import POSITIVE
from ..losses import Unknown, asymmetric_loss, unknown_weights
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import Objective, ObjectiveOutput, logits_of, sum_of_terms
from ..ranges import number
from ..schedules import Progress


@dataclass(frozen=True, kw_only=True)
class AsymmetricObjectiveConfig:
    """Settings of the asymmetric loss.

    gamma_positive, gamma_negative: exponents of the focusing factors of present and absent labels.
    clip: probabilities of absent labels are lowered by it, not below 0.
    eps: probabilities inside the logarithm are not below it.
    unknown: unknown labels count as absent ("negative"), or are left out ("ignore"), or count as absent but for those
        that are likely to be present ("select", see `hf_mlrpl.losses.unknown_weights`).
    likely_per_image: with "select", this many unknown labels per image are left out, on average over a batch.
    detach_focus: no gradient through the focusing factors, as in the authors' training.
    """

    gamma_positive: float = number("[0, 100]", 0.0)  # authors' scripts for COCO
    gamma_negative: float = number("[0, 100]", 4.0)
    clip: float = number("[0, 1)", 0.05)
    eps: float = number("(0, 1)", 1e-8)
    unknown: Unknown = "negative"
    likely_per_image: int = 5
    detach_focus: bool = True

    @property
    def needs_negatives(self) -> bool:
        return self.unknown == "ignore"


class AsymmetricObjective(Objective):
    """Base of the objectives that are an asymmetric loss, a mean over images of the sum over labels."""

    config: AsymmetricObjectiveConfig

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        logits = logits_of(model, batch["pixel_values"])  # (B, C)
        config, labels = self.config, batch["labels"]
        losses = asymmetric_loss(
            logits,
            labels.eq(POSITIVE),
            gamma_positive=config.gamma_positive,
            gamma_negative=config.gamma_negative,
            clip=config.clip,
            eps=config.eps,
            detach_focus=config.detach_focus,
        )
        losses = losses * unknown_weights(logits, labels, config.unknown, likely_per_image=config.likely_per_image)
        return sum_of_terms({"asymmetric": self.reduce(losses)}, logits=logits)

    def reduce(self, losses: Tensor) -> Tensor:
        """The loss of a batch from those of its entries, `(batch_size, num_labels)`."""
        return losses.sum(dim=1).mean()
