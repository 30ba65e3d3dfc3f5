"""Multi-Label Learning from Single Positive Labels (Cole et al., CVPR 2021), the method ROLE.

https://arxiv.org/abs/2106.09708
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.adam import adam

from ..data.images.training_images import TrainingImages
from ..distributed import gather_rows
from ..labels import NEGATIVE, POSITIVE, UNKNOWN
from ..losses import bounded_cross_entropy, bounded_log_loss, expected_positives_penalty
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..objective import CompletedLabels, Objective, ObjectiveOutput, logits_of, sum_of_terms
from ..schedules import Progress

# Authors' code: a known label starts at the score 0.995 or 0.005, an unknown one between 0.4 and 0.6.
KNOWN_LOGIT = math.log(0.995 / 0.005)
LARGEST_UNKNOWN_LOGIT = math.log(0.6 / 0.4)


@dataclass(frozen=True, kw_only=True)
class RoleObjectiveConfig:
    """Settings of ROLE.

    expected_positives: present labels of an image, on average.
    table_learning_rate: of Adam on the estimated labels; published: ten times that of the model.
    table_limit_gb: largest table, in gigabytes, that is made without a question.
    """

    expected_positives: float
    table_learning_rate: float = 1e-4
    table_limit_gb: float = 4.0


def initial_estimates(labels: Tensor, uniform: Tensor) -> Tensor:
    """Logits of the estimated labels before training.

    Args:
        labels: `(num_images, num_labels)` in {-1, 0, +1}.
        uniform: random numbers in [0, 1) of the same shape, for unknown labels.
    """
    return torch.where(labels.eq(UNKNOWN), LARGEST_UNKNOWN_LOGIT * (2 * uniform - 1), KNOWN_LOGIT * labels)


def role_loss(logits: Tensor, targets: Tensor, labels: Tensor, expected_positives: float) -> Tensor:
    """One half of the loss: `logits` learn known labels, the scores of `targets`, and how many labels are present.

    The model learns from the estimated labels with this loss, and the estimated labels from the model.

    Args:
        targets: the logits of the other side, which get no gradient.

    Returns:
        A scalar, half the mean over all entries, plus half the penalty.
    """
    known = bounded_log_loss(labels * logits).where(labels.ne(UNKNOWN), 0.0)
    cross_entropy = bounded_cross_entropy(logits, targets.detach().sigmoid())
    return ((known + cross_entropy).mean() + expected_positives_penalty(logits, expected_positives)) / 2


class RoleObjective(Objective):
    """Trains the model and a table of estimated labels together, each with the other as its target.

    The table has one logit for each image and label, and Adam has two more numbers for each: 12 bytes per entry, on
    every device and in every checkpoint. COCO needs 80 MB; ten million images with ten thousand labels, a terabyte.
    """

    config_class = RoleObjectiveConfig
    config: RoleObjectiveConfig
    estimates: Tensor
    first_moment: Tensor
    second_moment: Tensor
    step: Tensor

    def prepare(self, images: TrainingImages) -> None:
        labels = images.labels  # (N, C)
        gigabytes, limit = 12 * labels.numel() / 1e9, self.config.table_limit_gb
        if gigabytes > limit:
            raise ValueError(
                f"ROLE would need {gigabytes:.1f} GB on every device for its table of {labels.shape[0]} images and "
                f"{labels.shape[1]} labels; the limit is {limit:g}. Raise `objective.table_limit_gb`, or choose a "
                "method that remembers less."
            )
        uniform = torch.rand(labels.shape, generator=torch.Generator().manual_seed(images.seed))
        self.register_buffer("estimates", initial_estimates(labels, uniform))
        self.register_buffer("first_moment", torch.zeros(labels.shape))
        self.register_buffer("second_moment", torch.zeros(labels.shape))
        self.register_buffer("step", torch.zeros(()))

    def forward(
        self, model: MultiLabelPreTrainedModel, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        logits = logits_of(model, batch["pixel_values"])  # (B, C)
        labels, expected = batch["labels"], self.config.expected_positives
        estimates = self.remembered("estimates")[batch["index"]]  # a copy: the step below does not change it
        terms = {
            "model": role_loss(logits, estimates, labels, expected),
            "estimates": role_loss(estimates, logits, labels, expected),
        }
        self.learn(batch["index"], logits.detach(), labels)
        return sum_of_terms(terms, logits=logits)

    def completed_labels(self, labels: Tensor) -> CompletedLabels:
        """The estimated labels, and the larger one of the probabilities that a label is present or absent."""
        unknown, scores = labels.eq(UNKNOWN), self.remembered("estimates").sigmoid().to(labels.device)
        estimated = torch.where(scores > 0.5, POSITIVE, NEGATIVE).to(labels)
        return CompletedLabels(estimated.where(unknown, labels), torch.maximum(scores, 1 - scores).where(unknown, 1.0))

    @torch.no_grad()
    def learn(self, index: Tensor, logits: Tensor, labels: Tensor) -> None:
        """One step of Adam on the estimated labels, with the gradient of the images of all processes.

        As published, every step moves the whole table: rows outside of the batch go on by their momentum.
        """
        index, logits, labels = gather_rows(index), gather_rows(logits), gather_rows(labels)
        with torch.enable_grad():
            rows = self.estimates[index].requires_grad_()
            loss = role_loss(rows, logits, labels, self.config.expected_positives)
        (gradient,) = torch.autograd.grad(loss, rows)
        adam(
            [self.estimates],
            [torch.zeros_like(self.estimates).index_add_(0, index, gradient)],
            [self.first_moment],
            [self.second_moment],
            [],
            [self.step],
            fused=True,  # one pass over the table; and the step stays on its device
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.config.table_learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
