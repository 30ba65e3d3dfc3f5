"""Opening images: one function for every file a user may bring, and one error that names the file."""

import hashlib
import http.client
import io
import logging
import os
import struct
import urllib.request
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from ..files import UNREAD_SUFFIXES, describe_left_out, is_file

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = tuple(
    ".avif .bmp .gif .jfif .jpe .jpeg .jpg .pbm .pgm .png .ppm .tif .tiff .webp".split()  # compared in lower case
)
DOWNLOAD_TIMEOUT = 20.0  # seconds without an answer
MAX_DOWNLOAD_BYTES = 200_000_000

# What Pillow's decoders raise on damaged files, besides `OSError`.
_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
)
_TOO_LARGE = (Image.DecompressionBombWarning, Image.DecompressionBombError, MemoryError)

# EXIF orientations where width and height are exchanged, and the axes that are mirrored after that.
_TURNED = (5, 6, 7, 8)
_FLIPPED = {2: (2,), 3: (1, 2), 4: (1,), 6: (2,), 7: (1, 2), 8: (1,)}

Source = str | os.PathLike | bytes | dict | Image.Image


class BadImageError(ValueError):
    """An image that cannot be read. The message names the file and the row, the fault, and the way out."""

    fault: str = ""  # the fault alone, for a list of many bad images


def open_image(source: Source, name: str | None = None, *, timeout: float = DOWNLOAD_TIMEOUT) -> Image.Image:
    """The image as 8 bit RGB, upright.

    Animations give their first frame, transparent pixels become white, and the EXIF orientation is applied. 16 bit
    grey is scaled by 1/257, not clipped; 32 bit grey has no fixed range and is stretched from its own minimum to its
    own maximum. An image of more pixels than `PIL.Image.MAX_IMAGE_PIXELS` (89 million unless changed) is refused.

    Args:
        source: a path, an http(s) address, the bytes of a file, an undecoded row `{"path", "bytes"}` of a
            `datasets.Image` column, or an image of PIL.
        name: where `source` stands, for the error message: a row of a table, an image id.
        timeout: seconds to wait for a server.

    Raises:
        BadImageError: whatever is wrong with the image.
    """
    label = _describe(source, name)
    content = _content(source, label, timeout)
    with _named_faults(label):
        return _upright_rgb(_open(content))


def open_pixels(source: Source, name: str | None = None, *, draft: int | None = None) -> Tensor:
    """The pixels of `open_image`, `(3, height, width)` uint8, which most JPEG files give twice as fast without PIL.

    Args:
        draft: decode a JPEG file at a half, a quarter or an eighth of its width and height, the smallest of them with
            at least so many pixels on each side. Much faster for large photos; the pixels differ a little.
    """
    label = _describe(source, name)
    content = _content(source, label)
    with _named_faults(label):
        image = _open(content)
        full_size = image.size
        if draft is not None and isinstance(content, bytes):
            image.draft(None, (draft, draft))
        pixels = _decode_jpeg(content, image) if image.size == full_size else None
        return pixels_of(_upright_rgb(image)) if pixels is None else pixels


def photo_digest(source: Source) -> bytes:
    """16 bytes that tell the content of one image file from that of any other; zeros where it cannot be read."""
    try:
        content = _content(source, "")
    except BadImageError:
        return bytes(16)
    data = content if isinstance(content, bytes) else content.tobytes()
    return hashlib.blake2b(data, digest_size=16).digest()


def pixels_of(image: Image.Image) -> Tensor:
    """The pixels of an RGB image, `(3, height, width)` uint8; in memory the channels of a pixel stand together."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def image_of(pixels: Tensor) -> Image.Image:
    """The image of PIL with these pixels, `(3, height, width)` uint8."""
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def find_images(folder: str | os.PathLike) -> list[Path]:
    """All image files in `folder` and its subfolders, sorted by path; hidden files and folders are left out."""
    return [Path(file) for file in image_files(folder)]


def image_files(folder: str | os.PathLike) -> Iterator[str]:
    """The paths of `find_images` one after the other, for folders of a million images."""
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"Folder `{folder}` does not exist or is not a folder.")
    is_empty, others, links = True, Counter[str](), list[str]()
    for file in _images_below(os.fspath(folder), others, links):
        is_empty = False
        yield file
    left_out = describe_left_out(others, links)
    if is_empty:
        looked_for = f"Looked for {' '.join(IMAGE_SUFFIXES)}."
        raise FileNotFoundError(f"Folder `{folder}` holds no image. {looked_for} {left_out}".rstrip())
    if left_out:
        logger.warning("%s: %s", folder, left_out)


def _images_below(folder: str, others: Counter[str], links: list[str]) -> Iterator[str]:
    """Links to folders are not followed, which may lead round in circles; they and dead ones are added to `links`."""
    with os.scandir(folder) as entries:
        visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in visible:
        if entry.is_dir(follow_symlinks=False):
            yield from _images_below(entry.path, others, links)
        elif entry.is_symlink() and not is_file(entry):
            if os.path.isdir(entry.path) or entry.name.lower().endswith(IMAGE_SUFFIXES):
                links.append(entry.path)
        elif entry.name.lower().endswith(IMAGE_SUFFIXES):
            if is_file(entry):
                yield entry.path
        elif entry.name.lower().endswith(UNREAD_SUFFIXES):
            others[os.path.splitext(entry.name)[1].lower()] += 1


def is_url(source: object) -> bool:
    """Whether `source` is an http or https address."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def _content(source: Source, label: str, timeout: float = DOWNLOAD_TIMEOUT) -> bytes | Image.Image:
    """The bytes of the file, or the image of PIL that came in its place."""
    if isinstance(source, Image.Image):
        return source
    file: Any = source
    if isinstance(source, dict):
        file = source.get("path") if source.get("bytes") is None else source["bytes"]
    if file is None:
        raise _bad_image(label, "there is neither a path nor bytes")
    if not isinstance(file, str | os.PathLike | bytes | bytearray):
        raise TypeError(
            f"An image must be a path, an address, bytes, a dict with `path` and `bytes`, or a PIL image, got "
            f"{type(file).__name__} for {label}."
        )
    content = bytes(file) if isinstance(file, bytes | bytearray) else _read(file, label, timeout)
    if not content:
        raise _bad_image(label, "the file is empty (0 bytes)")
    return content


