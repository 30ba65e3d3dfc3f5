"""Objective of DualCoOp: an asymmetric loss over the known labels."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from ...data.images.training_images import TrainingImages
from ...labels import POSITIVE, UNKNOWN
from ...losses import asymmetric_loss
from ...models.configuration_utils import MultiLabelConfig
from ...models.modeling_utils import MultiLabelPreTrainedModel
from ...objective import Objective, ObjectiveOutput, ShortBatches, logits_of, sum_of_terms
from ...ranges import number
from ...schedules import Progress


@dataclass(frozen=True, kw_only=True)
class DualCoOpObjectiveConfig:
    """Settings of DualCoOp's asymmetric loss.

    gamma_positive, gamma_negative: exponents of the focusing factors of present and absent labels.
    clip: probabilities of absent labels are lowered by it, not below 0.
    eps: smallest probability in a logarithm; 1e-8 in the code of DualCoOp++.
    loss_weight: factor of the loss; it matters for SGD. The authors have 0.03 for COCO with half of the labels known,
        of a sum over 32 images, which is 0.96 here, and more for fewer known labels.
    balance: "known" divides `loss_weight` by twice the known proportion of the training labels, so that it is that for
        half of them, and more for fewer: our reading of the authors, who give one number; "none" takes it as it is.
    short_batches: the last batch of an epoch has fewer images. "published": it weighs less, as in the authors' sum
        over the batch; "mean": its images weigh more.
    """

    gamma_positive: float = number("[0, 100]", 1.0)
    gamma_negative: float = number("[0, 100]", 2.0)
    clip: float = number("[0, 1)", 0.05)
    eps: float = number("(0, 0.1]", 1e-6)
    loss_weight: float = number("(0, 1e6]", 1.0)
    balance: Literal["none", "known"] = "none"
    short_batches: ShortBatches = "published"

    needs_negatives: ClassVar[bool] = True


def dual_prompt_loss(logits: Tensor, labels: Tensor, config: DualCoOpObjectiveConfig) -> Tensor:
    """Asymmetric loss of every entry, 0 where unknown; no gradient through the focusing factors, as published.

    Args:
        logits: those of the positive minus those of the negative prompts, so that their sigmoid is the softmax of the
            two.
    """
    losses = asymmetric_loss(
        logits,
        labels.eq(POSITIVE),
        gamma_positive=config.gamma_positive,
        gamma_negative=config.gamma_negative,
        clip=config.clip,
        eps=config.eps,
        detach_focus=True,
    )
    return losses.masked_fill(labels.eq(UNKNOWN), 0)


class DualCoOpObjective(Objective):
    """A mean over images of the sum over labels; the authors' sum over the batch is this times the size of a full one.

    Attributes:
        loss_weight: that of the config, balanced.
    """

    config_class = DualCoOpObjectiveConfig
    config: DualCoOpObjectiveConfig

    def __init__(self, config: DualCoOpObjectiveConfig, model_config: MultiLabelConfig):
        super().__init__(config, model_config)
        self.loss_weight = config.loss_weight

    def prepare(self, images: TrainingImages) -> None:
        known = images.labels.ne(UNKNOWN).double().mean().item()
        if self.config.balance == "known" and known:
            self.loss_weight = self.config.loss_weight * 0.5 / known

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        logits = logits_of(model, batch["pixel_values"])  # (B, C)
        losses = dual_prompt_loss(logits, batch["labels"], self.config)
        terms = {"known": self.loss_weight * losses.sum(dim=1).mean()}
        return sum_of_terms(self.weigh_short_batch(terms, len(losses), self.config.short_batches), logits=logits)
