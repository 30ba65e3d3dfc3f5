"""What benchmark.py measures of ours alone: each function gives the rows of one table."""

import argparse
import io
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_parts import pair_head, pseudo_labels
from PIL import Image
from transformers import TrainerCallback

from hf_mlrpl import MultiLabelTrainer, MultiLabelTrainingArguments
from hf_mlrpl.data.columns import make_dataset
from hf_mlrpl.data.containers.coco_files import read_coco
from hf_mlrpl.metrics.multi_label import multi_label_metrics
from hf_mlrpl.recipe.document import Recipe
from hf_mlrpl.registry import METHODS, load
from hf_mlrpl.settings import from_mapping

Row = dict[str, Any]
Timer = Callable[[dict[str, Callable[[], object]]], dict[str, float]]  # medians in milliseconds
SCALES = (20, 80, 200, 497, 1203)  # labels: VOC, COCO, VG-200, Open Images, LVIS
DECODERS: tuple[tuple[str, int, Row], ...] = (  # a method, the labels of COCO or LVIS, and settings of the network
    ("ml_decoder", 80, {}),
    ("ml_decoder", 1203, {}),  # those that follow take long
    ("query2label", 80, {}),
    ("ml_decoder", 1203, {"num_groups": 1203}),
    ("query2label", 1203, {}),
)
FEW_METHODS = ("soft_exposure", "ssgrl", "sst", "sarb")
EPOCH = 13.0  # all losses and rules are on
NEEDED = {"role": {"expected_positives": 2.9}, "epr": {"expected_positives": 2.9}}  # COCO
# In float32, since bfloat16 takes several times as long on processors without AVX-512.
_OFF = ("report_to=none", "eval_strategy=no", "save_strategy=no", "disable_tqdm=true", "bf16=false")
DIGITS = ["data.num_scenes=640", *(f"training.{off}" for off in _OFF)]
START = """
import sys, tempfile
from hf_mlrpl.recipe.document import Recipe
with tempfile.TemporaryDirectory() as folder:
    Recipe.load("sst/digit_scenes_10", sys.argv[1:]).build_trainer(folder).train()
"""


def steps(args: argparse.Namespace, timer: Timer) -> Iterator[Row]:
    """A training step of each method in the Trainer, and that of its bare backbone: forward, backward, optimizer."""
    networks = {METHODS[method].model: method for method in reversed(list(METHODS))}  # the first one of each network
    chosen = {"few": FEW_METHODS, "networks": sorted(networks.values()), "all": list(METHODS)}
    for method in chosen[args.methods]:
        with tempfile.TemporaryDirectory() as folder:
            trainer, batch = _trainer(method, args, folder)
            step, bare = partial(_step, trainer, batch), partial(_bare_step, trainer, batch)
            times = timer({"step": step, "backbone": bare})
            row = {"method": method, "step ms": times["step"], "backbone ms": times["backbone"]}
            row["step / backbone"] = times["step"] / times["backbone"]
            row["images/s"] = 1000 * args.batch_size / times["step"]
            yield row | _on_gpu(args, step)


def decoders(args: argparse.Namespace, timer: Timer) -> Iterator[Row]:
    """A step and the inference of the networks whose labels ask with queries, and those of their bare backbones."""
    for method, labels, settings in DECODERS[: 2 if args.quick else None]:
        with tempfile.TemporaryDirectory() as folder:
            trainer, batch = _trainer(
                method, argparse.Namespace(**vars(args) | {"labels": labels}), folder, **settings
            )
            step, bare_step = partial(_step, trainer, batch), partial(_bare_step, trainer, batch)
            infer, encode = partial(_infer, trainer, batch), partial(_encode, trainer, batch)
            times = timer({"step": step, "bare step": bare_step, "inference": infer, "backbone": encode})
            row: Row = {"method": method, "labels": labels, "groups": settings.get("num_groups")}
            row |= {"step ms": times["step"], "step / backbone": times["step"] / times["bare step"]}
            row |= {"inference ms": times["inference"], "inference / backbone": times["inference"] / times["backbone"]}
            yield row | _on_gpu(args, step)


@torch.inference_mode()
def _infer(trainer: MultiLabelTrainer, batch: Row) -> None:
    model: Any = trainer.model.eval()
    model(trainer._prepare_inputs(dict(batch))["pixel_values"])


