"""Fixtures for all tests."""

import functools
import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Workers share the cores, and some trainings choose another number for all that follow in their process, which rounds
# sums otherwise. torch reads it when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What is kept between runs, of this session alone; huggingface_hub reads the variable when it is imported.
_ASSETS = tempfile.TemporaryDirectory(prefix="hf-mlrpl-tests-")
os.environ["HF_ASSETS_CACHE"] = _ASSETS.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that no worker is left with them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Leave what is imported by now out of garbage collections: each trainer starts one, half a second of search."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def scenes_are_drawn_once() -> Iterator[None]:
    """For all recipes of a process; `test_digit_scenes.py` has the function itself."""
    from hf_mlrpl.data.collections import digit_scenes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digit_scenes, "load_digit_scenes", functools.cache(digit_scenes.load_digit_scenes))
        yield


@pytest.fixture(scope="session", autouse=True)
def garbage_is_collected_when_there_is_some() -> Iterator[None]:
    """Each trainer lets go of what it had by a collection, a tenth of a second of search."""
    from accelerate.utils import memory

    clear = memory.clear_device_cache
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "clear_device_cache", lambda garbage_collection=False: clear())
        yield


@pytest.fixture(scope="session")
def coco_mini() -> Path:
    """The folder of a small set of real COCO photos; `HF_MLRPL_COCO_MINI` names another place."""
    beside_the_project = Path(__file__).parents[1].parent / "shared" / "data" / "coco_mini"
    folder = Path(os.environ.get("HF_MLRPL_COCO_MINI", beside_the_project))
    assert (folder / "annotations").is_dir(), (
        f"The tests need the photos of coco_mini, but there is no folder {folder / 'annotations'}. "
        "Set the environment variable HF_MLRPL_COCO_MINI to the folder."
    )
    return folder


@pytest.fixture
def online(tmp_path, monkeypatch):
    """A Hub of this test, which the client talks to with the token of its user; see `hub_server.Hub`."""
    import huggingface_hub.constants
    import huggingface_hub.utils._http
    import transformers.utils.hub
    from hub_server import TOKEN, hub

    folder = tmp_path / "hub"
    folder.mkdir()
    constants = huggingface_hub.constants
    with hub(folder) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(transformers.utils.hub, "_hf_api", None, raising=False)  # it keeps the address
        monkeypatch.setattr(huggingface_hub.utils._http.time, "sleep", lambda seconds: None)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
