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


@dataclass(frozen=True)
class Entry:
    """A data set, protocol or view: `target` is written `module:name`, relative to `hf_mlrpl`."""

    target: str
    summary: str


_BASELINE = "baseline.modeling_baseline:BaselineForMultiLabelClassification"
_SSGRL = "methods.ssgrl.modeling_ssgrl:SsgrlForMultiLabelClassification"

METHODS: dict[str, MethodSpec] = {
    "curriculum": MethodSpec(
        "methods.curriculum.objective_curriculum:CurriculumObjective",
        _BASELINE,
        "completes labels that the model is sure of, in rounds (Durand et al., CVPR 2019)",
    ),
    "focal": MethodSpec(
        "methods.focal:FocalObjective",
        _BASELINE,
        "focal loss; unknown labels negative, ignored or selected (ICCV 2017)",
    ),
    "logic_mix": MethodSpec(
        "methods.logic_mix:LogicMixObjective", _BASELINE, "means of images with the logical OR of their labels (2024)"
    ),
    "mixup_pme": MethodSpec(
        "methods.mixup_pme:MixupPmeObjective", _BASELINE, "MixUp where an unknown label counts as 1/2 (CVPRW 2022)"
    ),
    "partial_bce": MethodSpec(
        "methods.partial_bce:PartialBceObjective", _BASELINE, "BCE over the known labels (Durand et al., CVPR 2019)"
    ),
    "spa": MethodSpec(
        "methods.spa:SpaObjective", _BASELINE, "strictly proper asymmetric loss, for calibration (CVPR 2024)"
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
}

DATASETS: dict[str, Entry] = {
    "digit_scenes": Entry("data.digit_scenes:load_digit_scenes", "made from scikit-learn's digits, no download"),
    "coco": Entry("data.coco:load_coco", "COCO 2014, 2017, or any folder in that layout"),
    "voc": Entry("data.voc:load_voc", "PASCAL VOC 2007 or 2012 devkit"),
    "table": Entry("data.table:load_table", "your photos, with a CSV, JSON Lines or Parquet table"),
    "dataset": Entry(
        "data.from_dataset:load_from_dataset", "a saved datasets.Dataset, an imagefolder, or a name on the Hub"
    ),
}

PROTOCOLS: dict[str, Entry] = {
    "random_known": Entry("data.protocols:RandomKnown", "each label stays known with probability `proportion`"),
    "single_positive": Entry("data.protocols:SinglePositive", "one positive label per image stays known"),
}

VIEWS: dict[str, Entry] = {
    "plain": Entry("data.views:plain_view", "resize, nothing random"),
    "shift": Entry("data.views:shift_view", "move by up to an eighth of the side; not mirrored"),
    "crop_flip": Entry("data.views:crop_flip_view", "resize, one of five square crops, mirror (SST, SARB)"),
    "crop": Entry("data.views:crop_view", "resize, one of five square crops (SSGRL, ICCV 2019)"),
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
