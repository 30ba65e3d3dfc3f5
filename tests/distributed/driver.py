"""What both processes of `test_two_processes.py` do with the library."""

import json
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from tiny import (
    WITH_MEMORY,
    GivenLogits,
    PatchMeans,
    Taught,
    make_trainer,
    memory,
    tiny_images,
    tiny_recipe,
    weights,
    without_clock,
)
from transformers import TrainerCallback

from hf_mlrpl.distributed import describe_processes, end_processes, state_digest
from hf_mlrpl.methods.prototypes import label_prototypes
from hf_mlrpl.methods.scpnet.objective_scpnet import ScpnetObjective, ScpnetObjectiveConfig
from hf_mlrpl.recipe.document import Recipe
from hf_mlrpl.schedules import Progress
from hf_mlrpl.trainer.trainer import MultiLabelTrainer

TRAINING = {
    "per_device_train_batch_size": 8,
    "save_strategy": "steps",
    "save_steps": 2,
    "choose_thresholds": True,
}

REMEMBERING = [method for method in WITH_MEMORY if method not in ("sst", "sarb", "soft_exposure")]  # which `run` has
SETTINGS = {"curriculum": {"strategy": "score_proportion", "threshold": 0.5, "scope": "dataset"}}


class Interruption(Exception):
    pass


class Stop(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 5:
            raise Interruption


STORED = {"store_features": True, "feature_dtype": "float32"}


def image_mean_recipe(method: str, view: str = "shift", **training) -> Recipe:
    """A loss that is a mean over images, and no batch norm that would see the batch."""
    objective = {"reduction": "image_mean"} if method == "ssgrl" else {}
    width = {"representation_dim": 96} if method == "ssgrl" else {}  # the backbone's own: no projection
    settings = {"optimizer": "sgd", "learning_rate": 0.05, "eval_strategy": "no", "save_strategy": "no"}
    return tiny_recipe(
        method,
        data={"view": view},
        model={"trainable_backbone": [], **width},
        objective=objective,
        training=settings | training,
    )


def loss_curve(trainer: MultiLabelTrainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def outcome(trainer: MultiLabelTrainer) -> dict:
    logs = [without_clock(entry) for entry in trainer.state.log_history if "train_runtime" not in entry]
    thresholds = trainer.model.config.thresholds
    return {"weights": weights(trainer), "memory": memory(trainer), "thresholds": thresholds, "logs": logs}


def taught(folder: Path) -> dict[str, str]:
    """Digests of a model and of its teacher; batch norms see other images in each process."""
    training = {"ema_decay": 0.8, "max_steps": 3, "save_strategy": "no", "eval_strategy": "no"}
    base = make_trainer(tiny_recipe("partial_bce", training=training), folder / "taught")
    objective = Taught(None, base.model.config)
    trainer = MultiLabelTrainer(base.model, base.args, objective, train_dataset=base.train_dataset)
    trainer.train()
    return {"weights": weights(trainer), "teacher": state_digest(objective.teacher().state_dict())}


def prototypes(memory_limit: float) -> str:
    """A digest of prototypes from 19 images, which two processes cannot share evenly."""
    found = label_prototypes(PatchMeans(), tiny_images(num_images=19), 3, seed=0, memory_limit=memory_limit)
    return state_digest(vars(found))


def selection(rank: int = 0, processes: int = 1) -> str:
    """A digest of what SCPNet remembers of eight steps; images repeat, in a batch and between processes."""
    num_images, num_labels, batch_size = 7, 11, 12
    model, generator = GivenLogits(num_labels), torch.Generator().manual_seed(0)
    objective = ScpnetObjective(ScpnetObjectiveConfig(num_candidates=3, candidate_threshold=0.8), model.config)
    objective.prepare(tiny_images(num_labels, num_images))
    for step in range(8):
        names = ("pixel_values", "weak", "strong")
        batch = {name: 2 * torch.randn(batch_size, num_labels, generator=generator) for name in names}
        batch["labels"] = torch.randint(-1, 2, (batch_size, num_labels), generator=generator)
        batch["labels"] *= torch.rand(batch["labels"].shape, generator=generator) < 0.1
        batch["index"] = torch.randint(num_images, (batch_size,), generator=generator)
        share = slice(rank * batch_size // processes, (rank + 1) * batch_size // processes)
        own = {name: tensor[share] for name, tensor in batch.items()}
        objective(model, own, Progress(step=step, max_steps=8, epoch=1.0))
    return state_digest(objective.state_dict())


def run(folder: Path) -> dict:
    unbroken, resumed, curves, memories = {}, {}, {}, {}
    for method in ("sst", "sarb"):  # those that remember something
        recipe = tiny_recipe(method, training=TRAINING)
        trainer = make_trainer(recipe, folder / method / "unbroken")
        trainer.train()
        unbroken[method] = outcome(trainer)
        try:
            make_trainer(recipe, folder / method / "stopped", callbacks=[Stop()]).train()
        except Interruption:
            trainer = make_trainer(recipe, folder / method / "stopped")
            trainer.train(resume_from_checkpoint=True)
            resumed[method] = outcome(trainer)
    for method in ("ssgrl", "partial_bce", "soft_exposure"):
        trainer = make_trainer(image_mean_recipe(method, per_device_train_batch_size=4), folder / method)
        trainer.train()
        curves[method], memories[method] = loss_curve(trainer), memory(trainer)
        if dist.get_rank() == 0:
            state = {name: tensor.contiguous() for name, tensor in trainer.model.state_dict().items()}
            save_file(state, folder / f"{method}.safetensors")
    stored = make_trainer(
        image_mean_recipe("ssgrl", "flip", per_device_train_batch_size=4, **STORED), folder / "stored"
    )
    stored.train()
    curves["stored"] = loss_curve(stored)
    with_memory = {}
    for method in REMEMBERING:
        trainer = make_trainer(tiny_recipe(method, objective=SETTINGS.get(method, {})), folder / method)
        trainer.train()
        with_memory[method] = outcome(trainer)
    return {
        "processes": describe_processes(),
        "unbroken": unbroken,
        "resumed": resumed,
        "curves": curves,
        "memories": memories,
        "with_memory": with_memory,
        "selection": selection(dist.get_rank(), dist.get_world_size()),
        "taught": taught(folder),
        "prototypes": [prototypes(memory_limit) for memory_limit in (1, 0)],
    }


def write_report(folder: Path) -> None:
    """Write `run` to `folder`/<rank>.json."""
    report = run(folder)
    (folder / f"{dist.get_rank()}.json").write_text(json.dumps(report))
    end_processes()
