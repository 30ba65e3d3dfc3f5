"""What cores, a GPU or several of them are asked to do otherwise than by default."""

import multiprocessing
import os
from typing import Any

import torch
from accelerate import Accelerator
from transformers.utils import logging

from ..data.images.torch_dataset import PartialLabelImages
from ..objective import Objective
from .training_args import MultiLabelTrainingArguments

logger = logging.get_logger(__name__)

MOST_WORKERS = 8  # by default; each of them has its own memory
WITHOUT_BFLOAT16 = ("NO AVX", "AVX2")  # x86 before AVX-512


def workers_for(images: Any, args: MultiLabelTrainingArguments) -> int:
    """How many processes shall open the training images, see `dataloader_num_workers`."""
    if args.dataloader_num_workers >= 0:
        return args.dataloader_num_workers
    spare = cores_of_process(args) - 1
    start = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    if start != "fork":  # elsewhere a script without `if __name__ == "__main__"` would run again in each of them
        return 0
    if spare < 1 or (images is not None and not _wait_for_files(images)):
        return 0
    return 1 if args.device.type == "cpu" else min(spare, MOST_WORKERS)


def _wait_for_files(images: Any) -> bool:
    """Whether `images` are opened at every epoch; those of others may be anything, and may not bear copies."""
    return isinstance(images, PartialLabelImages) and not images.stay_in_memory()


def cores_of_process(args: MultiLabelTrainingArguments) -> int:
    """Cores of this machine for each of the processes that train on it."""
    from joblib import cpu_count  # which knows about containers

    return max(1, cpu_count() // int(os.environ.get("LOCAL_WORLD_SIZE", args.world_size)))


def choose_threads(args: MultiLabelTrainingArguments) -> None:
    """Train on a CPU with `cpu_threads`, or, unless the environment says how many, with no more threads than there are
    cores beside those of the workers."""
    if args.device.type != "cpu":
        return
    left = max(1, cores_of_process(args) - args.dataloader_num_workers)
    if args.cpu_threads is not None:
        torch.set_num_threads(args.cpu_threads)
    elif args.dataloader_num_workers and "OMP_NUM_THREADS" not in os.environ and left < torch.get_num_threads():
        torch.set_num_threads(left)


def prepare_kernels(args: MultiLabelTrainingArguments) -> None:
    """Let cuDNN try which of its convolutions is fastest, once for each size, as `cudnn_benchmark` says."""
    torch.backends.cudnn.benchmark = args.cudnn_benchmark and not args.full_determinism


def warn_of_slow_bfloat16(args: MultiLabelTrainingArguments) -> None:
    """Say that this processor has no instructions for bfloat16, in which convolutions take several times as long."""
    capability = torch.backends.cpu.get_cpu_capability()
    if args.bf16 and args.device.type == "cpu" and capability in WITHOUT_BFLOAT16:
        logger.warning(
            "This processor (%s) has no instructions for bfloat16, so that a step takes several times as long as in "
            "float32: set `training.bf16=false`.",
            capability,
        )


def describe_precision(args: MultiLabelTrainingArguments) -> str:
    """What a GPU computes with, such as "float32 (TF32 in convolutions)"; nothing for a CPU in float32."""
    if args.bf16 or args.fp16:
        return "bfloat16" if args.bf16 else "float16"
    if args.device.type != "cuda":
        return ""
    cudnn: Any = torch.backends.cudnn  # whose types lack the attribute
    backends = {"convolutions": cudnn.conv, "matrix products": torch.backends.cuda.matmul}
    short = [name for name, backend in backends.items() if backend.fp32_precision == "tf32"]
    return f"float32 (TF32 in {' and '.join(short)})" if short else "float32"


def spare_search_for_unused_parameters(
    accelerator: Accelerator, args: MultiLabelTrainingArguments, objective: Objective, model: Any
) -> None:
    """Spare DDP its walk through the graph at every step, where each step gives a gradient to all parameters."""
    handler = accelerator.ddp_handler
    if args.ddp_find_unused_parameters is None and handler is not None and accelerator.num_processes > 1:
        handler.find_unused_parameters = handler.find_unused_parameters and bool(unreached(objective, model))


def unreached(objective: Objective, model: Any) -> list[str]:
    """Names of trained parameters of `model` that some step may leave without a gradient.

    Those behind the logits are found with one black image; what a model keeps in evaluation mode counts as unreached.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    beside = objective.reached_beside_logits()
    if beside is None:
        return list(trained)
    was_training = model.training
    with torch.enable_grad():
        pixels = torch.zeros(1, 3, *model.config.height_and_width, device=model.device)
        logits = model.eval()(pixels).logits
        gradients = torch.autograd.grad(logits.sum(), list(trained.values()), allow_unused=True)
    model.train(was_training)
    missed = [name for name, gradient in zip(trained, gradients, strict=True) if gradient is None]
    return [name for name in missed if not name.startswith(beside)]
