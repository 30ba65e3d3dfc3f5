"""Random operations on images: those of ASL, SPLC, P-ASL and DualCoOp, and the strong ones of FixMatch and SCPNet.

The operations are torchvision's. Its own `RandAugment` has others, and one magnitude for all of them. All random
choices come from torch's global generator.
"""

import math
from collections.abc import Callable

import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

GREY, BLACK = [128.0, 128.0, 128.0], [0.0, 0.0, 0.0]
COVER_COLOUR = (125, 122, 113)
STRONG_COVER_COLOUR = (125, 123, 114)
MAX_LEVEL = 9


def random_operations(image: Image.Image) -> Image.Image:
    """Draw two of `OPERATIONS`, each with a level of 1 to 9, and apply each with probability 0.5.

    As the PyPI package `randaugment` 1.0 does.
    """
    for _ in range(2):
        operation = list(OPERATIONS.values())[_draw(len(OPERATIONS))]
        level = 1 + _draw(MAX_LEVEL)
        if _draw(2):
            image = operation(image, level / MAX_LEVEL)
    return image


def strong_operations(image: Image.Image) -> Image.Image:
    """Apply three of `STRONG_OPERATIONS`, the same one more than once if it is drawn so, and cover a square.

    RandAugment as in FixMatch (Sohn et al., NeurIPS 2020) and SCPNet. The square is at most half as wide as the image.
    """
    for _ in range(3):
        image = list(STRONG_OPERATIONS.values())[_draw(len(STRONG_OPERATIONS))](image)
    side = _between(0.0, 0.5) * image.width
    return _cover(image, side, side, STRONG_COVER_COLOUR)


def cover_half(image: Image.Image) -> Image.Image:
    """Cover a rectangle of half the height and half the width, cut off at the border, with one random colour."""
    colour = (_draw(256), _draw(256), _draw(256))
    return _cover(image, image.width / 2, image.height / 2, colour)


def _cover(image: Image.Image, width: float, height: float, colour: tuple[int, int, int]) -> Image.Image:
    """Cover a rectangle around a random pixel."""
    x, y = _draw(image.width), _draw(image.height)
    left, top = max(0, round(x - width / 2)), max(0, round(y - height / 2))
    right, bottom = min(image.width, round(x + width / 2)), min(image.height, round(y + height / 2))
    image = image.copy()
    image.paste(colour, (left, top, right, bottom))
    return image


def _shear(
    image: Image.Image,
    x: float,
    y: float,
    fill: list[float] = GREY,
    interpolation: InterpolationMode = InterpolationMode.BICUBIC,
) -> Image.Image:
    angles = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    return F.affine(image, 0.0, [0, 0], 1.0, angles, interpolation=interpolation, fill=fill, center=[0.0, 0.0])


def _translate(image: Image.Image, x: float, y: float, fill: list[float] = GREY) -> Image.Image:
    return F.affine(image, 0.0, [round(x * image.width), round(y * image.height)], 1.0, [0.0, 0.0], fill=fill)


def _draw(count: int) -> int:
    """A number below `count`."""
    return int(torch.randint(count, ()))


def _between(low: float, high: float) -> float:
    return float(torch.empty(()).uniform_(low, high))


def _either_sign(value: float) -> float:
    return value if _draw(2) else -value


# From an image and a strength in (0, 1] to an image. Invert, auto-contrast and equalize have no strength.
OPERATIONS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "autocontrast": lambda image, strength: F.autocontrast(image),
    "equalize": lambda image, strength: F.equalize(image),
    "invert": lambda image, strength: F.invert(image),
    "rotate": lambda image, strength: F.rotate(image, 30 * strength, fill=GREY),
    "posterize": lambda image, strength: F.posterize(image, round(8 - 4 * strength)),
    "solarize": lambda image, strength: F.solarize(image, 256 - 256 * strength),
    "color": lambda image, strength: F.adjust_saturation(image, 1 + _either_sign(0.9 * strength)),
    "contrast": lambda image, strength: F.adjust_contrast(image, 1 + _either_sign(0.9 * strength)),
    "brightness": lambda image, strength: F.adjust_brightness(image, 1 + _either_sign(0.9 * strength)),
    "sharpness": lambda image, strength: F.adjust_sharpness(image, 1 + _either_sign(0.9 * strength)),
    "shear_x": lambda image, strength: _shear(image, _either_sign(0.3 * strength), 0),
    "shear_y": lambda image, strength: _shear(image, 0, _either_sign(0.3 * strength)),
    "translate_x": lambda image, strength: _translate(image, _either_sign(150 / 331 * strength), 0),
    "translate_y": lambda image, strength: _translate(image, 0, _either_sign(150 / 331 * strength)),
    "cover": lambda image, strength: _cover(image, 20 * strength, 20 * strength, COVER_COLOUR),
}

# From an image to an image. What an operation uncovers is black, and pixels are not interpolated (authors' code).
STRONG_OPERATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "identity": lambda image: image,
    "autocontrast": lambda image: F.autocontrast(image),
    "equalize": lambda image: F.equalize(image),
    "brightness": lambda image: F.adjust_brightness(image, _between(0.05, 0.95)),
    "color": lambda image: F.adjust_saturation(image, _between(0.05, 0.95)),
    "contrast": lambda image: F.adjust_contrast(image, _between(0.05, 0.95)),
    "sharpness": lambda image: F.adjust_sharpness(image, _between(0.05, 0.95)),
    "posterize": lambda image: F.posterize(image, 4 + _draw(4)),
    "solarize": lambda image: F.solarize(image, _between(0, 256)),
    "rotate": lambda image: F.rotate(image, _between(-30, 30), fill=BLACK),
    "shear_x": lambda image: _shear(image, _between(-0.3, 0.3), 0, BLACK, InterpolationMode.NEAREST),
    "shear_y": lambda image: _shear(image, 0, _between(-0.3, 0.3), BLACK, InterpolationMode.NEAREST),
    "translate_x": lambda image: _translate(image, _between(-0.3, 0.3), 0, BLACK),
    "translate_y": lambda image: _translate(image, 0, _between(-0.3, 0.3), BLACK),
}
