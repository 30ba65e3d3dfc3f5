"""How fast the library is, and how much memory it needs. Weights and images are random.

    python training/benchmark.py --quick                  at most three minutes of one thread of a CPU
    python training/benchmark.py --json all.json --markdown all.md
    python training/benchmark.py --parts step inference --tables steps --batch-size 16 --repeats 5 --device cuda

Parts compare the fast code with the plain transcription in plain.py and plain_clip.py: both sides run in turn in one
process, the medians are compared. On a CPU the peak memory of each side is measured in a process of its own, since
what an allocator keeps cannot be told from what is used. Tables measure the library alone: the step of each method
over its bare backbone, that and the inference of decoders by the number of labels, bank and pair scores, the Trainer,
start-up, metrics and annotations.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

_ASSETS = tempfile.TemporaryDirectory(prefix="hf-mlrpl-benchmark-")  # huggingface_hub reads it when it is imported
os.environ["HF_ASSETS_CACHE"] = _ASSETS.name

import torch  # noqa: E402
from benchmark_ours import TABLES, Row  # noqa: E402
from benchmark_parts import KNOWN, NUM_PHOTOS, PARTS, Sides  # noqa: E402
from transformers.utils import logging  # noqa: E402

from hf_mlrpl.allocator import keep_freed_memory  # noqa: E402

MIB = 2**20
QUICK_PARTS = ("input_pipeline", "decoupling", "similarity", "pseudo_labels", "pair_head", "map", "step", "inference")


def median_milliseconds(sides: Sides, repeats: int, device: str) -> dict[str, float]:
    """Medians of `repeats` runs, after one for warming up; the sides take turns.

    One thread of a CPU is asked for its own time, which other processes disturb less.
    """
    alone = device == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    times: dict[str, list[float]] = {side: [] for side in sides}
    for repeat in range(repeats + 1):
        for side, function in sides.items():
            _synchronize(device)
            start = clock()
            function()
            _synchronize(device)
            if repeat:
                times[side].append(1000 * (clock() - start))
    return {side: statistics.median(values) for side, values in times.items()}


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def peak_memory(function: Callable[[], object], device: str) -> float:
    """MiB that one run of `function` needs at most, on top of what is there before."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    before = _peak_resident_mib()
    function()
    return _peak_resident_mib() - before


def _peak_resident_mib() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # Linux; `getrusage` would include the peak of the parent process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB  # macOS counts bytes


def measure_memory(part: str, sides: Iterable[str], args: argparse.Namespace) -> dict[str, float]:
    """MiB at the peak of each side; on a CPU in a process of its own."""
    if args.device == "cuda":
        made = PARTS[part][1](args)
        return {side: peak_memory(made[side], args.device) for side in sides}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hf_mlrpl.trainer.trainer"])  # imports most of what a side does
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as processes:
        return {side: processes.submit(_peak_of_side, part, side, args).result() for side in sides}


def _peak_of_side(part: str, side: str, args: argparse.Namespace) -> float:
    prepare(args)
    return peak_memory(PARTS[part][1](args)[side], args.device)


def peak_by_labels(args: argparse.Namespace, part: str, labels: int) -> float:
    return measure_memory(part, ["ours"], argparse.Namespace(**vars(args) | {"labels": labels}))["ours"]


