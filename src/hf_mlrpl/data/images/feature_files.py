"""Features of photos on the disk, found by the content of the photo, and what stands for its pixels in a batch."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from huggingface_hub import cached_assets_path, constants
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...faults import writing

FEATURES = "features"  # in a batch, in the place of pixels
PHOTOS = "photos"
PLACE = ("hf-mlrpl", "stored_features")  # in the cache
BYTES_PER_FILE = 2**26
UNFINISHED = ".unfinished"
UNREADABLE = bytes(16)
_PIXELS_NEEDED = (
    "{} needs the pixels of the images, but their features are stored. Set `training.store_features=false`; an "
    "objective that always needs them says so by `needs_pixels = True`."
)


class StoredFeatures:
    """What the frozen part of a backbone gave for a batch of images; `encode` of a model takes it like pixels.

    features: `(batch_size, channels, height, width)`, or `(batch_size, channels)`.
    """

    def __init__(self, features: Tensor):
        self.features = features

    def __len__(self) -> int:
        return len(self.features)

    @property
    def device(self) -> torch.device:
        return self.features.device

    @classmethod
    def __torch_function__(cls, function: Any, *_: Any, **__: Any) -> Any:
        raise TypeError(_PIXELS_NEEDED.format(f"torch.{function.__name__}"))

    def __getitem__(self, _: Any) -> Any:
        raise TypeError(_PIXELS_NEEDED.format("pixel_values[...]"))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(_PIXELS_NEEDED.format(f"pixel_values.{name}"))


def stored_in() -> Path:
    """The folder of all stored features; whoever deletes it has them made again."""
    return Path(constants.HF_ASSETS_CACHE).joinpath(*PLACE)


class FeatureFiles:
    """Features of photos, each found by a digest of its content, so that order and number of photos do not matter.

    They are safetensors files of 64 MiB in `hf-mlrpl/stored_features/<fingerprint>` of the cache of Hugging Face
    (`HF_ASSETS_CACHE`, by default `~/.cache/huggingface/assets`), each with `features` `(n, ...)` and `photos`
    `(n, 16)`, the digests. A photo that changed has another digest, and is computed again.

    Args:
        made_from: everything but the photos that the features depend on.
    """

    def __init__(self, made_from: dict[str, Any]):
        self.made_from = made_from
        self.fingerprint = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:32]
        with writing(stored_in(), ELSEWHERE):
            self.folder = cached_assets_path(*PLACE, subfolder=self.fingerprint)

    def find(self, photos: np.ndarray) -> "FoundFeatures":
        """The features of the photos with these digests, `(num_photos, 16)` uint8."""
        files = sorted(self.folder.glob("*.safetensors"))
        places: dict[bytes, tuple[int, int]] = {}
        for number, file in enumerate(files):
            digests = read_tensor(file, PHOTOS).numpy()
            places |= {digest.tobytes(): (number, row) for row, digest in enumerate(digests)}
        places.pop(UNREADABLE, None)
        found = [places.get(digest.tobytes(), (-1, -1)) for digest in photos]
        return FoundFeatures(files, np.array(found, dtype=np.int32).reshape(-1, 2))

    def add(self, photos: np.ndarray, features: Tensor) -> None:
        """Write a file in one piece, or not at all."""
        about = self.folder / "made_from.json"
        file = self.folder / f"{uuid4().hex}.safetensors"
        unfinished = file.with_suffix(UNFINISHED)
        with writing(file, f"{ELSEWHERE} What is written stays, and the next run goes on.", SafetensorError):
            try:
                if not about.is_file():
                    about.write_text(json.dumps(self.made_from, indent=2) + "\n")
                save_file({PHOTOS: torch.from_numpy(photos), FEATURES: features.contiguous()}, unfinished)
                unfinished.replace(file)
            finally:
                unfinished.unlink(missing_ok=True)

    def remove_unfinished(self) -> None:
        """Delete what a process left behind that was killed while it wrote. No other one may be writing."""
        for file in self.folder.glob(f"*{UNFINISHED}"):
            file.unlink(missing_ok=True)

    def lack_of_room(self, needed: int, share: float = 1.0) -> str:
        """What says that the disk has fewer bytes than `needed` in this `share` of what is free, or ""."""
        free = shutil.disk_usage(self.folder).free
        if needed <= share * free:
            return ""
        return (
            f"The features of the photos need {needed / 1e9:.1f} GB, and {self.folder} has {free / 1e9:.1f} GB left."
        )

    def check_room(self, needed: int) -> None:
        """Raise `OSError` where the disk has fewer bytes than `needed`."""
        if lack := self.lack_of_room(needed):
            raise OSError(f"{lack} Make room. {ELSEWHERE}")


ELSEWHERE = "HF_ASSETS_CACHE names another place, `training.store_features=false` needs none."


class FoundFeatures:
    """Features of a list of photos, read from the disk when they are asked for.

    Args:
        files: where they are.
        places: number of the file of each photo and the row in it, `(num_photos, 2)`; -1 where it has none.
    """

    def __init__(self, files: list[Path], places: np.ndarray):
        self._files, self._places = files, places
        self._opened: dict[int, Tensor] = {}

    @property
    def is_missing(self) -> np.ndarray:
        """`(num_photos,)`."""
        return self._places[:, 0] < 0

    @property
    def have_maps(self) -> bool:
        """Whether the features of a photo are a map, `(channels, height, width)`, and not a vector."""
        return not self.is_missing.all() and self.zeros().ndim == 3

    def zeros(self) -> Tensor:
        """What has the shape of one photo's features."""
        return torch.zeros_like(self[int(np.flatnonzero(~self.is_missing)[0])])

    def __getitem__(self, index: int) -> Tensor:
        number, row = self._places[index].tolist()
        if number not in self._opened:
            self._opened[number] = read_tensor(self._files[number], FEATURES)  # maps the file into memory
        return self._opened[number][row]

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_opened": {}}  # a worker process opens them itself


def read_tensor(file: Path, name: str) -> Tensor:
    try:
        with safe_open(file, "pt") as content:
            return content.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is damaged ({error}). Delete it; the features in it are then made again.") from error
