"""What exists, one line each. Strings only, so that reading the registry imports nothing heavy."""

from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, TypeVar


@dataclass(frozen=True)
class MethodSpec:
    """A method: `objective` and `model` are written `module:Class`, relative to `hf_mlrpl`.

    page: name of its page in `model_cards/`; by default that of the method.
    """

    objective: str
    model: str
    summary: str
    page: str = ""

    @property
    def trains_any_model(self) -> bool:
        """Whether the objective needs no more of a model than `represent` and `classify`."""
        return self.model == _BASELINE


@dataclass(frozen=True)
class Entry:
    """A data set, protocol or view: `target` is written `module:name`, relative to `hf_mlrpl`."""

    target: str
    summary: str


_BASELINE = "models.baseline.modeling_baseline:BaselineForMultiLabelClassification"
_SSGRL = "methods.ssgrl.modeling_ssgrl:SsgrlForMultiLabelClassification"

METHODS: dict[str, MethodSpec] = {
    "sst": MethodSpec(
        "methods.sst.objective_sst:SstObjective",
        "methods.sst.modeling_sst:SstForMultiLabelClassification",
        "completes labels by co-occurrence and similarity (AAAI 2022)",
    ),
    "sarb": MethodSpec(
        "methods.sarb.objective_sarb:SarbObjective",
        "methods.sarb.modeling_sarb:SarbForMultiLabelClassification",
        "blends unknown labels with images that show them (AAAI 2022)",
    ),
    "scpnet": MethodSpec(
        "methods.scpnet.objective_scpnet:ScpnetObjective",
        "methods.scpnet.modeling_scpnet:ScpnetForMultiLabelClassification",
        "CLIP prompts on a graph of labels, taught by sure scores of weak views (CVPR 2023)",
    ),
    "dualcoop": MethodSpec(
        "methods.dualcoop.objective_dualcoop:DualCoOpObjective",
        "methods.dualcoop.modeling_dualcoop:DualCoOpForMultiLabelClassification",
        "two CLIP prompts for each label, and where it looks (NeurIPS 2022)",
    ),
    "ssgrl": MethodSpec(
        "methods.ssgrl.objective_ssgrl:SsgrlObjective", _SSGRL, "label graph over attended features (ICCV 2019)"
    ),
    "add_gcn": MethodSpec(
        "methods.ssgrl.objective_ssgrl:SsgrlObjective",
        "methods.add_gcn.modeling_add_gcn:AddGcnForMultiLabelClassification",
        "semantic attention, and a graph for each image (ECCV 2020)",
    ),
    "ip_mixup": MethodSpec(
        "methods.mixup:IpMixupObjective", _SSGRL, "SSGRL, also on mixtures of two images (SARB's ablation)", "mixup"
    ),
    "fm_mixup": MethodSpec(
        "methods.mixup:FmMixupObjective", _SSGRL, "SSGRL, also on mixtures of two feature maps", "mixup"
    ),
    "soft_exposure": MethodSpec(
        "methods.soft_exposure.objective_soft_exposure:SoftExposureObjective",
        _BASELINE,
        "unknown labels soften where similar labels or images are annotated; NE, FE, LS (NeurIPS 2020)",
    ),
    "partial_bce": MethodSpec(
        "methods.partial_bce:PartialBceObjective", _BASELINE, "BCE over the known labels (Durand et al., CVPR 2019)"
    ),
    "curriculum": MethodSpec(
        "methods.curriculum.objective_curriculum:CurriculumObjective",
        _BASELINE,
        "completes labels that the model is sure of, in rounds (Durand et al., CVPR 2019)",
    ),
    "asl": MethodSpec("methods.asl:AslObjective", _BASELINE, "asymmetric loss (Ridnik et al., ICCV 2021)"),
    "p_asl": MethodSpec(
        "methods.p_asl:PAslObjective",
        _BASELINE,
        "ignores unknown labels that are likely (Ben-Baruch et al., CVPR 2022)",
    ),
    "focal": MethodSpec(
        "methods.focal:FocalObjective",
        _BASELINE,
        "focal loss; unknown labels negative, ignored or selected (ICCV 2017)",
    ),
    "spa": MethodSpec(
        "methods.spa:SpaObjective", _BASELINE, "strictly proper asymmetric loss, for calibration (CVPR 2024)"
    ),
    "splc": MethodSpec("methods.splc:SplcObjective", _BASELINE, "corrects labels by itself (Zhang et al., 2021)"),
    "hill": MethodSpec("methods.hill:HillObjective", _BASELINE, "distrusts sure negatives (Zhang et al., 2021)"),
    "an": MethodSpec(
        "methods.single_positive:AnObjective",
        _BASELINE,
        "unknown is absent (Cole et al., CVPR 2021)",
        "single_positive",
    ),
    "wan": MethodSpec(
        "methods.single_positive:WanObjective",
        _BASELINE,
        "unknown is absent, with a small weight (Cole et al., CVPR 2021)",
        "single_positive",
    ),
    "lsan": MethodSpec(
        "methods.single_positive:LsanObjective",
        _BASELINE,
        "unknown is absent, with smooth labels (Cole et al., CVPR 2021)",
        "single_positive",
    ),
    "epr": MethodSpec(
        "methods.single_positive:EprObjective",
        _BASELINE,
        "known labels, and the expected number of present ones (Cole et al., CVPR 2021)",
        "single_positive",
    ),
    "role": MethodSpec(
        "methods.role:RoleObjective", _BASELINE, "estimates the labels of each image (Cole et al., CVPR 2021)"
    ),
    "large_loss": MethodSpec(
        "methods.large_loss:LargeLossObjective",
        _BASELINE,
        "the largest losses are wrong labels (Kim et al., CVPR 2022)",
    ),
    "logic_mix": MethodSpec(
        "methods.logic_mix:LogicMixObjective", _BASELINE, "means of images with the logical OR of their labels (2024)"
    ),
    "mixup_pme": MethodSpec(
        "methods.mixup_pme:MixupPmeObjective", _BASELINE, "MixUp where an unknown label counts as 1/2 (CVPRW 2022)"
    ),
}