def _read(source: str | os.PathLike, label: str, timeout: float) -> bytes:
    if is_url(source):
        return _download(str(source), label, timeout)
    try:
        return Path(source).read_bytes()
    except FileNotFoundError:
        raise _bad_image(label, "the file does not exist", "Check the path") from None
    except IsADirectoryError:
        raise _bad_image(label, "this is a folder", "Name an image file") from None
    except (OSError, ValueError) as error:  # no permission, a name too long, a zero byte in the name
        raise _bad_image(label, f"the file cannot be read ({error})", "Check the path") from error


def _download(url: str, label: str, timeout: float) -> bytes:
    advice = "Check the address and the network, or download the file yourself"
    try:
        request = urllib.request.Request(
            url, headers={"User-Agent": "hf-mlrpl"}
        )  # some sites refuse Python's own name
        with urllib.request.urlopen(request, timeout=timeout) as response:
            content = response.read(MAX_DOWNLOAD_BYTES + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _bad_image(label, f"the download failed ({error})", advice) from error
    if len(content) > MAX_DOWNLOAD_BYTES:
        raise _bad_image(label, f"the download exceeds {MAX_DOWNLOAD_BYTES / 1e6:.0f} MB", advice)
    return content


@contextmanager
def _named_faults(label: str) -> Iterator[None]:
    """Inside the block, what is wrong with an image becomes a `BadImageError` that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except _TOO_LARGE as error:
        advice = "Shrink it, or raise `PIL.Image.MAX_IMAGE_PIXELS` if you trust the file"
        raise _bad_image(label, f"the image is too large ({error})", advice) from error
    except Image.UnidentifiedImageError:
        raise _bad_image(label, "this is not an image, or of an unknown format") from None
    except _DECODING_ERRORS as error:
        raise _bad_image(label, f"the image is damaged or truncated ({error})") from error


def _open(content: bytes | Image.Image) -> Image.Image:
    return Image.open(io.BytesIO(content)) if isinstance(content, bytes) else content


def _decode_jpeg(content: bytes | Image.Image, header: Image.Image) -> Tensor | None:
    """The upright pixels of a grey or RGB JPEG file; `None` of all others, and of what is damaged."""
    is_plain = header.format in ("JPEG", "MPO") and header.mode in ("L", "RGB")
    if not is_plain or not isinstance(content, bytes):
        return None
    try:
        pixels = decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.RGB)
    except RuntimeError:
        return None
    orientation = header.getexif().get(ExifTags.Base.Orientation, 1)
    upright = pixels.mT if orientation in _TURNED else pixels
    return upright.flip(_FLIPPED[orientation]) if orientation in _FLIPPED else upright


def _upright_rgb(image: Image.Image) -> Image.Image:
    """`image` itself where it is upright and RGB: copies of a large photo take a third of the time of decoding it."""
    image.load()
    is_upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    return _to_rgb(image if is_upright else ImageOps.exif_transpose(image))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return Image.fromarray(_to_eight_bits(np.asarray(image), image.mode)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _to_eight_bits(grey: np.ndarray, mode: str) -> np.ndarray:
    """Grey values of 16 or 32 bits as 8 bit, `(height, width)`; "I" also holds 16 bit files, of PGM for instance."""
    values = grey.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("some pixels are infinite or no numbers")
    if mode.startswith("I;16") or (mode == "I" and values.min() >= 0 and values.max() <= 65535):
        return np.rint(values / 257).astype(np.uint8)
    low, high = values.min(), values.max()
    return np.rint((values - low) / max(high - low, np.finfo(np.float64).tiny) * 255).astype(np.uint8)


def _describe(source: object, name: str | None) -> str:
    if isinstance(source, dict):
        source = source.get("path") or source.get("bytes")
    if isinstance(source, Image.Image):
        source = getattr(source, "filename", "") or "a PIL image"
    if isinstance(source, bytes | bytearray):
        source = f"{len(source)} bytes in memory"
    where = str(source) if isinstance(source, str | os.PathLike) else "image without a path"
    return where if name is None else f"{where} ({name})"


def _bad_image(label: str, fault: str, advice: str = "Replace or remove it") -> BadImageError:
    skip = "`data.on_bad_image=skip` for a recipe, `--on-bad-image skip` for `hf-mlrpl tag`"
    error = BadImageError(f"Bad image {label}: {fault}. {advice}, or skip bad images ({skip}).")
    error.fault = fault
    return error
