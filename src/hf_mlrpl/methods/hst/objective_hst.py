"""Objective of HST: labels are completed from co-occurrence and from prototypes, above thresholds that are learned."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

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
from ...objective import ObjectiveOutput, sum_of_terms
from ...ranges import number
from ...schedules import Progress, Ramp
from ..prototype_objective import PrototypeObjective
from ..semantic_transfer import cooccurrence_loss, cooccurrence_matrix, cooccurrence_votes, mean_similarity
from .configuration_hst import HstConfig
from .modeling_hst import HstForMultiLabelClassification


@dataclass(frozen=True, kw_only=True)
class HstObjectiveConfig:
    """Weights and rules, as in the authors' code; a weight of 0 switches a term off.

    intra_weight, cross_weight: weights of partial BCE against the labels completed inside an image and across images.
    intra_threshold_weight, cross_threshold_weight: weights of the losses that move the thresholds.
    cooccurrence_weight: weight of the loss of the co-occurrence head.
    similarity_weight: weight of the loss on similarities across images.
    prototype_weight: weight of the loss on similarities to prototypes.
    ramp: factor of the co-occurrence and similarity losses in the first epochs.
    start_epoch: first epoch that completes labels, with prototypes; epochs count from 0.
    num_prototypes: prototypes of each label.
    prototype_interval: epochs after which the prototypes are made again.
    kmeans_starts: how often k-means starts for each label; the tightest clusters count. Authors' code: 10.
    prototype_memory: GiB of representations that a process keeps in memory for k-means; more go to a temporary file.
    prototype_loss: a present label comes closer to its prototypes and an absent one goes away ("attract"), or the
        other way around ("repel", authors' code, where the sign is wrong).
    vote, unknown_pairs: as for SST.
    pair_sampling, unknown_in_similarity: of the similarity loss, see `hf_mlrpl.losses.similarity_loss`.
    reduction: of partial BCE, see `hf_mlrpl.losses.partial_bce`.
    """

    intra_weight: float = 1.0
    cross_weight: float = 1.0
    intra_threshold_weight: float = 0.1
    cross_threshold_weight: float = 0.1
    cooccurrence_weight: float = 10.0
    similarity_weight: float = 0.05
    prototype_weight: float = 0.05
    ramp: Ramp = field(default_factory=Ramp)
    start_epoch: int = 5
    num_prototypes: int = number("[1, 1e6]", 10)
    prototype_interval: int = number("[1, 1e6]", 5)
    kmeans_starts: int = number("[1, 1e6]", 1)
    prototype_memory: float = 8.0
    prototype_loss: Literal["attract", "repel"] = "attract"
    vote: Literal["mean", "sum"] = "mean"
    unknown_pairs: Literal["negative", "ignore"] = "negative"
    pair_sampling: PairSampling = "published"
    unknown_in_similarity: UnknownInSimilarity = "ignore"
    reduction: Reduction = "micro"

    needs_negatives: ClassVar[bool] = True
    own_network_settings: ClassVar[tuple[str, ...]] = (
        "intra_weight",
        "cross_weight",
        "intra_threshold_weight",
        "cross_threshold_weight",
        "cooccurrence_weight",
    )

    @property
    def begins(self) -> dict[str, tuple[int, str]]:
        return {"start_epoch": (self.start_epoch, "completed labels")}


def excess(evidence: Tensor, threshold: Tensor) -> Tensor:
    """How far evidence is above a threshold, in [0, 1].

    Gradients reach both where the result lies strictly between 0 and 1. What `clamp` gives at the ends depends on the
    version of torch, and evidence of exactly 1 meets a threshold of 1 at the start.
    """
    above = evidence - threshold
    return torch.where((above > 0) & (above < 1), above, above.detach().clamp(0, 1))


def prototype_loss(similarity: Tensor, labels: Tensor, form: Literal["attract", "repel"] = "attract") -> Tensor:
    """Loss on the similarity of known labels to their prototypes, a mean over all images and labels.

    Args:
        similarity: `(batch_size, num_labels)`, mean cosine to the prototypes.
        labels: `(batch_size, num_labels)` in {-1, 0, +1}.
        form: present labels come closer and absent ones go away ("attract"), or the other way around ("repel",
            authors' code, where unknown labels add a constant 1).
    """
    if form == "repel":
        return (1 + labels * similarity).mean()
    return (1 - labels * similarity).where(labels.ne(UNKNOWN), 0.0).mean()


class HstObjective(PrototypeObjective):
    """Sum of up to eight terms; remembers prototypes of each label."""

    config_class = HstObjectiveConfig
    config: HstObjectiveConfig

    def __init__(self, config: HstObjectiveConfig, model_config: HstConfig):
        used = config.cross_weight or config.cross_threshold_weight or config.prototype_weight
        super().__init__(config, model_config, config.num_prototypes if used else 0)

    def forward(
        self, model: HstForMultiLabelClassification, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        representations, _ = model.represent(model.encode(batch["pixel_values"]))  # (B, C, D)
        logits = at_least_float32(model.classify(representations))  # (B, C)
        pair_logits = model.cooccurrence_head(representations) if self.needs_cooccurrence_head else None
        with torch.autocast(logits.device.type, enabled=False):  # similarities and votes meet thresholds
            representations = at_least_float32(representations)
            return self.losses(model, representations, logits, pair_logits, batch["labels"], progress)

    def losses(
        self,
        model: HstForMultiLabelClassification,
        representations: Tensor,
        logits: Tensor,
        pair_logits: Tensor | None,
        labels: Tensor,
        progress: Progress,
    ) -> ObjectiveOutput:
        config, ramp = self.config, self.config.ramp(progress)
        terms = {"known": partial_bce(logits, labels, config.reduction)}
        completed: dict[str, Tensor] = {}
        logs: dict[str, Tensor | float] = {}
        if progress.epoch >= config.start_epoch:
            for name, evidence in self.evidence(representations, pair_logits, labels).items():
                threshold = getattr(model.thresholds, name)
                above = excess(evidence, threshold)  # (B, C)
                completed[name] = labels.masked_fill(labels.eq(UNKNOWN) & (above > 0), POSITIVE)
                terms |= self.completion_terms(name, above, logits, labels, completed[name])
                logs[f"threshold_{name}"] = threshold.detach().clone()
            if config.prototype_weight:
                loss = prototype_loss(self.similarity(representations), labels, config.prototype_loss)
                terms["prototype"] = config.prototype_weight * loss
        elif "prototypes" in self._buffers:
            self.remembered("prototypes")  # else the lack of them would show when labels are completed
        if config.cooccurrence_weight and pair_logits is not None:
            loss = cooccurrence_loss(pair_logits, labels, config.unknown_pairs)
            terms["cooccurrence"] = config.cooccurrence_weight * ramp * loss
        if config.similarity_weight:
            loss = similarity_loss(representations, labels, config.pair_sampling, config.unknown_in_similarity)
            terms["similarity"] = config.similarity_weight * ramp * loss
        return sum_of_terms(terms, logits=logits, pseudo_labels=completed, logs=logs)

    @property
    def needs_cooccurrence_head(self) -> bool:
        return bool(self.needs_votes or self.config.cooccurrence_weight)

    @property
    def needs_votes(self) -> bool:
        return bool(self.config.intra_weight or self.config.intra_threshold_weight)

    def evidence(self, representations: Tensor, pair_logits: Tensor | None, labels: Tensor) -> dict[str, Tensor]:
        """Evidence of the rules that are switched on, `(batch_size, num_labels)` each: votes, and similarities."""
        config, evidence = self.config, {}
        if self.needs_votes and pair_logits is not None:
            matrix = cooccurrence_matrix(pair_logits, labels.shape[1])
            evidence["intra"] = cooccurrence_votes(matrix, labels, config.vote)
        if config.cross_weight or config.cross_threshold_weight:
            evidence["cross"] = self.similarity(representations)
        return evidence

    def similarity(self, representations: Tensor) -> Tensor:
        """Mean cosine to the prototypes of each label, `(batch_size, num_labels)`; 0 for a label without."""
        unit = F.normalize(self.remembered("prototypes"), dim=-1, eps=COSINE_EPS)
        return mean_similarity(representations, unit.mean(dim=1))

    def completion_terms(
        self, name: str, above: Tensor, logits: Tensor, labels: Tensor, completed: Tensor
    ) -> dict[str, Tensor]:
        """Partial BCE against completed labels; and differential threshold learning, where what evidence has above
        the threshold is the logit of the known labels."""
        config, terms = self.config, {}
        if weight := getattr(config, f"{name}_weight"):
            terms[name] = weight * partial_bce(logits, completed, config.reduction)
        if weight := getattr(config, f"{name}_threshold_weight"):
            terms[f"threshold_{name}"] = weight * partial_bce(above, labels, config.reduction)
        return terms
