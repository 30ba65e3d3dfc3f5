"""A tagger as an ONNX file, which needs neither this library nor torch."""

import copy
import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from transformers.image_utils import PILImageResampling

from ..clip.modeling_clip import ClipPromptModel
from ..extras import optional_packages
from ..losses import at_least_float32
from ..models.image_processing import view_of
from ..models.modeling_utils import MultiLabelPreTrainedModel

INPUT, OUTPUT = "pixel_values", "logits"
LOWEST_OPSET, HIGHEST_OPSET = 18, 23
LARGEST_FILE = 1_900_000_000  # bytes of weights; a file of protobuf holds 2 GiB
_TRACED_IMAGES = 2  # with a single one, torch takes the batch size for a constant


class _Logits(nn.Module):
    """A tagger without what is only for training, from pixels to logits."""

    def __init__(self, model: MultiLabelPreTrainedModel):
        super().__init__()
        self.model = copy.deepcopy(model).float().cpu().eval()
        if isinstance(model, ClipPromptModel):
            self.model.label_vectors()  # is kept: the text tower is folded into it
            self.model.text_encoder = None
            for name, child in list(self.model.named_children()):
                if child in self.model.prompt_learners:
                    setattr(self.model, name, None)

    def forward(self, pixel_values: Tensor) -> Tensor:
        representations, _ = self.model.represent(self.model.encode(pixel_values))
        return at_least_float32(self.model.classify(representations))


def export_onnx(
    model: MultiLabelPreTrainedModel, file: str | Path, processor: Any, *, opset: int | None = None, int8: bool = False
) -> None:
    """Write `model` as an ONNX file: `pixel_values`, `(batch, 3, height, width)` float32, to `logits`, `(batch,
    num_labels)`, for any batch. Scores are the sigmoid of the logits.

    Metadata of the file, all JSON: `labels`, `thresholds` (one for each label), and `preprocessing`, see
    `describe_preprocessing`. The label vectors of CLIP models are constants in it; their text tower is not.

    Args:
        file: ends in .onnx. Weights of more than 1.9 GB lie in FILE.data beside it.
        processor: the image processor of the model.
        opset: version of the ONNX operators, by default that of torch.
        int8: weights of matrix products as 8 bit integers, with dynamic quantisation of what they meet; convolutions
            stay as they are. A ViT becomes a quarter as large.

    Raises:
        ImportError: without the packages of the extra `onnx`.
        ValueError: for another suffix, an opset that torch cannot write, or a processor of another kind.
    """
    file = check_file(file)
    check_opset(opset)
    import_onnx()
    metadata = describe_model(model, processor)
    height, width = model.config.height_and_width
    pixels = torch.zeros(_TRACED_IMAGES, 3, height, width)
    with _quiet(), torch.no_grad(), TemporaryDirectory(dir=file.absolute().parent, prefix=".onnx-") as scratch:
        program: Any = torch.onnx.export(
            _Logits(model),
            (pixels,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=opset,
            dynamic_shapes={INPUT: {0: torch.export.Dim("batch", min=1)}},
            dynamo=True,
            verbose=False,
        )
        program.model.metadata_props.update(metadata)
        size = sum(tensor.nbytes for tensor in model.backbone.state_dict().values())
        written = Path(scratch) / file.name
        program.save(str(written), external_data=size > LARGEST_FILE)
        if int8:
            (written.parent / "int8").mkdir()
            quantize(written, written.parent / "int8" / file.name)
            written = written.parent / "int8" / file.name
        move_onnx(written, file.parent)


def move_onnx(file: Path, folder: Path) -> None:
    """Move an ONNX file, and weights that lie beside it, to another folder of the same disk."""
    for part in sorted(file.parent.glob(f"{file.name}*"), reverse=True):  # the model itself comes last
        os.replace(part, folder / part.name)


def quantize(file: Path, out: Path) -> None:
    """Write `out`, which is `file` with weights of matrix products as 8 bit integers, and its metadata."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(file, out, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8)
    model, metadata = onnx.load(out), onnx.load(file, load_external_data=False).metadata_props
    onnx.helper.set_model_props(model, {each.key: each.value for each in metadata})
    onnx.save(model, out)


def describe_model(model: MultiLabelPreTrainedModel, processor: Any) -> dict[str, str]:
    """The metadata of `export_onnx`, each a JSON text."""
    from .. import __version__
    from ..pipelines.image_tagging import label_thresholds

    config = model.config
    about = {
        "labels": config.label_names,
        "thresholds": label_thresholds(config.thresholds, config).tolist(),
        "preprocessing": describe_preprocessing(processor),
        "model": {"class": type(model).__name__, "backbone": config.backbone, "hf_mlrpl": __version__},
    }
    return {name: json.dumps(value, ensure_ascii=False) for name, value in about.items()}


def describe_preprocessing(processor: Any) -> dict[str, Any]:
    """What happens to an upright RGB image of 8 bits, transparent parts on white, in this order.

    `resize`: `[height, width]`, or the length of the shorter side; `resample`: "bicubic" or "bilinear", with
    antialiasing, as Pillow does; `crop`: `[height, width]` of the centre, or null; then pixels are divided by 255,
    less `mean`, divided by `std`.
    """
    if view_of(processor) is None:
        raise ValueError(
            "The image processor (preprocessor_config.json) does something else than to resize, crop, rescale and "
            "normalise, which an ONNX file cannot describe. Use that of `processor_for(model.config)`."
        )
    size, crop = processor.size, processor.crop_size
    return {
        "resize": size.shortest_edge or [size.height, size.width],
        "resample": PILImageResampling(processor.resample).name.lower(),
        "crop": [crop.height, crop.width] if processor.do_center_crop else None,
        "mean": list(processor.image_mean),
        "std": list(processor.image_std),
    }


def check_file(file: str | Path) -> Path:
    """`file` as a path, if it can be the name of an ONNX file."""
    file = Path(file)
    if file.suffix.lower() != ".onnx" or file.is_dir():
        raise ValueError(f"An ONNX file must have a name that ends in .onnx, got {str(file)!r}.")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def check_opset(opset: int | None) -> None:
    """Raise `ValueError` for versions that torch does not write."""
    if opset is not None and not LOWEST_OPSET <= opset <= HIGHEST_OPSET:
        raise ValueError(f"`opset` must lie between {LOWEST_OPSET} and {HIGHEST_OPSET}, got {opset}.")


def import_onnx() -> None:
    """Raise `ImportError` with the way out where a package is missing."""
    with optional_packages():
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside the block the exporter and its libraries keep their many hints to themselves."""
    loggers = [
        logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "root", None)
    ]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
