"""Views: what happens to a training image between the file and the model.

A view works on bytes; `normalized` makes numbers of them where the model runs. All random choices come from torch's
global generator, which `PartialLabelImages` sets per image and epoch.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from .photos import image_of, pixels_of
from .random_operations import cover_half, random_operations, strong_operations

SMALLEST_PART = 0.08  # of the area of an image, that the view `weak` cuts out


@dataclass(frozen=True)
class OneOf:
    """A random choice among few changes of an image.

    changes: all of them.
    draw: the number of one of them.
    """

    changes: tuple[Callable[[Tensor], Tensor], ...]
    draw: Callable[[], int]

    def __call__(self, pixels: Tensor) -> Tensor:
        return self.changes[self.draw()](pixels)


@dataclass(frozen=True)
class View:
    """From the pixels of an image, `(3, any height, any width)` uint8, to those that the model sees, in two steps.

    prepare: what is the same in every epoch; its result is kept in memory for a small data set.
    augment: the random choices; it must not change what it is given.
    least_side: an image with so many pixels on both sides is large enough, see `draft` of `open_pixels`.
    """

    prepare: Callable[[Tensor], Tensor]
    augment: Callable[[Tensor], Tensor] = nn.Identity()
    least_side: int | None = None

    def __call__(self, pixels: Tensor) -> Tensor:
        return self.augment(self.prepare(pixels))

    @property
    def outcomes(self) -> OneOf | None:
        """All that `augment` may do, where that is little enough to be computed beforehand."""
        if isinstance(self.augment, nn.Identity):
            return OneOf((_unchanged,), _first)
        return self.augment if isinstance(self.augment, OneOf) else None


def normalized(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Bytes `(..., 3, height, width)` as a model wants them, with the same bits as from its image processor.

    Numbers that are no bytes come back as they are: a processor has normalised them.
    """
    if pixels.dtype != torch.uint8:
        return pixels
    levels, deviation = _channel_levels(tuple(mean), tuple(std), pixels.device)
    return pixels.float().sub_(levels).div_(deviation)


