"""Objective of SCPNet: corrected labels, consistency of two views, and distillation of calibrated scores."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.images.training_images import TrainingImages
from ...distributed import gather_rows
from ...labels import POSITIVE, UNKNOWN
from ...losses import corrected_labels, focal_margin_loss
from ...objective import (
    CompletedLabels,
    Objective,
    ObjectiveOutput,
    ShortBatches,
    check_views,
    logits_of,
    sum_of_terms,
)
from ...ranges import number
from ...schedules import Progress
from .configuration_scpnet import ScpnetConfig
from .modeling_scpnet import ScpnetForMultiLabelClassification
from .selection import pack, unpack, update_selection

_LOWEST_LOG = math.log(1e-8)


@dataclass(frozen=True, kw_only=True)
class ScpnetObjectiveConfig:
    """Defaults are those of COCO; a weight of 0 switches a term off, and with both at 0 no further view is needed.

    consistency_weight: of the loss of the strong view on pseudo-labels from the weak one, `lambda_cst`.
    distillation_weight: of its loss on the calibrated scores of the weak one, `lambda_dstl`; 1/4 for VOC, 3/8 for CUB.
    num_candidates: so many labels of an image, those with the highest scores in the weak view, may become
        pseudo-labels.
    candidate_threshold: the score that they need for it. Labels that were selected for fewer images than others need
        less, see `label_thresholds`.
    mask_consistency, mask_distillation: leave images without a sure candidate out of the loss (authors' code, not in
        the paper).
    select_known: labels that are known to be present are pseudo-labels, too (authors' code), or only sure candidates.
    short_batches: the last batch of an epoch has fewer images. "published": it weighs less, as in the authors' sum
        over the batch; "mean": its images weigh more.
    known_negatives: a label that is known to be absent is absent ("use"), or counts as unknown ("merge", as in the
        published single-positive setting, which has none).
    correction_threshold, correction_epoch, margin, gamma: of the loss on the labels, see
        `hf_mlrpl.methods.splc.SplcObjectiveConfig`.
    """

    consistency_weight: float = 1 / 8
    distillation_weight: float = 1 / 8
    num_candidates: int = number("[1, 1e6]", 2)
    candidate_threshold: float = number("(0, 1]", 0.95)
    mask_consistency: bool = True
    mask_distillation: bool = True
    select_known: bool = True
    short_batches: ShortBatches = "published"
    known_negatives: Literal["use", "merge"] = "use"
    correction_threshold: float = number("[0, 1]", 0.6)
    correction_epoch: int = 1
    margin: float = number("[-100, 100]", 1.0)
    gamma: float = number("[0, 100]", 2.0)

    @property
    def begins(self) -> dict[str, tuple[int, str]]:
        return {"correction_epoch": (self.correction_epoch, "corrections")}

    @property
    def needed_views(self) -> dict[str, str]:
        """Views that are compared, see `hf_mlrpl.objective.check_views`."""
        return {"weak": "weak", "strong": "strong"} if self.consistency_weight or self.distillation_weight else {}


class Selection(NamedTuple):
    """Targets of a batch from the scores of its weak view.

    labels: `(batch_size, num_labels)` booleans: known positives, and candidates that reach their threshold.
    is_sure: `(batch_size,)` booleans, whether any candidate of the image reaches its threshold.
    """

    labels: Tensor
    is_sure: Tensor


def label_thresholds(counts: Tensor, num_images: int, num_candidates: int, threshold: float) -> Tensor:
    """The score that a candidate needs to become a pseudo-label, lower for labels that are selected less often.

    As in FlexMatch (Zhang et al., NeurIPS 2021), where the images that are not selected yet count as a label, too.

    Args:
        counts: `(num_labels,)`, how many images are selected with each label.
        num_candidates: of each image.
        threshold: of a label that is selected as often as any other.

    Returns:
        `(num_labels,)` float64.
    """
    not_selected = num_candidates * num_images - counts.sum()
    share = counts.double() / torch.maximum(counts.max(), not_selected)
    share = share.clamp(min=1 / len(counts))
    return threshold * share / (2 - share)


def select_labels(scores: Tensor, labels: Tensor, thresholds: Tensor, num_candidates: int) -> Selection:
    """The candidates of each image that reach their threshold and are not known to be absent, and the known positives.

    Args:
        scores: `(batch_size, num_labels)` of the weak view.
        labels: `(batch_size, num_labels)` in {-1, 0, +1}.
        thresholds: `(num_labels,)`.
        num_candidates: labels with the highest scores of an image.
    """
    candidates = scores.topk(min(num_candidates, scores.shape[1])).indices
    is_candidate = torch.zeros_like(labels, dtype=torch.bool).scatter_(1, candidates, True)
    sure = is_candidate & (scores >= thresholds.to(scores.dtype)) & labels.ge(0)
    return Selection(sure | labels.eq(POSITIVE), sure.any(dim=1))


def soft_bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of each image, `(batch_size,)`, summed over labels; no logarithm is below that of 1e-8."""
    present, absent = F.logsigmoid(logits), F.logsigmoid(-logits)
    losses = targets * present.clamp(min=_LOWEST_LOG) + (1 - targets) * absent.clamp(min=_LOWEST_LOG)
    return -losses.sum(dim=1)


class ScpnetObjective(Objective):
    """Means over images of sums over labels; the authors sum over the batch, too: the published loss is ours times the
    size of a full batch. Remembers which labels every image was last selected with.

    Attributes:
        selected: `(num_images, ceil(num_labels / 8))` bytes, see `hf_mlrpl.methods.scpnet.selection`.
        counts: `(num_labels,)`, how many images are selected with each label.
    """

    config_class = ScpnetObjectiveConfig
    config: ScpnetObjectiveConfig
    selected: Tensor
    counts: Tensor

    def __init__(self, config: ScpnetObjectiveConfig, model_config: ScpnetConfig):
        super().__init__(config, model_config)
        self.num_labels = model_config.num_labels

    def prepare(self, images: TrainingImages) -> None:
        if self.config.needed_views:
            self.register_buffer("selected", torch.zeros(len(images), -(-self.num_labels // 8), dtype=torch.uint8))
            self.register_buffer("counts", torch.zeros(self.num_labels, dtype=torch.int64))

    def forward(
        self, model: ScpnetForMultiLabelClassification, batch: dict[str, Tensor], progress: Progress
    ) -> ObjectiveOutput:
        config, labels = self.config, batch["labels"]
        check_views(config, batch)
        if config.known_negatives == "merge":
            labels = labels.clamp(min=0)
        views = [batch["pixel_values"], *(batch[name] for name in config.needed_views)]
        # One forward pass of 3B images: batch norm sees all of them, as published.
        logits, *others = logits_of(model, torch.cat(views)).split(len(labels))

        pseudo_labels = {}
        if progress.epoch >= config.correction_epoch:
            pseudo_labels["corrected"] = corrected_labels(logits, labels, config.correction_threshold)
        corrected = pseudo_labels.get("corrected", labels)
        losses = focal_margin_loss(logits, labels, corrected, config.margin, config.gamma)
        terms, logs = {"classification": losses.sum(dim=1).mean()}, {}
        if others:
            weak_scores, strong_logits = others[0].detach().sigmoid(), others[1]
            thresholds = self.thresholds()
            selection = select_labels(weak_scores, labels, thresholds, config.num_candidates)
            if not config.select_known:
                selection = selection._replace(labels=selection.labels & labels.le(0))
            self.remember(batch["index"], selection.labels)
            terms |= self.terms_of_views(model, weak_scores, strong_logits, selection)
            pseudo_labels["selected"] = torch.where(selection.labels, 1, labels)
            logs = {"threshold": thresholds.mean(), "sure_images": selection.is_sure.double().mean()}
        terms = self.weigh_short_batch(terms, len(labels), config.short_batches)
        return sum_of_terms(terms, logits=logits, logs=logs, pseudo_labels=pseudo_labels)

    def thresholds(self) -> Tensor:
        """The present threshold of every label."""
        config, selected = self.config, self.remembered("selected")
        num_candidates = min(config.num_candidates, self.num_labels)
        return label_thresholds(self.counts, len(selected), num_candidates, config.candidate_threshold)

    def terms_of_views(
        self,
        model: ScpnetForMultiLabelClassification,
        weak_scores: Tensor,
        strong_logits: Tensor,
        selection: Selection,
    ) -> dict[str, Tensor]:
        """The losses of the strong view on what the weak one says; images that are not sure count as 0 in a mean."""
        config, terms = self.config, {}
        if config.consistency_weight:
            losses = soft_bce(strong_logits, selection.labels.to(strong_logits.dtype))
            if config.mask_consistency:
                losses = losses.where(selection.is_sure, 0)
            terms["consistency"] = config.consistency_weight * losses.mean()
        if config.distillation_weight:
            with torch.autocast(weak_scores.device.type, enabled=False):
                calibrated = weak_scores @ model.calibration().to(weak_scores.dtype).T
            losses = soft_bce(strong_logits, calibrated)
            if config.mask_distillation:
                losses = losses.where(selection.is_sure, 0)
            terms["distillation"] = config.distillation_weight * losses.mean()
        return terms

    def completed_labels(self, labels: Tensor) -> CompletedLabels | None:
        """With the labels that each image was last selected with; the corrected ones are not remembered."""
        if not self.config.needed_views:
            return None
        selected = unpack(self.remembered("selected"), self.num_labels).to(labels.device)
        return CompletedLabels(labels.masked_fill(labels.eq(UNKNOWN) & selected, POSITIVE))

    def remember(self, index: Tensor, selected: Tensor) -> None:
        """Note what the images of all processes are selected with."""
        update_selection(self.selected, self.counts, gather_rows(index), gather_rows(pack(selected)))
