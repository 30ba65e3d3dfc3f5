"""Multi-label image recognition with partial labels.

Names are imported when they are first used, so that `import hf_mlrpl` takes a millisecond. `import hf_mlrpl.auto`
registers the models with the Auto classes of transformers.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "AddGcnConfig": "methods.add_gcn.configuration_add_gcn",
    "AddGcnForMultiLabelClassification": "methods.add_gcn.modeling_add_gcn",
    "AnObjective": "methods.single_positive",
    "AslObjective": "methods.asl",
    "BaselineConfig": "models.baseline.configuration_baseline",
    "BaselineForMultiLabelClassification": "models.baseline.modeling_baseline",
    "ClipConfig": "clip.configuration_clip",
    "ClipTowers": "clip.modeling_clip",
    "CurriculumObjective": "methods.curriculum.objective_curriculum",
    "DualCoOpConfig": "methods.dualcoop.configuration_dualcoop",
    "DualCoOpForMultiLabelClassification": "methods.dualcoop.modeling_dualcoop",
    "DualCoOpObjective": "methods.dualcoop.objective_dualcoop",
    "EprObjective": "methods.single_positive",
    "FmMixupObjective": "methods.mixup",
    "FocalObjective": "methods.focal",
    "GcnMlConfig": "methods.gcn_ml.configuration_gcn_ml",
    "GcnMlForMultiLabelClassification": "methods.gcn_ml.modeling_gcn_ml",
    "Hierarchy": "data.protocols.hierarchy",
    "HillObjective": "methods.hill",
    "ImageTaggingPipeline": "pipelines.image_tagging",
    "IpMixupObjective": "methods.mixup",
    "KggrConfig": "methods.kggr.configuration_kggr",
    "KggrForMultiLabelClassification": "methods.kggr.modeling_kggr",
    "KnowledgeGraph": "data.protocols.rules",
    "LargeLossObjective": "methods.large_loss",
    "ListedPositives": "data.protocols.listed_positives",
    "LogicMixObjective": "methods.logic_mix",
    "LsanObjective": "methods.single_positive",
    "MixupPmeObjective": "methods.mixup_pme",
    "MultiLabelConfig": "models.configuration_utils",
    "MultiLabelImageProcessor": "models.image_processing",
    "MultiLabelOutput": "models.modeling_utils",
    "MultiLabelPreTrainedModel": "models.modeling_utils",
    "MultiLabelTrainer": "trainer.trainer",
    "MultiLabelTrainingArguments": "trainer.training_args",
    "Objective": "objective",
    "ObjectiveOutput": "objective",
    "PAslObjective": "methods.p_asl",
    "PartialBceObjective": "methods.partial_bce",
    "PositiveFraction": "data.protocols.rules",
    "Progress": "schedules",
    "RandomKnown": "data.protocols.rules",
    "Recipe": "recipe.document",
    "RoleObjective": "methods.role",
    "SarbConfig": "methods.sarb.configuration_sarb",
    "SarbForMultiLabelClassification": "methods.sarb.modeling_sarb",
    "SarbObjective": "methods.sarb.objective_sarb",
    "ScpnetConfig": "methods.scpnet.configuration_scpnet",
    "ScpnetForMultiLabelClassification": "methods.scpnet.modeling_scpnet",
    "ScpnetObjective": "methods.scpnet.objective_scpnet",
    "SinglePositive": "data.protocols.rules",
    "SoftExposureObjective": "methods.soft_exposure.objective_soft_exposure",
    "SpaObjective": "methods.spa",
    "SplcObjective": "methods.splc",
    "SsgrlConfig": "methods.ssgrl.configuration_ssgrl",
    "SsgrlForMultiLabelClassification": "methods.ssgrl.modeling_ssgrl",
    "SsgrlObjective": "methods.ssgrl.objective_ssgrl",
    "SstConfig": "methods.sst.configuration_sst",
    "SstForMultiLabelClassification": "methods.sst.modeling_sst",
    "SstObjective": "methods.sst.objective_sst",
    "WanObjective": "methods.single_positive",
    "hide_labels": "data.hiding",
    "label_matrix": "data.columns",
    "label_names": "data.columns",
    "load_cifar100": "data.collections.cifar100",
    "load_coco": "data.collections.coco",
    "load_coco_panoptic": "data.collections.coco_panoptic",
    "load_cub": "data.collections.cub",
    "load_digit_scenes": "data.collections.digit_scenes",
    "load_from_dataset": "data.tables.from_dataset",
    "load_metric": "metrics",
    "load_nus_wide": "data.collections.nus_wide",
    "load_openimages": "data.collections.openimages",
    "load_table": "data.tables.table",
    "make_dataset": "data.columns",
    "load_vg200": "data.collections.vg200",
    "load_voc": "data.collections.voc",
    "multi_label_metrics": "metrics",
    "partial_bce": "losses",
    "read_hierarchy": "data.protocols.hierarchy",
    "summarize_labels": "labels",
    "with_ancestors": "data.protocols.hierarchy",
}
__all__ = ["__version__", *_NAMES]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_NAMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_NAMES])
