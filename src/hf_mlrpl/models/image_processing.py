"""Image processors: from an image to the `pixel_values` of a model, saved as `preprocessor_config.json`."""

import math
from typing import Any

from transformers import PreTrainedConfig
from transformers.image_processing_backends import PilBackend, TorchvisionBackend
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    PILImageResampling,
    pil_torch_interpolation_mapping,
)

from ..data.images.views import View, fixed_view


class _Defaults:
    """How SSGRL, SST and SARB are evaluated: resize to one size, rescale to [0, 1], normalise.

    The aspect ratio is ignored on purpose, and nothing is cropped: an object at the border is a label, too. SCPNet
    cuts out the centre.
    """

    do_resize = True
    size = {"height": 448, "width": 448}
    resample = PILImageResampling.BICUBIC
    do_convert_rgb = True
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        if self.resample not in pil_torch_interpolation_mapping:
            raise ValueError(
                "`resample` of an image processor (preprocessor_config.json) must be one of "
                f"{', '.join(str(int(known)) for known in pil_torch_interpolation_mapping)}, got {self.resample!r}."
            )
        for name in ("do_rescale", "do_normalize"):
            if not getattr(self, name):
                raise ValueError(
                    f"`{name}` of an image processor (preprocessor_config.json) must be true: models learn from "
                    "normalised pixels."
                )
        if not math.isclose(self.rescale_factor, 1 / 255, rel_tol=0.01):
            raise ValueError(
                "`rescale_factor` of an image processor (preprocessor_config.json) must be 1/255, for grey levels of "
                f"8 bits, got {self.rescale_factor}."
            )
        mean, std = self.image_mean, self.image_std
        if not (len(mean) == len(std) == 3 and all(map(math.isfinite, (*mean, *std))) and min(std) > 0):  # type: ignore
            raise ValueError(
                "`image_mean` and `image_std` of an image processor (preprocessor_config.json) must be three finite "
                f"numbers, and `image_std` above 0, got {mean} and {std}."
            )


class MultiLabelImageProcessor(_Defaults, TorchvisionBackend):
    """Resizes, rescales and normalises with torchvision, batches of equal size at once."""


class MultiLabelImageProcessorPil(_Defaults, PilBackend):
    """The same with PIL and NumPy: `AutoImageProcessor.from_pretrained(checkpoint, backend="pil")`.

    Agrees with the torchvision twin up to the rounding of a resized pixel (at most two of 255 grey levels).
    """


def processor_for(config: PreTrainedConfig) -> MultiLabelImageProcessor:
    """The processor of a model: its `image_size`, and `resize`, `image_mean` and `image_std` where it has them."""
    height, width = (config.image_size, config.image_size) if isinstance(config.image_size, int) else config.image_size
    size: dict[str, Any] = {"size": {"height": height, "width": width}}
    if getattr(config, "resize", "stretch") == "crop":
        size = {
            "size": {"shortest_edge": max(height, width)},
            "do_center_crop": True,
            "crop_size": {"height": height, "width": width},
            "resample": PILImageResampling.BILINEAR,
        }
    if side := getattr(config, "resize_to", None):
        size = {
            "size": {"height": side, "width": side},
            "do_center_crop": True,
            "crop_size": {"height": height, "width": width},
            "resample": PILImageResampling.BILINEAR,
        }
    return MultiLabelImageProcessor(
        **size,
        image_mean=list(getattr(config, "image_mean", IMAGENET_DEFAULT_MEAN)),
        image_std=list(getattr(config, "image_std", IMAGENET_DEFAULT_STD)),
    )


def evaluation_view(config: PreTrainedConfig) -> View:
    """The view that training runs evaluate with: it does what `processor_for(config)` does before it normalises."""
    return _view(processor_for(config))


def view_of(processor: Any) -> View | None:
    """The view that does what `processor` does before it normalises, with the same bits, in a third of the time.

    Returns:
        `None` where a processor does something else than those of `processor_for`.
    """
    if not isinstance(processor, MultiLabelImageProcessor | MultiLabelImageProcessorPil):
        return None
    usual = {"do_resize": True, "do_convert_rgb": True, "do_rescale": True, "do_normalize": True, "do_pad": False}
    if any((getattr(processor, name, None) or False) != value for name, value in usual.items()):
        return None
    size: Any = processor.size
    crop: Any = getattr(processor, "crop_size", None)
    if not math.isclose(processor.rescale_factor, 1 / 255) or not (size.shortest_edge or (size.height and size.width)):
        return None
    return None if size.longest_edge or (getattr(processor, "do_center_crop", None) and not crop) else _view(processor)


def _view(processor: Any) -> View:
    size, crop = processor.size, processor.crop_size
    return fixed_view(
        size.shortest_edge or (size.height, size.width),
        pil_torch_interpolation_mapping[processor.resample],
        (crop.height, crop.width) if processor.do_center_crop else None,
    )
