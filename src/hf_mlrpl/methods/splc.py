"""Simple and Robust Loss Design for Multi-Label Learning with Missing Labels (Zhang et al., 2021), the loss SPLC.

https://arxiv.org/abs/2112.07368
"""

from dataclasses import dataclass

from torch import Tensor

from ..losses import corrected_labels, focal_margin_loss
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import Objective, ObjectiveOutput, logits_of, sum_of_terms
from ..ranges import number
from ..schedules import Progress


@dataclass(frozen=True, kw_only=True)
class SplcObjectiveConfig:
    """Settings of SPLC.

    threshold: score from which an unknown label is corrected to present, `tau`.
    correction_epoch: index of the first epoch with corrections.
    margin: subtracted from the logits of labels that are known to be present.
    gamma: exponent of the focusing factor; 0 is plain BCE.
    """

    threshold: float = number("[0, 1]", 0.6)  # authors' code
    correction_epoch: int = 1
    margin: float = number("[-100, 100]", 1.0)
    gamma: float = number("[0, 100]", 2.0)

    @property
    def begins(self) -> dict[str, tuple[int, str]]:
        return {"correction_epoch": (self.correction_epoch, "corrections")}


class SplcObjective(Objective):
    """Self-paced loss correction, a mean over images of the sum over labels; what is corrected is not remembered."""

    config_class = SplcObjectiveConfig
    config: SplcObjectiveConfig

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        logits = logits_of(model, batch["pixel_values"])  # (B, C)
        config, labels = self.config, batch["labels"]
        pseudo_labels = {}
        if progress.epoch >= config.correction_epoch:
            pseudo_labels["corrected"] = corrected_labels(logits, labels, config.threshold)
        corrected = pseudo_labels.get("corrected", labels)
        losses = focal_margin_loss(logits, labels, corrected, config.margin, config.gamma)
        terms = {"focal": losses.sum(dim=1).mean()}
        return sum_of_terms(terms, logits=logits, pseudo_labels=pseudo_labels)
