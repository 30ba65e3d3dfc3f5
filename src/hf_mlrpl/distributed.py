"""The few places where processes talk to each other."""

import os

import torch
from accelerate import PartialState
from accelerate.utils import gather, reduce
from torch import Tensor, nn


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate `rows` of all processes in the order of their ranks; one process gets its own rows back.

    Every process must pass the same shape, which Accelerate's `even_batches` guarantees for the rows of a batch.
    """
    if not torch.distributed.is_initialized():
        return rows
    return gather(rows.contiguous())


def share_buffers(model: nn.Module) -> None:
    """Give all processes the buffers of the first one; DDP does so only when the next training step begins.

    Until then each process has the batch statistics of its own images.
    """
    if torch.distributed.is_initialized():
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)


def total_over_processes(count: int) -> int:
    """The sum of `count` over all processes."""
    return int(sum_over_processes(torch.tensor(count)))


def sum_over_processes(tensor: Tensor) -> Tensor:
    """The sum of `tensor`, which has the same shape on all processes, on the device where it is."""
    if not torch.distributed.is_initialized():
        return tensor
    return reduce(tensor.to(PartialState().device), "sum").to(tensor.device)


def state_digest(state: dict[str, Tensor]) -> str:
    """SHA-256 of the names, shapes and bytes of `state`, to compare memory across processes or runs."""
    import hashlib

    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.flatten().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def launched_processes() -> tuple[int, int]:
    """Number of this process and of all of them, as `accelerate launch` and `torchrun` tell; without connecting them.

    For work that needs no exchange: one process that fails or is slow then disturbs no other.
    """
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def launch_name() -> str:
    """What the processes of one launch have in common: what they are told, and, where `torchrun` or `accelerate
    launch` started all of them on one machine, their parent."""
    told = " ".join(os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"))
    is_elastic = "TORCHELASTIC_RUN_ID" in os.environ
    if is_elastic and os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE"):
        return f"{told} below {os.getppid()}"
    return told


def own_device() -> torch.device:
    """The GPU of this process, those of a machine dealt out to its processes; the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())


def describe_processes() -> str:
    """One line that says how many processes really run, and on what."""
    state = PartialState()
    count = state.num_processes
    return f"{count} process{'es' if count > 1 else ''} on {state.device.type}"


def end_processes() -> None:
    """Leave together; gloo aborts now and then when one process exits while another still talks to it."""
    state = PartialState()
    state.wait_for_everyone()
    state.destroy_process_group()
