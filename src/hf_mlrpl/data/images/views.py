"""Views: what happens to a training image between the file and the model.

All random choices come from torch's global generator, which `PartialLabelImages` sets per image and epoch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from .random_operations import cover_half, random_operations, strong_operations


@dataclass(frozen=True)
class View:
    """From an image to the `(3, height, width)` tensor that the model sees, in two steps.

    prepare: what is the same in every epoch. Where its result is a tensor, it is kept in memory for a small data set.
    augment: the random choices; it must not change what it is given.
    """

    prepare: Callable[[Image.Image], Any]
    augment: Callable[[Any], Tensor] = nn.Identity()

    def __call__(self, image: Image.Image) -> Tensor:
        return self.augment(self.prepare(image))


def plain_view(size: tuple[int, int], mean: list[float], std: list[float]) -> View:
    """Resize to `size`, (height, width), and normalise: what the image processor of most models does at inference."""
    return View(v2.Compose([_resize(size), *_to_normalized_tensor(mean, std)]))


def center_crop_view(size: tuple[int, int], mean: list[float], std: list[float]) -> View:
    """Resize the shorter side to the longer one of `size`, cut out the centre (SCPNet).

    The image processor of a model with `resize: crop` does so at inference, and rounds as this does: an odd number of
    pixels loses one less at the left and at the top.
    """
    resize = v2.Resize(max(size), interpolation=InterpolationMode.BILINEAR)
    return View(v2.Compose([resize, partial(_center_crop, size=size), *_to_normalized_tensor(mean, std)]))


def shift_view(size: tuple[int, int], mean: list[float], std: list[float]) -> View:
    """Resize, and move the image by up to an eighth of its side; the edge is repeated."""
    pad = v2.Pad([size[1] // 8, size[0] // 8], padding_mode="edge")
    return View(v2.Compose([_resize(size), *_to_normalized_tensor(mean, std), pad]), v2.RandomCrop(size))


def crop_flip_view(size: tuple[int, int], mean: list[float], std: list[float]) -> View:
    """Training view of SST and SARB: at 448 px, resize to 512, crop 512, 448, 384, 320 or 256, resize, mirror."""
    scales = (512, 448, 384, 320, 256)
    crops = v2.RandomChoice([v2.RandomCrop(_scaled(size, scale / 448)) for scale in scales])
    flip = v2.RandomHorizontalFlip()
    augment = v2.Compose([crops, _resize(size), flip, *_to_normalized_tensor(mean, std)])
    return View(_resize(_scaled(size, 512 / 448)), augment)


def crop_view(size: tuple[int, int], mean: list[float], std: list[float]) -> View:
    """Training view of SSGRL (ICCV 2019): at 576 px, resize to 640, crop 640, 576, 512, 384 or 320, resize."""
    bilinear = InterpolationMode.BILINEAR
    scales = (640, 576, 512, 384, 320)
    crops = v2.RandomChoice([v2.RandomCrop(_scaled(size, scale / 576)) for scale in scales])
    augment = v2.Compose([crops, _resize(size, bilinear), *_to_normalized_tensor(mean, std)])
    return View(_resize(_scaled(size, 640 / 576), bilinear), augment)


def flip_view(size: tuple[int, int], mean: list[float], std: list[float]) -> View:
    """Resize, and mirror half of the images (ROLE, LargeLoss)."""
    return View(plain_view(size, mean, std).prepare, v2.RandomHorizontalFlip())


def flip_both_view(size: tuple[int, int], mean: list[float], std: list[float]) -> View:
    """Resize, mirror half of the images, and turn half of them upside down (Soft Exposure on OpenImages)."""
    flips = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()])
    return View(plain_view(size, mean, std).prepare, flips)


def randaugment_view(size: tuple[int, int], mean: list[float], std: list[float]) -> View:
    """Resize, cover up to a quarter of the image, and two random operations (ASL, SPLC, P-ASL, DualCoOp)."""
    augment = v2.Compose([cover_half, random_operations, *_to_normalized_tensor(mean, std)])
    return View(_resize(size, InterpolationMode.BILINEAR), augment)


def weak_view(size: tuple[int, int], mean: list[float], std: list[float]) -> View:
    """Mirror half of the images, and resize a part of 8 to 100 % of the area (SCPNet)."""
    flip, crop = v2.RandomHorizontalFlip(), v2.RandomResizedCrop(size)
    return View(nn.Identity(), v2.Compose([flip, crop, *_to_normalized_tensor(mean, std)]))


def strong_view(size: tuple[int, int], mean: list[float], std: list[float]) -> View:
    """Three random operations, cover a part, and then the weak view (SCPNet)."""
    return View(nn.Identity(), v2.Compose([strong_operations, weak_view(size, mean, std)]))


def strong_shift_view(size: tuple[int, int], mean: list[float], std: list[float]) -> View:
    """The strong twin of `shift`, for images that must not be mirrored or cut into small parts."""
    return View(nn.Identity(), v2.Compose([strong_operations, shift_view(size, mean, std)]))


def _center_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return F.crop(image, (image.height - size[0]) // 2, (image.width - size[1]) // 2, *size)


def _scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _resize(size: tuple[int, int], interpolation: InterpolationMode = InterpolationMode.BICUBIC) -> v2.Transform:
    return v2.Resize(size, interpolation=interpolation)


def _to_normalized_tensor(mean: list[float], std: list[float]) -> list[v2.Transform]:
    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std), v2.ToPureTensor()]
