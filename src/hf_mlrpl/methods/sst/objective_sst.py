"""Objective of SST. Equation numbers are those of the AAAI 2022 paper."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.images.training_images import TrainingImages
from ...distributed import gather_rows
from ...labels import POSITIVE, UNKNOWN
from ...losses import (
    COSINE_EPS,
    PairSampling,
    Reduction,
    UnknownInSimilarity,
    at_least_float32,
    partial_bce,
    similarity_loss,
)
from ...objective import Objective, ObjectiveOutput, sum_of_terms
from ...ranges import number
from ...schedules import Progress, Ramp, StepDown
from ..semantic_transfer import PairForm, cooccurrence_loss, cooccurrence_matrix, cooccurrence_votes, mean_similarity
from .configuration_sst import SstConfig
from .modeling_sst import SstForMultiLabelClassification


@dataclass(frozen=True, kw_only=True)
class SstObjectiveConfig:
    """Weights and rules; a weight of 0 switches a term off. Each row of the ablation table is a choice of weights.

    intra_weight, cross_weight: weights of partial BCE against the labels completed inside an image and across images.
    cooccurrence_weight: weight of the loss of the co-occurrence head, `lambda_1` of Eq. 11.
    similarity_weight: weight of the loss on similarities across images, `lambda_2` of Eq. 11.
    intra_threshold, cross_threshold: `theta_intra` and `theta_cross`, over the epochs.
    ramp: factor of the two last losses in the first epochs (authors' code, not in the paper).
    cooccurrence: "learned" by the head, or "statistical", the label graph of the training set (row "IST w/ stat").
    vote: "mean" over the known positives (authors' code) or "sum" (paper, Eq. 2).
    unknown_pairs: in the co-occurrence loss, a pair with an unknown label counts as one whose labels do not occur
        together ("negative", authors' code), or is left out ("ignore").
    cooccurrence_form: of the co-occurrence loss, the asymmetric loss with its shift inside the logarithm, too
        ("published", authors' code), or Eq. 4 as printed ("paper").
    cooccurrence_reduction, similarity_reduction: "mean" over the pairs (authors' code), or their "sum" (Eq. 3, Eq. 7).
    bank_size: representations remembered per label.
    empty_slots: an empty slot of the bank counts as similarity 0 ("zero", authors' code) or not at all ("ignore").
    pair_sampling: similarity loss over a sample of the pairs of images that do not both show the label ("published",
        authors' code) or over "all".
    unknown_in_similarity: in the similarity loss, an unknown label leaves the pair out ("ignore", authors' code) or
        counts as "absent" (paper, Eq. 8).
    reduction: of partial BCE, see `hf_mlrpl.losses.partial_bce`.
    """

    intra_weight: float = 1.0
    cross_weight: float = 1.0
    cooccurrence_weight: float = 10.0  # "Implementation Details"
    similarity_weight: float = 0.05  # "Implementation Details"
    intra_threshold: StepDown = field(default_factory=StepDown)
    cross_threshold: StepDown = field(default_factory=StepDown)
    ramp: Ramp = field(default_factory=Ramp)
    cooccurrence: Literal["learned", "statistical"] = "learned"
    vote: Literal["mean", "sum"] = "mean"
    unknown_pairs: Literal["negative", "ignore"] = "negative"
    bank_size: int = number("[1, 1e6]", 100)  # authors' code
    cooccurrence_form: PairForm = "published"
    cooccurrence_reduction: Literal["mean", "sum"] = "mean"
    similarity_reduction: Literal["mean", "sum"] = "mean"
    empty_slots: Literal["zero", "ignore"] = "zero"
    pair_sampling: PairSampling = "published"
    unknown_in_similarity: UnknownInSimilarity = "ignore"
    reduction: Reduction = "micro"

    needs_negatives: ClassVar[bool] = True
    own_network_settings: ClassVar[tuple[str, ...]] = ("intra_weight", "cooccurrence_weight")

    @property
    def begins(self) -> dict[str, tuple[int, str]]:
        rules = {
            "intra": (self.intra_weight, self.intra_threshold, "labels completed inside an image"),
            "cross": (self.cross_weight, self.cross_threshold, "labels completed across images"),
        }
        return {
            f"{rule}_threshold.start_epoch": (threshold.start_epoch, what)
            for rule, (weight, threshold, what) in rules.items()
            if weight
        }


def intra_image_pseudo_labels(
    cooccurrence: Tensor, labels: Tensor, threshold: float, vote: Literal["mean", "sum"] = "mean"
) -> Tensor:
    """Labels completed from the known positives of the same image (Eq. 2).

    Differs from the paper, follows the authors' code: the sum is divided by the number of known positives. With the
    sum, two positives at 0.5 each already pass the threshold of 0.95.

    Args:
        cooccurrence: `(batch_size, num_labels, num_labels)`, or one matrix for all images; entry (i, j) is the
            evidence that j gives for i.
        labels: `(batch_size, num_labels)` in {-1, 0, +1}.
        threshold: evidence from which an unknown label becomes positive; 1 or more selects nothing.

    Returns:
        `labels` with some zeros turned into ones.
    """
    return _complete(labels, cooccurrence_votes(cooccurrence, labels, vote), threshold)


def cross_image_pseudo_labels(representations: Tensor, centers: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Labels completed from the similarity to images that are known to show the label (Eq. 5, Eq. 6).

    Args:
        representations: `(batch_size, num_labels, dim)`.
        centers: `(num_labels, dim)`, the mean of the unit vectors that are remembered of each label.
        labels: `(batch_size, num_labels)` in {-1, 0, +1}.
        threshold: mean similarity from which an unknown label becomes positive; 1 or more selects nothing.

    Returns:
        `labels` with some zeros turned into ones.
    """
    return _complete(labels, mean_similarity(representations, centers), threshold)


def _complete(labels: Tensor, evidence: Tensor, threshold: float) -> Tensor:
    selected = (
        labels.eq(UNKNOWN) & (evidence >= threshold) if threshold < 1 else torch.zeros_like(labels, dtype=torch.bool)
    )
    return labels.masked_fill(selected, POSITIVE)


class SstObjective(Objective):
    """Sum of five terms (Eq. 10, Eq. 11); remembers `bank_size` representations per label.

    Attributes:
        bank: `(num_labels, bank_size + 1, representation_dim)`, for each label a ring in which new vectors take the
            place of the oldest. The last slot takes what is not to be remembered and stays zero.
        bank_rows: `(num_labels, bank_size + 1)`, the training image that each vector comes from; -1 where unknown.
        bank_sums: `(num_labels, representation_dim)`, the sum of the vectors of each ring, each at length 1.
        num_remembered: `(num_labels,)`, how many vectors have ever been put into each ring.
        most_positives: no training image is known to show more labels.
    """

    config_class = SstObjectiveConfig
    pictures = {kind: f".methods.sst.pictures:{kind}" for kind in ("cooccurrence", "similarities")}
    config: SstObjectiveConfig
    bank: Tensor
    bank_rows: Tensor
    bank_sums: Tensor
    num_remembered: Tensor

    def __init__(self, config: SstObjectiveConfig, model_config: SstConfig):
        super().__init__(config, model_config)
        num_labels, dim = model_config.num_labels, model_config.label_vector_dim()
        self.register_buffer("bank", torch.zeros(num_labels, config.bank_size + 1, dim))
        self.register_buffer("bank_rows", torch.full((num_labels, config.bank_size + 1), -1))
        self.register_buffer("bank_sums", torch.zeros(num_labels, dim))
        self.register_buffer("num_remembered", torch.zeros(num_labels, dtype=torch.int64))
        self.most_positives = num_labels

    def prepare(self, images: TrainingImages) -> None:
        self.most_positives = int(images.labels.eq(POSITIVE).sum(dim=1).max())

    def forward(
        self, model: SstForMultiLabelClassification, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        representations, _ = model.represent(model.encode(batch["pixel_values"]))  # (B, C, D)
        logits = at_least_float32(model.classify(representations))  # (B, C)
        pair_logits = model.cooccurrence_head(representations) if self.needs_cooccurrence_head else None
        with torch.autocast(logits.device.type, enabled=False):  # similarities and votes meet thresholds
            representations = at_least_float32(representations)
            rows = batch.get("index")
            return self.losses(model, representations, logits, pair_logits, batch["labels"], progress, rows)

    def losses(
        self,
        model: SstForMultiLabelClassification,
        representations: Tensor,
        logits: Tensor,
        pair_logits: Tensor | None,
        labels: Tensor,
        progress: Progress,
        rows: Tensor | None = None,
    ) -> ObjectiveOutput:
        """The five terms; `rows` are those of the images in the training set, where the bank shall know them."""
        config = self.config
        if config.cross_weight:
            self.remember(representations, labels, rows)

        ramp = config.ramp(progress)
        thresholds = {"intra": config.intra_threshold(progress), "cross": config.cross_threshold(progress)}
        pseudo_labels = self.complete(model, representations, pair_logits, labels, thresholds)
        terms = {"known": partial_bce(logits, labels, config.reduction)}  # Eq. 9
        for name, completed in pseudo_labels.items():  # Eq. 10
            weight = getattr(config, f"{name}_weight")
            terms[name] = weight * partial_bce(logits, completed, config.reduction)
        if config.cooccurrence_weight and pair_logits is not None:
            loss = cooccurrence_loss(
                pair_logits, labels, config.unknown_pairs, config.cooccurrence_form, config.cooccurrence_reduction
            )
            terms["cooccurrence"] = config.cooccurrence_weight * ramp * loss
        if config.similarity_weight:
            rules = config.pair_sampling, config.unknown_in_similarity, config.similarity_reduction
            loss = similarity_loss(representations, labels, *rules)
            terms["similarity"] = config.similarity_weight * ramp * loss
        logs = {f"threshold_{name}": value for name, value in thresholds.items() if name in pseudo_labels}
        return sum_of_terms(terms, logits=logits, pseudo_labels=pseudo_labels, logs=logs)  # Eq. 11

    def reached_beside_logits(self) -> tuple[str, ...]:
        has_pairs = len(self.bank) > 1
        return ("cooccurrence_head.",) if self.config.cooccurrence_weight and has_pairs else ()

    @property
    def needs_cooccurrence_head(self) -> bool:
        learned_votes = self.config.intra_weight and self.config.cooccurrence == "learned"
        return bool(learned_votes or self.config.cooccurrence_weight)

    @torch.no_grad()
    def complete(
        self,
        model: SstForMultiLabelClassification,
        representations: Tensor,
        pair_logits: Tensor | None,
        labels: Tensor,
        thresholds: dict[str, float],
    ) -> dict[str, Tensor]:
        """Pseudo-labels of the rules that are switched on and have a threshold in this epoch."""
        config, completed = self.config, {}
        if config.intra_weight and thresholds["intra"] < math.inf:
            if config.cooccurrence == "learned" and pair_logits is not None:
                cooccurrence = cooccurrence_matrix(pair_logits, labels.shape[1])
            else:  # entry (i, j) of the graph is P(j | i); j votes for i with P(i | j)
                cooccurrence = model.label_graph.t()
            completed["intra"] = intra_image_pseudo_labels(cooccurrence, labels, thresholds["intra"], config.vote)
        if config.cross_weight and thresholds["cross"] < math.inf:
            completed["cross"] = cross_image_pseudo_labels(
                representations, self.centers(), labels, thresholds["cross"]
            )
        return completed

    @torch.no_grad()
    def remember(self, representations: Tensor, labels: Tensor, rows: Tensor | None = None) -> None:
        """Put the known positives of all processes into the bank, in the place of the oldest.

        Of several positives of one label the first counts as the newest, as in the authors' code, which puts the batch
        in front of its bank as it is. All sizes follow from that of the batch, so the host never waits for labels.
        """
        size = len(labels) * self.most_positives
        images, columns = labels.eq(POSITIVE).nonzero_static(size=size).unbind(dim=1)  # -1 behind the last
        vectors = gather_rows(representations.detach()[images, columns].to(self.bank.dtype))  # (E, D)
        sources = torch.full_like(images, -1) if rows is None else rows[images]
        columns, sources = gather_rows(torch.stack([columns, sources], dim=1)).unbind(dim=1)

        mine = columns.unsqueeze(1) == torch.arange(len(self.bank), device=columns.device)  # (E, C)
        num_new = mine.sum(dim=0)
        age = (mine.cumsum(dim=0) * mine).sum(dim=1) - 1  # 0 for the newest of its label, -1 for none
        bank_size = self.config.bank_size
        kept = (age >= 0) & (age < bank_size)
        slots = (self.num_remembered + num_new)[columns] - 1 - age
        slots = (slots % bank_size).where(kept, bank_size)
        vectors = vectors.where(kept.unsqueeze(1), 0.0)

        change = F.normalize(vectors, dim=-1, eps=COSINE_EPS)
        change -= F.normalize(self.bank[columns, slots], dim=-1, eps=COSINE_EPS)
        self.bank_sums.index_add_(0, columns % len(self.bank), change)
        self.bank[columns, slots] = vectors
        self.bank_rows[columns, slots] = sources.where(kept, -1)
        self.num_remembered += num_new

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Those of earlier versions do not know which images the bank comes from."""
        state_dict.setdefault(f"{prefix}bank_rows", self.bank_rows)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def centers(self) -> Tensor:
        """The mean of the remembered unit vectors of each label, `(num_labels, representation_dim)`."""
        bank_size = self.config.bank_size
        if self.config.empty_slots == "zero":
            return self.bank_sums / bank_size
        return self.bank_sums / self.num_remembered.clamp(1, bank_size).unsqueeze(1)
