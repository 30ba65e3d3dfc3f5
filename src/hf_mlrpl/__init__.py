"""Multi-label image recognition with partial labels.

Names are imported when they are first used, so that `import hf_mlrpl` takes a few milliseconds. `import hf_mlrpl.auto`
registers the models with the Auto classes of transformers.
"""

import ast
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # what there is, for editors and type checkers; below it is read, not run
    from .clip.configuration_clip import ClipConfig as ClipConfig
    from .clip.modeling_clip import ClipTowers as ClipTowers
    from .data.captions.load_captions import load_captions as load_captions
    from .data.collections.celeba import load_celeba as load_celeba
    from .data.collections.chexpert import load_chexpert as load_chexpert
    from .data.collections.cifar100 import load_cifar100 as load_cifar100
    from .data.collections.coco import load_coco as load_coco
    from .data.collections.coco_panoptic import load_coco_panoptic as load_coco_panoptic
    from .data.collections.cub import load_cub as load_cub
    from .data.collections.digit_scenes import load_digit_scenes as load_digit_scenes
    from .data.collections.lvis import load_lvis as load_lvis
    from .data.collections.nih import load_nih as load_nih
    from .data.collections.nus_wide import load_nus_wide as load_nus_wide
    from .data.collections.openimages import load_openimages as load_openimages
    from .data.collections.vaw import load_vaw as load_vaw
    from .data.collections.vg200 import load_vg200 as load_vg200
    from .data.collections.vispr import load_vispr as load_vispr
    from .data.collections.voc import load_voc as load_voc
    from .data.columns import label_matrix as label_matrix
    from .data.columns import label_names as label_names
    from .data.columns import make_dataset as make_dataset
    from .data.containers.coco_json import load_coco_json as load_coco_json
    from .data.containers.cvat import load_cvat as load_cvat
    from .data.containers.fiftyone import load_fiftyone as load_fiftyone
    from .data.containers.folders import load_folders as load_folders
    from .data.containers.index_list import load_index_list as load_index_list
    from .data.containers.label_studio import load_label_studio as load_label_studio
    from .data.containers.roboflow import load_roboflow as load_roboflow
    from .data.containers.voc_xml import load_voc_xml as load_voc_xml
    from .data.hiding import hide_labels as hide_labels
    from .data.images.photos import BadImageError as BadImageError
    from .data.images.photos import open_image as open_image
    from .data.images.torch_dataset import PartialLabelImages as PartialLabelImages
    from .data.images.training_images import TrainingImages as TrainingImages
    from .data.images.views import View as View
    from .data.protocols.hierarchy import Hierarchy as Hierarchy
    from .data.protocols.hierarchy import read_hierarchy as read_hierarchy
    from .data.protocols.hierarchy import with_ancestors as with_ancestors
    from .data.protocols.listed_positives import ListedPositives as ListedPositives
    from .data.protocols.rules import KnowledgeGraph as KnowledgeGraph
    from .data.protocols.rules import PositiveFraction as PositiveFraction
    from .data.protocols.rules import RandomKnown as RandomKnown
    from .data.protocols.rules import SinglePositive as SinglePositive
    from .data.tables.from_dataset import load_from_dataset as load_from_dataset
    from .data.tables.table import load_table as load_table
    from .demo.server import launch_demo as launch_demo
    from .labels import summarize_labels as summarize_labels
    from .losses import partial_bce as partial_bce
    from .methods.add_gcn.configuration_add_gcn import AddGcnConfig as AddGcnConfig
    from .methods.add_gcn.modeling_add_gcn import (
        AddGcnForMultiLabelClassification as AddGcnForMultiLabelClassification,
    )
    from .methods.asl import AslObjective as AslObjective
    from .methods.asl import AslObjectiveConfig as AslObjectiveConfig
    from .methods.boost_lu.configuration_boost_lu import BoostLuConfig as BoostLuConfig
    from .methods.boost_lu.modeling_boost_lu import (
        BoostLuForMultiLabelClassification as BoostLuForMultiLabelClassification,
    )
    from .methods.clip_linear.configuration_clip_linear import ClipLinearConfig as ClipLinearConfig
    from .methods.clip_linear.modeling_clip_linear import (
        ClipLinearForMultiLabelClassification as ClipLinearForMultiLabelClassification,
    )
    from .methods.curriculum.configuration_curriculum import ScoreGraphConfig as ScoreGraphConfig
    from .methods.curriculum.modeling_curriculum import (
        ScoreGraphForMultiLabelClassification as ScoreGraphForMultiLabelClassification,
    )
    from .methods.curriculum.objective_curriculum import CurriculumObjective as CurriculumObjective
    from .methods.curriculum.selection import CurriculumObjectiveConfig as CurriculumObjectiveConfig
    from .methods.dsrb.configuration_dsrb import DsrbConfig as DsrbConfig
    from .methods.dsrb.modeling_dsrb import DsrbForMultiLabelClassification as DsrbForMultiLabelClassification
    from .methods.dsrb.objective_dsrb import DsrbObjective as DsrbObjective
    from .methods.dsrb.objective_dsrb import DsrbObjectiveConfig as DsrbObjectiveConfig
    from .methods.dualcoop.configuration_dualcoop import DualCoOpConfig as DualCoOpConfig
    from .methods.dualcoop.modeling_dualcoop import (
        DualCoOpForMultiLabelClassification as DualCoOpForMultiLabelClassification,
    )
    from .methods.dualcoop.objective_dualcoop import DualCoOpObjective as DualCoOpObjective
    from .methods.dualcoop.objective_dualcoop import DualCoOpObjectiveConfig as DualCoOpObjectiveConfig
    from .methods.dualcoop_pp.configuration_dualcoop_pp import DualCoOpPpConfig as DualCoOpPpConfig
    from .methods.dualcoop_pp.modeling_dualcoop_pp import (
        DualCoOpPpForMultiLabelClassification as DualCoOpPpForMultiLabelClassification,
    )
    from .methods.em import EmAplObjective as EmAplObjective
    from .methods.em import EmAplObjectiveConfig as EmAplObjectiveConfig
    from .methods.em import EmObjective as EmObjective
    from .methods.em import EmObjectiveConfig as EmObjectiveConfig
    from .methods.focal import FocalObjective as FocalObjective
    from .methods.focal import FocalObjectiveConfig as FocalObjectiveConfig
    from .methods.gcn_ml.configuration_gcn_ml import GcnMlConfig as GcnMlConfig
    from .methods.gcn_ml.modeling_gcn_ml import GcnMlForMultiLabelClassification as GcnMlForMultiLabelClassification
    from .methods.gpr import GprObjective as GprObjective
    from .methods.gpr import GprObjectiveConfig as GprObjectiveConfig
    from .methods.gr import GrObjective as GrObjective
    from .methods.gr import GrObjectiveConfig as GrObjectiveConfig
    from .methods.hill import HillObjective as HillObjective
    from .methods.hill import HillObjectiveConfig as HillObjectiveConfig
    from .methods.hst.configuration_hst import HstConfig as HstConfig
    from .methods.hst.modeling_hst import HstForMultiLabelClassification as HstForMultiLabelClassification
    from .methods.hst.objective_hst import HstObjective as HstObjective
    from .methods.hst.objective_hst import HstObjectiveConfig as HstObjectiveConfig
    from .methods.imcl.configuration_imcl import ImclConfig as ImclConfig
    from .methods.imcl.modeling_imcl import ImclForMultiLabelClassification as ImclForMultiLabelClassification
    from .methods.imcl.objective_imcl import ImclObjective as ImclObjective
    from .methods.imcl.objective_imcl import ImclObjectiveConfig as ImclObjectiveConfig
    from .methods.kggr.configuration_kggr import KggrConfig as KggrConfig
    from .methods.kggr.modeling_kggr import KggrForMultiLabelClassification as KggrForMultiLabelClassification
    from .methods.large_loss import LargeLossObjective as LargeLossObjective
    from .methods.large_loss import LargeLossObjectiveConfig as LargeLossObjectiveConfig
    from .methods.logic_mix import LogicMixObjective as LogicMixObjective
    from .methods.logic_mix import LogicMixObjectiveConfig as LogicMixObjectiveConfig
    from .methods.mime.configuration_mime import MimeConfig as MimeConfig
    from .methods.mime.modeling_mime import MimeForMultiLabelClassification as MimeForMultiLabelClassification
    from .methods.mime.objective_mime import MimeObjective as MimeObjective
    from .methods.mime.objective_mime import MimeObjectiveConfig as MimeObjectiveConfig
    from .methods.mixup import FmMixupObjective as FmMixupObjective
    from .methods.mixup import IpMixupObjective as IpMixupObjective
    from .methods.mixup import MixupObjectiveConfig as MixupObjectiveConfig
    from .methods.mixup_pme import MixupPmeObjective as MixupPmeObjective
    from .methods.mixup_pme import MixupPmeObjectiveConfig as MixupPmeObjectiveConfig
    from .methods.ml_decoder.configuration_ml_decoder import MlDecoderConfig as MlDecoderConfig
    from .methods.ml_decoder.modeling_ml_decoder import (
        MlDecoderForMultiLabelClassification as MlDecoderForMultiLabelClassification,
    )
    from .methods.ml_decoder.objective_ml_decoder import MlDecoderObjective as MlDecoderObjective
    from .methods.ml_decoder.objective_ml_decoder import MlDecoderObjectiveConfig as MlDecoderObjectiveConfig
    from .methods.p_asl import PAslObjective as PAslObjective
    from .methods.p_asl import PAslObjectiveConfig as PAslObjectiveConfig
    from .methods.partial_bce import PartialBceObjective as PartialBceObjective
    from .methods.partial_bce import PartialBceObjectiveConfig as PartialBceObjectiveConfig
    from .methods.positivecoop.configuration_positivecoop import NegativeCoOpConfig as NegativeCoOpConfig
    from .methods.positivecoop.configuration_positivecoop import PositiveCoOpConfig as PositiveCoOpConfig
    from .methods.positivecoop.modeling_positivecoop import (
        NegativeCoOpForMultiLabelClassification as NegativeCoOpForMultiLabelClassification,
    )
    from .methods.positivecoop.modeling_positivecoop import (
        PositiveCoOpForMultiLabelClassification as PositiveCoOpForMultiLabelClassification,
    )
    from .methods.query2label.configuration_query2label import Query2LabelConfig as Query2LabelConfig
    from .methods.query2label.modeling_query2label import (
        Query2LabelForMultiLabelClassification as Query2LabelForMultiLabelClassification,
    )
    from .methods.query2label.objective_query2label import Query2LabelObjective as Query2LabelObjective
    from .methods.query2label.objective_query2label import Query2LabelObjectiveConfig as Query2LabelObjectiveConfig
    from .methods.role import RoleObjective as RoleObjective
    from .methods.role import RoleObjectiveConfig as RoleObjectiveConfig
    from .methods.sarb.configuration_sarb import SarbConfig as SarbConfig
    from .methods.sarb.modeling_sarb import SarbForMultiLabelClassification as SarbForMultiLabelClassification
    from .methods.sarb.objective_sarb import SarbObjective as SarbObjective
    from .methods.sarb.objective_sarb import SarbObjectiveConfig as SarbObjectiveConfig
    from .methods.scpnet.configuration_scpnet import ScpnetConfig as ScpnetConfig
    from .methods.scpnet.modeling_scpnet import ScpnetForMultiLabelClassification as ScpnetForMultiLabelClassification
    from .methods.scpnet.objective_scpnet import ScpnetObjective as ScpnetObjective
    from .methods.scpnet.objective_scpnet import ScpnetObjectiveConfig as ScpnetObjectiveConfig
    from .methods.single_positive import AnObjective as AnObjective
    from .methods.single_positive import AnObjectiveConfig as AnObjectiveConfig
    from .methods.single_positive import EprObjective as EprObjective
    from .methods.single_positive import EprObjectiveConfig as EprObjectiveConfig
    from .methods.single_positive import LsanObjective as LsanObjective
    from .methods.single_positive import LsanObjectiveConfig as LsanObjectiveConfig
    from .methods.single_positive import WanObjective as WanObjective
    from .methods.single_positive import WanObjectiveConfig as WanObjectiveConfig
    from .methods.soft_exposure.objective_soft_exposure import SoftExposureObjective as SoftExposureObjective
    from .methods.soft_exposure.objective_soft_exposure import (
        SoftExposureObjectiveConfig as SoftExposureObjectiveConfig,
    )
    from .methods.spa import SpaObjective as SpaObjective
    from .methods.spa import SpaObjectiveConfig as SpaObjectiveConfig
    from .methods.splc import SplcObjective as SplcObjective
    from .methods.splc import SplcObjectiveConfig as SplcObjectiveConfig
    from .methods.ssgrl.configuration_ssgrl import SsgrlConfig as SsgrlConfig
    from .methods.ssgrl.modeling_ssgrl import SsgrlForMultiLabelClassification as SsgrlForMultiLabelClassification
    from .methods.ssgrl.objective_ssgrl import SsgrlObjective as SsgrlObjective
    from .methods.ssgrl.objective_ssgrl import SsgrlObjectiveConfig as SsgrlObjectiveConfig
    from .methods.sst.configuration_sst import SstConfig as SstConfig
    from .methods.sst.modeling_sst import SstForMultiLabelClassification as SstForMultiLabelClassification
    from .methods.sst.objective_sst import SstObjective as SstObjective
    from .methods.sst.objective_sst import SstObjectiveConfig as SstObjectiveConfig
    from .methods.tai_dpt.configuration_tai_dpt import TaiDptConfig as TaiDptConfig
    from .methods.tai_dpt.modeling_tai_dpt import (
        TaiDptForMultiLabelClassification as TaiDptForMultiLabelClassification,
    )
    from .methods.tai_dpt.objective_tai_dpt import TaiDptObjective as TaiDptObjective
    from .methods.tai_dpt.objective_tai_dpt import TaiDptObjectiveConfig as TaiDptObjectiveConfig
    from .methods.vlpl import VlplObjective as VlplObjective
    from .methods.vlpl import VlplObjectiveConfig as VlplObjectiveConfig
    from .methods.zero_shot_clip.configuration_zero_shot_clip import ZeroShotClipConfig as ZeroShotClipConfig
    from .methods.zero_shot_clip.modeling_zero_shot_clip import (
        ZeroShotClipForMultiLabelClassification as ZeroShotClipForMultiLabelClassification,
    )
    from .metrics import ensemble_scores as ensemble_scores
    from .metrics import load_metric as load_metric
    from .metrics import multi_label_metrics as multi_label_metrics
    from .models.baseline.configuration_baseline import BaselineConfig as BaselineConfig
    from .models.baseline.modeling_baseline import (
        BaselineForMultiLabelClassification as BaselineForMultiLabelClassification,
    )
    from .models.configuration_utils import MultiLabelConfig as MultiLabelConfig
    from .models.image_processing import MultiLabelImageProcessor as MultiLabelImageProcessor
    from .models.image_processing import MultiLabelImageProcessorPil as MultiLabelImageProcessorPil
    from .models.image_processing import processor_for as processor_for
    from .models.modeling_utils import MultiLabelOutput as MultiLabelOutput
    from .models.modeling_utils import MultiLabelPreTrainedModel as MultiLabelPreTrainedModel
    from .objective import Objective as Objective
    from .objective import ObjectiveOutput as ObjectiveOutput
    from .pipelines.image_tagging import ImageTaggingPipeline as ImageTaggingPipeline
    from .recipe.document import Recipe as Recipe
    from .registry import Entry as Entry
    from .registry import MethodSpec as MethodSpec
    from .registry import register as register
    from .schedules import Progress as Progress
    from .trainer.images import prepare_images as prepare_images
    from .trainer.trainer import MultiLabelTrainer as MultiLabelTrainer
    from .trainer.training_args import MultiLabelTrainingArguments as MultiLabelTrainingArguments
else:
    _NAMES: dict[str, str] = {
        alias.name: node.module
        for node in ast.walk(ast.parse(__loader__.get_source(__name__)))
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    __all__ = ["__version__", *_NAMES]

    def __getattr__(name: str) -> Any:
        if name not in _NAMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        with import_module(f"{__name__}.extras").optional_packages():
            return getattr(import_module(f"{__name__}.{_NAMES[name]}"), name)

    def __dir__() -> list[str]:
        return sorted([*globals(), *_NAMES])