@torch.inference_mode()
def _encode(trainer: MultiLabelTrainer, batch: Row) -> None:
    model: Any = trainer.model.eval()
    model.encode(model.normalize(trainer._prepare_inputs(dict(batch))["pixel_values"]))


def _trainer(
    method: str, args: argparse.Namespace, folder: str, **settings: Any
) -> tuple[MultiLabelTrainer, dict[str, Any]]:
    """A trainer in the middle of a training on random photos, and a batch of them; `settings` are of the model."""
    spec, num_images = METHODS[method], 4 * args.batch_size
    generator = np.random.default_rng(0)
    present = generator.random((num_images, args.labels)) < 0.036
    present[:, : num_images // 2] |= np.eye(num_images, args.labels, dtype=bool)[:, : num_images // 2]
    labels = (np.where(present, 1, -1) * (generator.random(present.shape) < 0.5)).astype(np.int8)
    noise = generator.integers(0, 256, (num_images, 32, 32, 3), dtype=np.uint8)
    names = [f"{label:04}" for label in range(args.labels)]
    photos = make_dataset([_png(pixels) for pixels in noise], [str(row) for row in range(num_images)], labels, names)
    model_class = load(spec.model)
    known = model_class.config_class.own_settings()
    settings |= {"image_size": args.image_size, "backbone": args.backbone}
    if "embed_dim" in known:
        settings["backbone"] = args.clip_backbone
        settings |= {"context_words": None} if "context_words" in known else {}
    elif "label_embeddings" in known and "queries" not in known:  # the queries of a decoder need no words
        settings["label_embeddings"] = "orthogonal"
    model = model_class.for_dataset(photos, pretrained=False, **settings)
    objective = from_mapping(load(spec.objective).config_class, NEEDED.get(method, {}), "objective")
    arguments = MultiLabelTrainingArguments(
        folder,
        per_device_train_batch_size=args.batch_size,
        per_device_eval_batch_size=args.batch_size,
        dataloader_num_workers=0,
        report_to="none",
        disable_tqdm=True,
        max_steps=1000,
    )
    trainer = MultiLabelTrainer(model, arguments, load(spec.objective)(objective, model.config), train_dataset=photos)
    trainer.create_optimizer_and_scheduler(1000)
    trainer.state.epoch, trainer.current_gradient_accumulation_steps = EPOCH, 1
    trainer.before_epoch()
    return trainer, next(iter(trainer.get_train_dataloader()))


def _png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


def _step(trainer: MultiLabelTrainer, batch: Row) -> None:
    trainer.training_step(trainer.model, dict(batch))
    _optimize(trainer)


def _bare_step(trainer: MultiLabelTrainer, batch: Row) -> None:
    model: Any = trainer.model.train()
    views = [tensor for tensor in trainer._prepare_inputs(dict(batch)).values() if tensor.ndim == 4]
    with trainer.compute_loss_context_manager():
        features = model.encode(torch.cat([model.normalize(view) for view in views]))
        loss = features.float().mean()
    if loss.requires_grad:
        loss.backward()
    _optimize(trainer)


def _optimize(trainer: MultiLabelTrainer) -> None:
    assert trainer.optimizer is not None
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()


def _on_gpu(args: argparse.Namespace, function: Callable[[], object]) -> Row:
    """Kernels of a step and MiB at its peak, on a GPU."""
    if args.device != "cuda":
        return {}
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.reset_peak_memory_stats()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        function()
        torch.cuda.synchronize()
    kernels = sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profiler.events())
    return {"kernels": kernels, "peak MiB": torch.cuda.max_memory_allocated() / 2**20}


def scaling(args: argparse.Namespace, timer: Timer, memory: Callable[[str, int], float] | None) -> Iterator[Row]:
    """SST's bank with its pseudo-labels, and the scores of all pairs, by the number of labels.

    Args:
        memory: MiB at the peak of a part with so many labels; `None` does not measure it.
    """
    for name, make in (("pseudo_labels", pseudo_labels), ("pair_head", pair_head)):
        before: tuple[int, float] | None = None
        for labels in SCALES[: 3 if args.quick else None]:
            sides = make(argparse.Namespace(**vars(args) | {"labels": labels, "pair_classifier": "shared"}))
            milliseconds = timer({"ours": sides["ours"]})["ours"]
            row: Row = {"part": name, "labels": labels, "ms": milliseconds, "exponent": None}
            if before:
                row["exponent"] = math.log(milliseconds / before[1]) / math.log(labels / before[0])
            before = labels, milliseconds
            yield row | ({"peak MiB": memory(name, labels)} if memory else {})