def view_digest(view: View) -> str:
    """SHA-256 of what `view` makes of two pictures of noise, a large and a small one: equal views have equal ones.

    Random choices start from a fixed seed.
    """
    digest = hashlib.sha256()
    with seeded(0):
        for size in (611, 457), (23, 31):
            digest.update(view(torch.randint(256, (3, *size), dtype=torch.uint8)).contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def seeded(key: int) -> Iterator[None]:
    """Inside the block torch's CPU generator starts from `key`; afterwards it goes on as if nothing had happened.

    Like `torch.random.fork_rng`, at a fifth of its cost per image.
    """
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(key)
    try:
        yield
    finally:
        torch.set_rng_state(state)


def draw_for_each(keys: Iterable[int], draw: Callable[[], int]) -> list[int]:
    """The number that `draw` gives inside of `seeded(key)`, for each of the `keys`."""
    numbers = []
    with seeded(0):  # once for all: to save and restore the generator takes longer than a draw
        for key in keys:
            torch.default_generator.manual_seed(key)
            numbers.append(draw())
    return numbers


@cache  # a copy to the device in every step would make the host wait for it
def _channel_levels(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel in grey levels, `(3, 1, 1)` each."""
    levels, deviation = (torch.tensor(values).view(3, 1, 1) * 255 for values in (mean, std))
    return levels.to(device), deviation.to(device)


def fixed_view(
    size: tuple[int, int] | int,
    interpolation: InterpolationMode = InterpolationMode.BICUBIC,
    crop: tuple[int, int] | None = None,
) -> View:
    """Resize, and cut out the centre on request; nothing is random.

    Args:
        size: (height, width), or the shorter side of an image that keeps its proportions.
        crop: (height, width) of the centre. Of an odd rest, the left or upper part is the smaller one.
    """
    resize: Callable[[Tensor], Tensor] = v2.Resize(size, interpolation)
    center = resize if crop is None else v2.Compose([resize, partial(_center_crop, size=crop)])
    return View(center, least_side=size if isinstance(size, int) else max(size))


def plain_view(size: tuple[int, int]) -> View:
    """Resize to `size`, (height, width)."""
    return fixed_view(size)


def center_crop_view(size: tuple[int, int]) -> View:
    """Resize the shorter side to the longer one of `size`, cut out the centre (SCPNet)."""
    return fixed_view(max(size), InterpolationMode.BILINEAR, crop=size)


def views_of_tiles(view: View, grid: int) -> list[View]:
    """`view` of each tile of an image that is cut into `grid` rows and columns, row by row; what is left of a side is
    cut off (AEVLP)."""
    least_side = None if view.least_side is None else grid * view.least_side
    places = [(row, column) for row in range(grid) for column in range(grid)]
    cuts = [partial(_tile, row=row, column=column, grid=grid) for row, column in places]
    return [View(v2.Compose([cut, view.prepare]), view.augment, least_side) for cut in cuts]


def shift_view(size: tuple[int, int]) -> View:
    """Resize, and move the image by up to an eighth of its side; the edge is repeated."""
    pad = v2.Pad([size[1] // 8, size[0] // 8], padding_mode="edge")
    return View(v2.Compose([_resize(size), pad]), v2.RandomCrop(size), max(size))


def crop_flip_view(size: tuple[int, int]) -> View:
    """Training view of SST and SARB: at 448 px, resize to 512, crop 512, 448, 384, 320 or 256, resize, mirror."""
    whole = _scaled(size, 512 / 448)
    crops = v2.RandomChoice([v2.RandomCrop(_scaled(size, scale / 448)) for scale in (512, 448, 384, 320, 256)])
    augment = v2.Compose([crops, _resize(size), v2.RandomHorizontalFlip()])
    return View(_resize(whole), augment, max(whole))


def crop_view(size: tuple[int, int]) -> View:
    """Training view of SSGRL (ICCV 2019): at 576 px, resize to 640, crop 640, 576, 512, 384 or 320, resize."""
    bilinear, whole = InterpolationMode.BILINEAR, _scaled(size, 640 / 576)
    crops = v2.RandomChoice([v2.RandomCrop(_scaled(size, scale / 576)) for scale in (640, 576, 512, 384, 320)])
    return View(_resize(whole, bilinear), v2.Compose([crops, _resize(size, bilinear)]), max(whole))


def flip_view(size: tuple[int, int]) -> View:
    """Resize, and mirror half of the images (ROLE, LargeLoss)."""
    return View(_resize(size), MIRRORED, max(size))


def flip_both_view(size: tuple[int, int]) -> View:
    """Resize, mirror half of the images, and turn half of them upside down (Soft Exposure on OpenImages)."""
    return View(_resize(size), OneOf((_unchanged, mirrored, F.vertical_flip, _turned), _two_coins), max(size))


def randaugment_view(size: tuple[int, int]) -> View:
    """Resize, cover up to a quarter of the image, and two random operations (ASL, SPLC, P-ASL, DualCoOp)."""
    return View(_resize(size, InterpolationMode.BILINEAR), partial(_with_pillow, _cover_and_change), max(size))


def weak_view(size: tuple[int, int]) -> View:
    """Mirror half of the images, and resize a part of 8 to 100 % of the area (SCPNet)."""
    crop = v2.RandomResizedCrop(size, scale=(SMALLEST_PART, 1.0))
    least_side = round(max(size) * SMALLEST_PART**-0.5)
    return View(nn.Identity(), v2.Compose([v2.RandomHorizontalFlip(), crop]), least_side)


def strong_view(size: tuple[int, int]) -> View:
    """Three random operations, cover a part, and then the weak view (SCPNet)."""
    return _strong(weak_view(size))


def strong_shift_view(size: tuple[int, int]) -> View:
    """The strong twin of `shift`, for images that must not be mirrored or cut into small parts."""
    return _strong(shift_view(size))


def _strong(weak: View) -> View:
    return View(nn.Identity(), v2.Compose([partial(_with_pillow, strong_operations), weak]), weak.least_side)


def _with_pillow(function: Callable[[Image.Image], Image.Image], pixels: Tensor) -> Tensor:
    """Operations of PIL take a third of the time of those on tensors, and are the published ones."""
    return pixels_of(function(image_of(pixels)))


def _cover_and_change(image: Image.Image) -> Image.Image:
    return random_operations(cover_half(image))


def _center_crop(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    return F.crop(pixels, (pixels.shape[1] - size[0]) // 2, (pixels.shape[2] - size[1]) // 2, *size)


def _tile(pixels: Tensor, row: int, column: int, grid: int) -> Tensor:
    height, width = (max(1, side // grid) for side in pixels.shape[1:])
    return F.crop(pixels, row * height, column * width, height, width)


def _unchanged(pixels: Tensor) -> Tensor:
    return pixels


def mirrored(pixels: Tensor) -> Tensor:
    """The mirror image, left and right exchanged."""
    return F.horizontal_flip(pixels)


def _turned(pixels: Tensor) -> Tensor:
    return F.vertical_flip(mirrored(pixels))


def _first() -> int:
    return 0


def _coin() -> int:
    return int(torch.rand(1).item() < 0.5)  # the draw of torchvision's random flips


def _two_coins() -> int:
    return _coin() + 2 * _coin()


MIRRORED = OneOf((_unchanged, mirrored), _coin)  # half of the images


def _scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _resize(size: tuple[int, int], interpolation: InterpolationMode = InterpolationMode.BICUBIC) -> v2.Transform:
    return v2.Resize(size, interpolation=interpolation)
