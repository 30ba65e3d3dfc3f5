"""What `hf-mlrpl doctor` finds out about processors, memory and processes."""

import os
import shutil
from pathlib import Path
from typing import Any

GIB = 2**30
LITTLE_MEMORY = 2 * GIB
LITTLE_SHARED_MEMORY = GIB  # through which workers hand over images
_SHARED_MEMORY = Path("/dev/shm")
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def is_main_process() -> bool:
    """Whether this is the process that prints; processes leave together."""
    from accelerate import PartialState

    from ..distributed import end_processes

    is_main = PartialState().is_main_process
    end_processes()
    return is_main


def is_alone() -> bool:
    """Whether no launcher has started other processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1


def examine_machine(problems: list[str]) -> dict[str, Any]:
    """Processes, devices, threads and memory."""
    from ..distributed import describe_processes
    from ..trainer.training_args import MultiLabelTrainingArguments

    _ = MultiLabelTrainingArguments("runs", report_to="none").device  # processes find each other as in a training
    return {
        "processes": describe_processes(),
        "devices": _devices(problems),
        "CPU cores": _cores(),
        "threads": _threads(problems),
        "memory": _memory(problems),
        "shared memory": _shared_memory(problems),
    }


def _devices(problems: list[str]) -> list[str]:
    import torch

    if torch.backends.mps.is_available():
        return ["mps (Apple)"]
    if not torch.cuda.is_available():
        _explain_missing_gpu(problems)
        return ["cpu"]
    return [_gpu(i, problems) for i in range(torch.cuda.device_count())]


def _gpu(i: int, problems: list[str]) -> str:
    import torch

    name = f"cuda:{i} {torch.cuda.get_device_name(i)}"
    try:
        torch.ones(2, device=f"cuda:{i}").sum().item()
        free, total = torch.cuda.mem_get_info(i)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        problems.append(f"{name} cannot be used: {reason}. Is it taken by another program, or too old for this torch?")
        return name
    if free < LITTLE_MEMORY:
        problems.append(f"{name} has only {_gib(free)} free. `nvidia-smi` shows what takes it.")
    return f"{name}, {_gib(free)} of {_gib(total)} free, bfloat16: {'yes' if torch.cuda.is_bf16_supported() else 'no'}"


def _explain_missing_gpu(problems: list[str]) -> None:
    import torch

    if shutil.which("nvidia-smi") is None and not Path("/proc/driver/nvidia/version").exists():
        return
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        problems.append("CUDA_VISIBLE_DEVICES hides the GPUs of this machine. Unset it.")
    elif torch.version.cuda is None and torch.version.hip is None:
        problems.append("This machine has an NVIDIA driver, but torch was built without CUDA. Install another build.")
    else:
        problems.append(
            f"This machine has an NVIDIA driver, but torch for CUDA {torch.version.cuda} finds no GPU. Is the driver "
            "too old for it?"
        )


def _cores() -> int:
    """Those that this process may use, without a quota."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota() -> float | None:
    """CPU cores of a container, where it may not use all that it sees."""
    try:
        share, period = _CPU_QUOTA.read_text().split()
        return None if share == "max" else int(share) / int(period)
    except (OSError, ValueError):
        return None


def _threads(problems: list[str]) -> int:
    import torch

    threads, cores, quota = torch.get_num_threads(), _cores(), _quota()
    if threads == 1 and cores > 1 and is_alone():  # launchers give each of several processes one thread
        name = next((name for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in os.environ), "a setting")
        problems.append(f"{name} makes torch use one of {cores} cores. Unset it, unless other programs need them.")
    most = min(cores, quota or cores)
    if threads > max(1, round(most)):
        problems.append(
            f"torch starts {threads} threads for {most:g} cores, which wait for each other: set OMP_NUM_THREADS="
            f"{max(1, int(most))}."
        )
    return threads


def _memory(problems: list[str]) -> str:
    import psutil

    memory = psutil.virtual_memory()
    if memory.available < LITTLE_MEMORY:
        problems.append(f"Only {_gib(memory.available)} of memory are free. Close other programs.")
    return f"{_gib(memory.available)} of {_gib(memory.total)} free"


def _shared_memory(problems: list[str]) -> str:
    if not _SHARED_MEMORY.is_dir():
        return "not limited"
    total = shutil.disk_usage(_SHARED_MEMORY).total
    if total < LITTLE_SHARED_MEMORY:
        problems.append(
            f"{_SHARED_MEMORY} has only {total / 2**20:.0f} MiB: processes that open images may die with a bus error. "
            "Start the container with --shm-size=8g, or set training.dataloader_num_workers=0."
        )
    return _gib(total)


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / GIB:.1f} GiB"
