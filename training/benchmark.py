"""Compare the fast code with the plain transcription in plain.py and plain_clip.py: time and peak memory of each part.

    python training/benchmark.py
    python training/benchmark.py --parts step inference --batch-size 16 --repeats 5 --device cuda

Both sides run in turn in one process, the medians are compared. On a CPU the peak memory of each side is measured in
a process of its own, since what an allocator keeps cannot be told from what is used. Weights and images are random.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from benchmark_parts import KNOWN, NUM_PHOTOS, PARTS, Sides

MIB = 2**20


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


def measure_memory(part: str, sides: Sides, args: argparse.Namespace) -> dict[str, float]:
    if args.device == "cuda":
        return {side: peak_memory(function, args.device) for side, function in sides.items()}
    options = [f"--{name.replace('_', '-')}={getattr(args, name)}" for name in ("labels", "image_size", "batch_size")]
    options += [f"--backbone={args.backbone}", f"--clip-backbone={args.clip_backbone}", f"--threads={args.threads}"]
    command = [sys.executable, __file__, *options]
    return {
        side: float(subprocess.check_output([*command, "--parts", part, "--memory-of", side], text=True).split()[-1])
        for side in sides
    }


def describe_hardware(args: argparse.Namespace) -> str:
    if args.device == "cuda":
        name = torch.cuda.get_device_name()
    else:
        info = Path("/proc/cpuinfo")
        names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
        name = f"{names[0].split(':')[1].strip() if names else platform.processor()}, {args.threads} threads"
    return f"{name}, torch {torch.__version__}"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS)
    )
    parser.add_argument("--labels", type=int, default=80, help="number of labels (default: 80, COCO)")
    parser.add_argument("--image-size", type=int, default=448, help="side in pixels (default: 448)")
    parser.add_argument("--batch-size", type=int, default=16, help="images per step (default: 16)")
    parser.add_argument("--backbone", default="resnet101.tv_in1k", help="a timm model (default: resnet101.tv_in1k)")
    parser.add_argument("--clip-backbone", default="resnet50_clip", help="a CLIP ResNet (default: resnet50_clip)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each side (default: 5)")
    parser.add_argument("--memory-of", metavar="SIDE", help=argparse.SUPPRESS)  # one measurement in a fresh process
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print(peak_memory(PARTS[args.parts[0]][1](args)[args.memory_of], args.device))
        return
    print(f"{describe_hardware(args)}")
    print(f"{args.labels} labels, {args.image_size} px, batch of {args.batch_size}, {KNOWN:.0%} of the labels known\n")
    print("| Part | plain ms | ours ms | faster | plain MiB | ours MiB | smaller |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    notes = []
    for part in args.parts:
        title, make = PARTS[part]
        sides = make(args)
        memory = measure_memory(part, sides, args)
        times = median_milliseconds(sides, args.repeats, args.device)
        faster, smaller = times["plain"] / times["ours"], memory["plain"] / max(memory["ours"], 1)
        numbers = [f"{times['plain']:.1f}", f"{times['ours']:.1f}", f"{faster:.2f}x"]
        numbers += [f"{memory['plain']:.0f}", f"{memory['ours']:.0f}", f"{smaller:.2f}x"]
        print("| " + " | ".join([title, *numbers]) + " |", flush=True)
        if "backbone" in times:
            notes.append(f"{title}: {times['ours'] / times['backbone']:.3f} times the bare backbone")
        if part.startswith("input_pipeline"):
            rates = (f"{side} {1000 * NUM_PHOTOS / time:.0f}" for side, time in times.items())
            notes.append(f"{title}: images per second of a core: {', '.join(rates)}")
        del sides
    print("\n" + "\n".join(notes))


if __name__ == "__main__":
    main()