DATASETS: dict[str, Entry] = {
    "digit_scenes": Entry(
        "data.collections.digit_scenes:load_digit_scenes", "made from scikit-learn's digits, no download"
    ),
    "coco": Entry("data.collections.coco:load_coco", "COCO 2014, 2017, or any folder in that layout"),
    "voc": Entry("data.collections.voc:load_voc", "PASCAL VOC 2007 or 2012 devkit"),
    "coco_panoptic": Entry("data.collections.coco_panoptic:load_coco_panoptic", "COCO 2017, things and stuff"),
    "vg200": Entry("data.collections.vg200:load_vg200", "Visual Genome, its 200 most frequent labels"),
    "nus_wide": Entry(
        "data.collections.nus_wide:load_nus_wide", "NUS-WIDE, official or the subsets of SPLC and Cole et al."
    ),
    "cub": Entry("data.collections.cub:load_cub", "CUB-200-2011, birds with 312 attributes"),
    "openimages": Entry("data.collections.openimages:load_openimages", "Open Images, labels verified by people"),
    "cifar100": Entry("data.collections.cifar100:load_cifar100", "CIFAR-100, one of 100 labels each"),
    "table": Entry("data.tables.table:load_table", "your photos, with a CSV, JSON Lines or Parquet table"),
    "dataset": Entry(
        "data.tables.from_dataset:load_from_dataset", "a saved datasets.Dataset, an imagefolder, or a name on the Hub"
    ),
}

PROTOCOLS: dict[str, Entry] = {
    "random_known": Entry("data.protocols.rules:RandomKnown", "each label stays known with probability `proportion`"),
    "single_positive": Entry("data.protocols.rules:SinglePositive", "one positive label per image stays known"),
    "listed_positives": Entry(
        "data.protocols.listed_positives:ListedPositives",
        "the positives in `list`, a file of SPLC or SCPNet, stay known",
    ),
    "positive_fraction": Entry(
        "data.protocols.rules:PositiveFraction", "a `fraction` of the positives, and 1 to 1.5 times as many negatives"
    ),
    "knowledge_graph": Entry(
        "data.protocols.rules:KnowledgeGraph", "verified from the root of `hierarchy` down to a random label"
    ),
}

VIEWS: dict[str, Entry] = {
    "plain": Entry("data.images.views:plain_view", "resize, nothing random"),
    "center_crop": Entry(
        "data.images.views:center_crop_view", "resize the shorter side, cut out the centre, nothing random"
    ),
    "shift": Entry("data.images.views:shift_view", "move by up to an eighth of the side; not mirrored"),
    "crop_flip": Entry("data.images.views:crop_flip_view", "resize, one of five square crops, mirror (SST, SARB)"),
    "crop": Entry("data.images.views:crop_view", "resize, one of five square crops (SSGRL, ICCV 2019)"),
    "flip": Entry("data.images.views:flip_view", "resize, mirror (ROLE, LargeLoss)"),
    "flip_both": Entry(
        "data.images.views:flip_both_view", "resize, mirror, upside down (Soft Exposure on OpenImages)"
    ),
    "randaugment": Entry(
        "data.images.views:randaugment_view",
        "resize, cover a part, two random operations (ASL, SPLC, P-ASL, DualCoOp)",
    ),
    "weak": Entry("data.images.views:weak_view", "mirror, resize a part of 8 to 100 % of the area (SCPNet)"),
    "strong": Entry(
        "data.images.views:strong_view", "three random operations, cover a part, and then as weak (SCPNet)"
    ),
    "strong_shift": Entry(
        "data.images.views:strong_shift_view", "three random operations, cover a part, and then as shift"
    ),
}

T = TypeVar("T")


def lookup(entries: dict[str, T], name: str, kind: str) -> T:
    """The entry called `name`, or an error that lists what there is."""
    if not isinstance(name, str) or name not in entries:
        close = get_close_matches(str(name), entries, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Available: {', '.join(entries)}."
        raise ValueError(f"Unknown {kind} {name!r}. {hint}")
    return entries[name]


def page_name(method: str) -> str:
    """File name of the page of a method in `model_cards/`."""
    return f"{METHODS[method].page or method}.md"


def load(target: str) -> Any:
    """Import `module:name` of this package."""
    module, name = target.split(":")
    return getattr(import_module(f"hf_mlrpl.{module}"), name)