def describe_hardware(args: argparse.Namespace) -> str:
    if args.device == "cuda":
        name = torch.cuda.get_device_name()
    else:
        info = Path("/proc/cpuinfo")
        names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
        name = f"{names[0].split(':')[1].strip() if names else platform.processor()}, threads: {args.threads}"
    return f"{name}, torch {torch.__version__}"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=None, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--labels", type=int, default=80, help="number of labels (default: 80, COCO)")
    parser.add_argument("--image-size", type=int, default=448, help="side in pixels (default: 448)")
    parser.add_argument("--batch-size", type=int, default=16, help="images per step (default: 16)")
    parser.add_argument("--backbone", default="resnet101.tv_in1k", help="a timm model (default: resnet101.tv_in1k)")
    parser.add_argument("--clip-backbone", default="resnet50_clip", help="a CLIP ResNet (default: resnet50_clip)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    parser.add_argument("--repeats", type=int, default=None, help="timed runs of each side (default: 5, quick: 1)")
    parser.add_argument("--tables", nargs="*", choices=TABLES, default=None, metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument(
        "--methods",
        choices=("few", "networks", "all"),
        help="whose steps: a few, one for each network (default), or all",
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, few methods, and no memory: three minutes of one thread"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    args = parser.parse_args()
    if args.parts is None and args.tables is None:  # everything
        args.parts, args.tables = list(QUICK_PARTS if args.quick else PARTS), list(TABLES)
    args.parts, args.tables = args.parts or [], list(TABLES) if args.tables == [] else args.tables or []
    args.repeats = args.repeats or (1 if args.quick else 5)
    args.methods = args.methods or ("few" if args.quick else "networks")
    if args.quick:
        args.image_size, args.batch_size, args.backbone, args.threads = 128, 4, "resnet50.tv_in1k", 1
    return args


def compare(args: argparse.Namespace) -> Iterable[Row]:
    """Time and memory of the parts, of the plain code and of ours."""
    for part in args.parts:
        title, make = PARTS[part]
        sides = make(args)
        times = median_milliseconds(sides, args.repeats, args.device)
        row: Row = {"part": title, "plain ms": times["plain"], "ours ms": times["ours"]}
        row["faster"] = times["plain"] / times["ours"]
        if not args.quick:
            memory = measure_memory(part, ["plain", "ours"], args)
            row |= {"plain MiB": memory["plain"], "ours MiB": memory["ours"]}
            row["smaller"] = memory["plain"] / max(memory["ours"], 1)
        if "backbone" in times:
            row["ours / backbone"] = times["ours"] / times["backbone"]
        if part.startswith("input_pipeline"):
            row["images/s"] = 1000 * NUM_PHOTOS / times["ours"]
        del sides
        yield row


def as_markdown(title: str, rows: list[Row]) -> str:
    """A table of `rows`, with an empty cell where a row lacks a number."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name)) for name in columns] for row in rows]
    right = ["--:" if any(isinstance(row.get(name), float) for row in rows) else "---" for name in columns]
    lines = [f"| {' | '.join(line)} |" for line in [columns, right, *cells]]
    return "\n".join([f"### {title}", "", *lines, ""])


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return "" if value is None else str(value)
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def prepare(args: argparse.Namespace) -> None:
    keep_freed_memory()  # as the commands and the trainer do
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    logging.set_verbosity_error()  # of random labels


def main() -> None:
    args = parse_arguments()
    prepare(args)
    machine = describe_hardware(args)
    sizes = f"{args.labels} labels, {args.image_size} px, batch of {args.batch_size}, {KNOWN:.0%} of the labels known"
    sizes += f", {args.backbone} and {args.clip_backbone}, median of {args.repeats}"
    texts, numbers = [f"{machine}\n\n{sizes}\n"], {"machine": machine, "sizes": sizes}
    print(texts[0], flush=True)
    timer = partial(median_milliseconds, repeats=args.repeats, device=args.device)
    memory = None if args.quick else partial(peak_by_labels, args)
    found: dict[str, tuple[str, Iterable[Row]]] = {"parts": ("Parts", compare(args))} if args.parts else {}
    for table in args.tables:
        title, measure = TABLES[table]
        found[table] = title, measure(args, timer, *([memory] if table == "scaling" else []))
    for table, (title, rows) in found.items():
        numbers[table], start = [], sum(os.times()[:4])
        for row in rows:  # written one by one: an interruption costs what comes next only
            numbers[table].append(row)
            print(", ".join(f"{name} {_cell(value)}" for name, value in row.items()), file=sys.stderr, flush=True)
            if args.json:
                args.json.write_text(json.dumps(numbers, indent=2) + "\n")
            if args.markdown:
                args.markdown.write_text("\n".join([*texts, as_markdown(title, numbers[table])]))
        print(f"{title}: {sum(os.times()[:4]) - start:.0f} s of CPU", file=sys.stderr, flush=True)
        texts.append(as_markdown(title, numbers[table]))
        print(texts[-1], flush=True)


if __name__ == "__main__":
    main()