def start_up(args: argparse.Namespace, timer: Timer) -> Iterator[Row]:
    """CPU seconds of a fresh process until its first training step on digit scenes is done."""
    seconds = []
    for _ in range(args.repeats + (not args.quick)):  # the first one may have to draw the scenes
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", START, *DIGITS, "training.max_steps=1"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    yield {"what": "to the first step of SST on digit scenes", "CPU s": statistics.median(seconds[-args.repeats :])}


class _Clock(TrainerCallback):
    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.times.append(time.process_time())


def trainer_overhead(args: argparse.Namespace, timer: Timer) -> Iterator[Row]:
    """A step on digit scenes in the Trainer, with images and all, and the same computation in a bare loop."""
    recipe = Recipe.load("sst/digit_scenes_10", [*DIGITS, "training.max_steps=100"])
    splits, ratios, ours = recipe.data.load(), [], []
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            trainer, clock = recipe.build_trainer(folder, splits), _Clock()
            trainer.add_callback(clock)
            trainer.train()
            batch = next(iter(trainer.get_train_dataloader()))
            bare = statistics.median(_bare_loop(trainer, batch) for _ in range(40))
        ours.append(1000 * statistics.median(np.diff(clock.times[20:])))
        ratios.append(ours[-1] / bare)
    yield {
        "what": "SST on digit scenes",
        "Trainer ms": statistics.median(ours),
        "Trainer / bare": statistics.median(ratios),
    }


def _bare_loop(trainer: MultiLabelTrainer, batch: Row) -> float:
    """Milliseconds of one step."""
    from hf_mlrpl.schedules import Progress

    start, model = time.process_time(), trainer.model
    inputs = {name: tensor for name, tensor in batch.items() if name != "full_labels"}
    with trainer.compute_loss_context_manager():
        loss = model(**inputs, objective=trainer.objective, progress=Progress.from_state(trainer.state)).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), trainer.args.max_grad_norm)
    _optimize(trainer)
    return 1000 * (time.process_time() - start)


def metrics(args: argparse.Namespace, timer: Timer) -> Iterator[Row]:
    """All metrics of a large test set: Open Images has 125,436 images with 601 labels."""
    for images, labels in ((40_504, 80), (125_436, 601))[: 1 if args.quick else 2]:
        generator = np.random.default_rng(0)
        logits = generator.standard_normal((images, labels), dtype=np.float32)
        truth = generator.integers(-1, 2, logits.shape, dtype=np.int8)
        times = timer({"ours": lambda logits=logits, truth=truth: multi_label_metrics(logits, truth)})
        yield {"what": f"{images:,} images, {labels} labels", "s": times["ours"] / 1000}


def annotation_file(args: argparse.Namespace, timer: Timer) -> Iterator[Row]:
    """Reading a JSON file of the size of COCO's: 82,783 images, 604,907 annotations with an outline each."""
    count = 60_490 if args.quick else 604_907
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "instances_train2014.json"
        images = [{"id": number, "file_name": f"COCO_train2014_{number:012}.jpg"} for number in range(count // 7)]
        categories = [{"id": number, "name": f"{number:02}"} for number in range(80)]
        outline = [[round(3.7 * number, 2) for number in range(40)]]
        annotations = [
            {
                "id": number,
                "image_id": number % len(images),
                "category_id": number % 80,
                "segmentation": outline,
                "area": 702.1,
                "iscrowd": 0,
                "bbox": [473.07, 395.93, 38.65, 28.67],
            }
            for number in range(count)
        ]
        file.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))
        megabytes = os.path.getsize(file) / 1e6
        del annotations
        yield {
            "what": f"{count:,} annotations, {megabytes:.0f} MB",
            "s": timer({"ours": lambda: read_coco(file)})["ours"] / 1000,
        }


TABLES: dict[str, tuple[str, Callable[..., Iterator[Row]]]] = {
    "steps": ("Steps of the methods over their backbones", steps),
    "decoders": ("Networks with queries over their backbones", decoders),
    "scaling": ("Bank and pair scores by the number of labels", scaling),
    "trainer": ("The Trainer over a bare loop", trainer_overhead),
    "start_up": ("Start-up", start_up),
    "metrics": ("Metrics", metrics),
    "json": ("Annotation files", annotation_file),
}
