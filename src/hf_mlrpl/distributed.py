"""The few places where processes talk to each other."""

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
