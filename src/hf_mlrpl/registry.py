"""Methods, data sets, protocols and views, one line each. Strings only, so that reading them imports nothing heavy.

Other packages add lines of their own, by `register` or by an entry point, see "From a package of your own" in
CONTRIBUTING.md. A target is `module:name`; a module that begins with a dot is one of this package.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

PACKAGE = "hf_mlrpl"


@dataclass(frozen=True)
class Entry:
    """A data set, protocol or view.

    recognise: target of a function that says why a path holds no such data set, nothing where it does. Data sets are
        asked in the order of their lines; one without this is only found by its name.
    """

    target: str
    summary: str
    recognise: str = ""

    @property
    def package(self) -> str:
        """The package that it comes from."""
        return package_of(self.target)


@dataclass(frozen=True)
class MethodSpec:
    """A method.

    objective: target of what it minimises.
    model: target of its network.
    page: name of its page among those of its package, by default that of the method.
    converter: target of a `hf_mlrpl.hub.converter.Converter` of the authors' checkpoints, if there is one.
    trains_any_model: whether the objective needs no more of a model than `represent` and `classify`, so that
        `model.name` of a recipe may choose another network; where it compares vectors of labels, see
        `hf_mlrpl.objective.check_network`.
    """

    objective: str
    summary: str
    model: str = ".models.baseline.modeling_baseline:BaselineForMultiLabelClassification"
    page: str = ""
    converter: str = ""
    trains_any_model: bool = False

    @property
    def package(self) -> str:
        """The package that it comes from."""
        return package_of(self.objective)


Line = TypeVar("Line", MethodSpec, Entry)


class Registry(MutableMapping[str, Line]):
    """Lines of one kind by their name: those of this package, then those of others.

    Entry points are read when somebody looks for the first time, not when this module is imported.
    """

    def __init__(self, kind: str, line_class: type[Line]):
        self.kind = kind
        self.line_class: type[Line] = line_class
        self._lines: dict[str, Line] = {}
        self._is_complete = False

    def __setitem__(self, name: str, line: Line) -> None:
        if not isinstance(line, self.line_class):
            raise TypeError(f"A line of {self.kind} must be of the type {self.line_class.__name__}, got {line!r}.")
        known = self._lines.get(name, line)
        if known != line:
            raise ValueError(
                f"Two packages have {name!r} among their {self.kind}: {known.package} and {line.package}. Rename or "
                "uninstall one."
            )
        self._lines[name] = line

    def __getitem__(self, name: str) -> Line:
        return self._complete()[name]

    def __delitem__(self, name: str) -> None:
        del self._lines[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._complete())

    def __len__(self) -> int:
        return len(self._complete())

    def _complete(self) -> dict[str, Line]:
        if not self._is_complete:
            self._is_complete = True  # before the packages are imported, for they may look
            try:
                self._read_entry_points()
            except BaseException:
                self._is_complete = False
                raise
        return self._lines

    def _read_entry_points(self) -> None:
        from importlib.metadata import entry_points

        for point in entry_points(group=f"{PACKAGE}.{self.kind}"):
            try:
                line = point.load()
            except Exception as error:
                raise ImportError(
                    f"The package {point.dist.name if point.dist else point.module} has {point.name!r} among its "
                    f"{self.kind}, but {point.value} cannot be imported: {error}. Repair or uninstall it."
                ) from error
            self[point.name] = line


_SSGRL = ".methods.ssgrl.modeling_ssgrl:SsgrlForMultiLabelClassification"
_DUALCOOP = ".methods.dualcoop.objective_dualcoop:DualCoOpObjective"
_loss = partial(MethodSpec, trains_any_model=True)

METHODS = Registry("methods", MethodSpec)
METHODS.update(
    {
        "sst": MethodSpec(
            ".methods.sst.objective_sst:SstObjective",
            "completes labels by co-occurrence and similarity (AAAI 2022)",
            model=".methods.sst.modeling_sst:SstForMultiLabelClassification",
        ),
        "sarb": MethodSpec(
            ".methods.sarb.objective_sarb:SarbObjective",
            "blends unknown labels with images that show them (AAAI 2022)",
            model=".methods.sarb.modeling_sarb:SarbForMultiLabelClassification",
        ),
        "hst": MethodSpec(
            ".methods.hst.objective_hst:HstObjective",
            "SST with prototypes and thresholds that are learned (IJCV 2024)",
            model=".methods.hst.modeling_hst:HstForMultiLabelClassification",
        ),
        "dsrb": MethodSpec(
            ".methods.dsrb.objective_dsrb:DsrbObjective",
            "SARB with prototypes of each quadrant of the image (2022)",
            model=".methods.dsrb.modeling_dsrb:DsrbForMultiLabelClassification",
        ),
        "scpnet": MethodSpec(
            ".methods.scpnet.objective_scpnet:ScpnetObjective",
            "CLIP prompts on a graph of labels, taught by sure scores of weak views (CVPR 2023)",
            model=".methods.scpnet.modeling_scpnet:ScpnetForMultiLabelClassification",
            converter=".methods.scpnet.convert_scpnet:ScpnetConverter",
        ),
        "dualcoop": MethodSpec(
            _DUALCOOP,
            "two CLIP prompts for each label, and where it looks (NeurIPS 2022)",
            model=".methods.dualcoop.modeling_dualcoop:DualCoOpForMultiLabelClassification",
            converter=".methods.dualcoop.convert_dualcoop:DualCoOpConverter",
        ),
        "tai_dpt": MethodSpec(
            ".methods.tai_dpt.objective_tai_dpt:TaiDptObjective",
            "CLIP prompts for images and their places, learned from captions (CVPR 2023)",
            model=".methods.tai_dpt.modeling_tai_dpt:TaiDptForMultiLabelClassification",
        ),
        "positivecoop": MethodSpec(
            _DUALCOOP,
            "a positive CLIP prompt for each label, and a free vector for absence (WACV 2025)",
            model=".methods.positivecoop.modeling_positivecoop:PositiveCoOpForMultiLabelClassification",
        ),
        "negativecoop": MethodSpec(
            _DUALCOOP,
            "a negative CLIP prompt for each label, and a free vector for presence (WACV 2025)",
            model=".methods.positivecoop.modeling_positivecoop:NegativeCoOpForMultiLabelClassification",
            page="positivecoop",
        ),
        "clip_linear": MethodSpec(
            _DUALCOOP,
            "two linear classifiers for each label on the regions of frozen CLIP (WACV 2025)",
            model=".methods.clip_linear.modeling_clip_linear:ClipLinearForMultiLabelClassification",
        ),
        "dualcoop_pp": MethodSpec(
            _DUALCOOP,
            "three CLIP prompts for each label, which compete for regions (TPAMI 2024)",
            model=".methods.dualcoop_pp.modeling_dualcoop_pp:DualCoOpPpForMultiLabelClassification",
        ),
        "zero_shot_clip": MethodSpec(
            ".methods.ssgrl.objective_ssgrl:SsgrlObjective",
            "CLIP as it is, asked with texts; nothing is trained (ICML 2021)",
            model=".methods.zero_shot_clip.modeling_zero_shot_clip:ZeroShotClipForMultiLabelClassification",
        ),
        "ssgrl": MethodSpec(
            ".methods.ssgrl.objective_ssgrl:SsgrlObjective",
            "label graph over attended features (ICCV 2019)",
            model=_SSGRL,
            trains_any_model=True,
        ),
        "add_gcn": MethodSpec(
            ".methods.ssgrl.objective_ssgrl:SsgrlObjective",
            "semantic attention, and a graph for each image (ECCV 2020)",
            model=".methods.add_gcn.modeling_add_gcn:AddGcnForMultiLabelClassification",
            trains_any_model=True,
        ),
        "gcn_ml": MethodSpec(
            ".methods.ssgrl.objective_ssgrl:SsgrlObjective",
            "classifiers from word vectors on a label graph (ML-GCN, CVPR 2019)",
            model=".methods.gcn_ml.modeling_gcn_ml:GcnMlForMultiLabelClassification",
            trains_any_model=True,
        ),
        "kggr": MethodSpec(
            ".methods.ssgrl.objective_ssgrl:SsgrlObjective",
            "SSGRL whose classifiers pass messages, too (TPAMI 2020)",
            model=".methods.kggr.modeling_kggr:KggrForMultiLabelClassification",
            trains_any_model=True,
        ),
        "ml_decoder": MethodSpec(
            ".methods.ml_decoder.objective_ml_decoder:MlDecoderObjective",
            "queries of labels, or of groups of them, look at the map (WACV 2023)",
            model=".methods.ml_decoder.modeling_ml_decoder:MlDecoderForMultiLabelClassification",
            trains_any_model=True,
        ),
        "query2label": MethodSpec(
            ".methods.query2label.objective_query2label:Query2LabelObjective",
            "a transformer with a learned query for each label (2021)",
            model=".methods.query2label.modeling_query2label:Query2LabelForMultiLabelClassification",
            trains_any_model=True,
        ),
        "mime": MethodSpec(
            ".methods.mime.objective_mime:MimeObjective",
            "completes labels for good where it is sure of them, behind a bottleneck of noise (ICML 2023)",
            model=".methods.mime.modeling_mime:MimeForMultiLabelClassification",
        ),
        "imcl": MethodSpec(
            ".methods.imcl.objective_imcl:ImclObjective",
            "labels and features are combinations of those of other images (CVPR 2020)",
            model=".methods.imcl.modeling_imcl:ImclForMultiLabelClassification",
        ),
        "ip_mixup": MethodSpec(
            ".methods.mixup:IpMixupObjective",
            "SSGRL, also on mixtures of two images (SARB's ablation)",
            model=_SSGRL,
            page="mixup",
            trains_any_model=True,
        ),
        "fm_mixup": MethodSpec(
            ".methods.mixup:FmMixupObjective",
            "SSGRL, also on mixtures of two feature maps",
            model=_SSGRL,
            page="mixup",
            trains_any_model=True,
        ),
        "soft_exposure": _loss(
            ".methods.soft_exposure.objective_soft_exposure:SoftExposureObjective",
            "unknown labels soften where similar labels or images are annotated; NE, FE, LS (NeurIPS 2020)",
        ),
        "partial_bce": _loss(
            ".methods.partial_bce:PartialBceObjective", "BCE over the known labels (Durand et al., CVPR 2019)"
        ),
        "curriculum": _loss(
            ".methods.curriculum.objective_curriculum:CurriculumObjective",
            "completes labels that the model is sure of, in rounds (Durand et al., CVPR 2019)",
        ),
        "curriculum_graph": MethodSpec(
            ".methods.curriculum.objective_curriculum:CurriculumObjective",
            "curriculum labeling with a graph network over the scores",
            model=".methods.curriculum.modeling_curriculum:ScoreGraphForMultiLabelClassification",
            trains_any_model=True,
        ),
        "asl": _loss(".methods.asl:AslObjective", "asymmetric loss (Ridnik et al., ICCV 2021)"),
        "p_asl": _loss(
            ".methods.p_asl:PAslObjective", "ignores unknown labels that are likely (Ben-Baruch et al., CVPR 2022)"
        ),
        "focal": _loss(
            ".methods.focal:FocalObjective", "focal loss; unknown labels negative, ignored or selected (ICCV 2017)"
        ),
        "spa": _loss(".methods.spa:SpaObjective", "strictly proper asymmetric loss, for calibration (CVPR 2024)"),
        "splc": _loss(".methods.splc:SplcObjective", "corrects labels by itself (Zhang et al., 2021)"),
        "hill": _loss(".methods.hill:HillObjective", "distrusts sure negatives (Zhang et al., 2021)"),
        "an": _loss(
            ".methods.single_positive:AnObjective",
            "unknown is absent (Cole et al., CVPR 2021)",
            page="single_positive",
        ),
        "wan": _loss(
            ".methods.single_positive:WanObjective",
            "unknown is absent, with a small weight (Cole et al., CVPR 2021)",
            page="single_positive",
        ),
        "lsan": _loss(
            ".methods.single_positive:LsanObjective",
            "unknown is absent, with smooth labels (Cole et al., CVPR 2021)",
            page="single_positive",
        ),
        "epr": _loss(
            ".methods.single_positive:EprObjective",
            "known labels, and the expected number of present ones (Cole et al., CVPR 2021)",
            page="single_positive",
        ),
        "role": _loss(".methods.role:RoleObjective", "estimates the labels of each image (Cole et al., CVPR 2021)"),
        "large_loss": _loss(
            ".methods.large_loss:LargeLossObjective", "the largest losses are wrong labels (Kim et al., CVPR 2022)"
        ),
        "boost_lu": MethodSpec(
            ".methods.large_loss:LargeLossObjective",
            "LargeLoss, with boosted scores of the places that show a label (CVPR 2023)",
            model=".methods.boost_lu.modeling_boost_lu:BoostLuForMultiLabelClassification",
            trains_any_model=True,
        ),
        "em": _loss(".methods.em:EmObjective", "keeps unknown labels undecided (Zhou et al., ECCV 2022)"),
        "em_apl": _loss(
            ".methods.em:EmAplObjective", "EM, then the least likely unknown labels are absent (ECCV 2022)"
        ),
        "gr": _loss(
            ".methods.gr:GrObjective", "a robust risk of what unknown labels may be (Chen et al., IJCAI 2024)"
        ),
        "vlpl": _loss(
            ".methods.vlpl:VlplObjective", "CLIP completes labels, the others stay undecided (CVPR Workshops 2024)"
        ),
        "gpr": _loss(
            ".methods.gpr:GprObjective",
            "GR, where CLIP completes labels that it sees in an image or in its tiles (2025)",
        ),
        "logic_mix": _loss(
            ".methods.logic_mix:LogicMixObjective", "means of images with the logical OR of their labels (2024)"
        ),
        "mixup_pme": _loss(
            ".methods.mixup_pme:MixupPmeObjective", "MixUp where an unknown label counts as 1/2 (CVPRW 2022)"
        ),
    }
)


def _found(module: str, summary: str) -> Entry:
    """The line of data that are found by their path: `module` has `load_...` and `recognise`."""
    name = module.rpartition(".")[2]
    return Entry(f".data.{module}:load_{name}", summary, f".data.{module}:recognise")


DATASETS = Registry("datasets", Entry)
DATASETS.update(
    {
        "digit_scenes": Entry(
            ".data.collections.digit_scenes:load_digit_scenes", "made from scikit-learn's digits, no download"
        ),
        "coco": Entry(".data.collections.coco:load_coco", "COCO 2014, 2017, or any folder in that layout"),
        "voc": Entry(".data.collections.voc:load_voc", "PASCAL VOC 2007 or 2012 devkit"),
        "coco_panoptic": Entry(".data.collections.coco_panoptic:load_coco_panoptic", "COCO 2017, things and stuff"),
        "vg200": Entry(".data.collections.vg200:load_vg200", "Visual Genome, its 200 most frequent labels"),
        "nus_wide": Entry(
            ".data.collections.nus_wide:load_nus_wide", "NUS-WIDE, official or the subsets of SPLC and Cole et al."
        ),
        "cub": Entry(".data.collections.cub:load_cub", "CUB-200-2011, birds with 312 attributes"),
        "openimages": Entry(".data.collections.openimages:load_openimages", "Open Images, labels verified by people"),
        "cifar100": Entry(".data.collections.cifar100:load_cifar100", "CIFAR-100, one of 100 labels each"),
        "lvis": _found("collections.lvis", "LVIS v1 or v0.5, labels known by federated annotation"),
        "vaw": _found("collections.vaw", "Visual Attributes in the Wild, attributes known to be there or not"),
        "chexpert": _found("collections.chexpert", "CheXpert, chest X-rays with uncertain labels"),
        "nih": _found("collections.nih", "NIH ChestX-ray14"),
        "celeba": _found("collections.celeba", "CelebA, faces with 40 attributes, or any file in its format"),
        "vispr": _found("collections.vispr", "VISPR, 68 attributes of privacy"),
        "roboflow": _found("containers.roboflow", "an export of Roboflow, multi-label or COCO"),
        "label_studio": _found("containers.label_studio", "an export of Label Studio: JSON, JSON-MIN, CSV"),
        "cvat": _found("containers.cvat", "an export of CVAT for images, XML"),
        "fiftyone": _found("containers.fiftyone", "an export of FiftyOne: labels.json, samples.json, CSV"),
        "coco_json": _found("containers.coco_json", "any annotations in the format of COCO, by their path"),
        "voc_xml": _found("containers.voc_xml", "a folder in the layout of VOC, with any classes"),
        "index_list": _found("containers.index_list", "lists of photos and numbers, `001.jpg 0 17`"),
        "dataset": _found("tables.from_dataset", "a saved datasets.Dataset, an imagefolder, or a name on the Hub"),
        "table": _found("tables.table", "your photos, with a CSV, TSV, JSON or Parquet table"),
        "folders": _found("containers.folders", "a folder of photos for each label"),
    }
)

PROTOCOLS = Registry("protocols", Entry)
PROTOCOLS.update(
    {
        "random_known": Entry(
            ".data.protocols.rules:RandomKnown", "each label stays known with probability `proportion`"
        ),
        "single_positive": Entry(".data.protocols.rules:SinglePositive", "one positive label per image stays known"),
        "listed_positives": Entry(
            ".data.protocols.listed_positives:ListedPositives",
            "the positives in `list`, a file of SPLC or SCPNet, stay known",
        ),
        "positive_fraction": Entry(
            ".data.protocols.rules:PositiveFraction",
            "a `fraction` of the positives, and 1 to 1.5 times as many negatives",
        ),
        "knowledge_graph": Entry(
            ".data.protocols.rules:KnowledgeGraph", "verified from the root of `hierarchy` down to a random label"
        ),
    }
)

VIEWS = Registry("views", Entry)
VIEWS.update(
    {
        "plain": Entry(".data.images.views:plain_view", "resize, nothing random"),
        "center_crop": Entry(
            ".data.images.views:center_crop_view", "resize the shorter side, cut out the centre, nothing random"
        ),
        "shift": Entry(".data.images.views:shift_view", "move by up to an eighth of the side; not mirrored"),
        "crop_flip": Entry(
            ".data.images.views:crop_flip_view", "resize, one of five square crops, mirror (SST, SARB)"
        ),
        "crop": Entry(".data.images.views:crop_view", "resize, one of five square crops (SSGRL, ICCV 2019)"),
        "flip": Entry(".data.images.views:flip_view", "resize, mirror (ROLE, LargeLoss)"),
        "flip_both": Entry(
            ".data.images.views:flip_both_view", "resize, mirror, upside down (Soft Exposure on OpenImages)"
        ),
        "randaugment": Entry(
            ".data.images.views:randaugment_view",
            "resize, cover a part, two random operations (ASL, SPLC, P-ASL, DualCoOp)",
        ),
        "weak": Entry(".data.images.views:weak_view", "mirror, resize a part of 8 to 100 % of the area (SCPNet)"),
        "strong": Entry(
            ".data.images.views:strong_view", "three random operations, cover a part, and then as weak (SCPNet)"
        ),
        "strong_shift": Entry(
            ".data.images.views:strong_shift_view", "three random operations, cover a part, and then as shift"
        ),
    }
)

REGISTRIES: dict[str, Registry[Any]] = {each.kind: each for each in (METHODS, DATASETS, PROTOCOLS, VIEWS)}

T = TypeVar("T")


def register(kind: str, name: str, line: MethodSpec | Entry) -> None:
    """Add a line of another package, for as long as the process runs; an entry point does so for good.

    Args:
        kind: "methods", "datasets", "protocols" or "views".
        line: a `MethodSpec` for a method, an `Entry` for the others, with targets such as `my_package.losses:Mine`.
    """
    lookup(REGISTRIES, kind, "kind")[name] = line


def lookup(entries: Mapping[str, T], name: str, kind: str) -> T:
    """The entry called `name`, or an error that lists what there is."""
    if not isinstance(name, str) or name not in entries:
        from .settings import did_you_mean, shown  # with YAML, which this module does without

        text = name[:80] if isinstance(name, str) else ""
        raise ValueError(f"Unknown {kind} {shown(name)}. {did_you_mean(text, entries)}")
    return entries[name]


def recognise(path: Path) -> tuple[list[str], dict[str, str]]:
    """The data sets that a file or folder may hold, the most special first; and why it is none of the others."""
    if not path.exists():
        raise FileNotFoundError(f"There is no file and no folder {path}.")
    reasons = {name: load(line.recognise)(path) for name, line in DATASETS.items() if line.recognise}
    return [name for name, reason in reasons.items() if not reason], {n: r for n, r in reasons.items() if r}


def package_of(target: str) -> str:
    """The outermost package of a target."""
    return PACKAGE if target.startswith(".") else target.partition(":")[0].partition(".")[0]


def load(target: str) -> Any:
    """The object that a target names."""
    module, name = target.split(":")
    return getattr(import_module(module, PACKAGE), name)
