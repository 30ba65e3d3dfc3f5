"""Fresh processes that have their imports behind them: one fork server for all tests of a session."""

import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import huggingface_hub.utils._cache_assets
import torch
from huggingface_hub import constants

from hf_mlrpl.cli import sweep

CONTEXT = multiprocessing.get_context("forkserver")
IMPORTED = [*sweep._PRELOADED, "hf_mlrpl.auto", "datasets", "matplotlib.pyplot"]
KILLED = -signal.SIGKILL


def serve() -> None:
    """Start the server, unless it runs: before code that would start one with fewer imports."""
    CONTEXT.set_forkserver_preload(IMPORTED)
    forkserver.ensure_running()


def start(
    work: Callable[..., int | None],
    *arguments: Any,
    environment: Mapping[str, str] | None = None,
    assets: Path | None = None,
    output: Path = Path(os.devnull),
) -> BaseProcess:
    """A process that ends with what `work` returns as its exit code.

    environment: variables that it has besides those of the tests.
    assets: its cache, instead of the one that the tests share.
    output: a file for what it prints.
    """
    serve()
    settings = (dict(environment or {}), assets, output, torch.get_num_threads())
    process = CONTEXT.Process(target=_live, args=(work, arguments, *settings))
    process.start()
    return process


def _live(
    work: Callable, arguments: tuple, environment: dict, assets: Path | None, output: Path, num_threads: int
) -> None:
    gc.freeze()  # as in conftest.py
    multiprocessing.set_start_method(None, force=True)  # for its own children, as in any other process
    torch.set_num_threads(num_threads)
    os.environ |= environment
    if assets is not None:
        constants.HF_ASSETS_CACHE = huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE = str(assets)
    with open(output, "w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.exit(work(*arguments))


def exit_codes(*processes: BaseProcess) -> list[int | None]:
    """Of `processes`, when they have ended; None for one that has not within minutes."""
    for process in processes:
        process.join(240)
    return [process.exitcode for process in processes]
