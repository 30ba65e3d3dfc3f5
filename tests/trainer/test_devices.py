"""What a GPU and several processes are asked for, on a machine that need not have them."""

from types import SimpleNamespace

import pytest
import torch
from test_methods import LATE, NUM_LABELS, make_batch, make_objective
from tiny import MODELS, OBJECTIVES, make_trainer, tiny_images, tiny_model, tiny_recipe
from torch.utils._python_dispatch import TorchDispatchMode

from hf_mlrpl import MultiLabelTrainingArguments
from hf_mlrpl.registry import METHODS, load
from hf_mlrpl.schedules import Progress
from hf_mlrpl.trainer import trainer as trainer_module
from hf_mlrpl.trainer.devices import (
    choose_threads,
    describe_precision,
    spare_search_for_unused_parameters,
    unreached,
    warn_of_slow_bfloat16,
    workers_for,
)

EARLY = Progress(step=0, max_steps=1, epoch=0.0)


def prepared(method: str, **settings):
    model = tiny_model(method, NUM_LABELS)
    return model, make_objective(load(METHODS[method].objective), model, OBJECTIVES.get(method, {}) | settings)


@pytest.mark.parametrize(
    ("method", "settings", "is_spared"),
    [
        ("ssgrl", {}, True),
        ("partial_bce", {}, True),
        ("sst", {}, True),
        ("sst", {"cooccurrence_weight": 0.0}, False),
        ("sarb", {}, False),
        ("dualcoop", {}, False),
    ],
)
def test_ddp_looks_for_parameters_without_a_gradient_only_where_there_may_be_some(method, settings, is_spared):
    model, objective = prepared(method, **settings)
    found = set()
    for progress in (EARLY, LATE):
        model.train().zero_grad()
        model(**make_batch(), objective=objective, progress=progress).loss.backward()
        found |= {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert found <= set(unreached(objective, model)) and model.training
    handler = SimpleNamespace(find_unused_parameters=True)
    accelerator = SimpleNamespace(num_processes=2, ddp_handler=handler)
    spare_search_for_unused_parameters(accelerator, SimpleNamespace(ddp_find_unused_parameters=True), objective, model)
    assert handler.find_unused_parameters, "who asks for it gets it"
    spare_search_for_unused_parameters(accelerator, SimpleNamespace(ddp_find_unused_parameters=None), objective, model)
    assert handler.find_unused_parameters != is_spared


@pytest.mark.parametrize("asked", [None, True])
def test_ddp_sends_no_buffers_unless_it_is_asked_to(asked, tmp_path):
    settings = {} if asked is None else {"ddp_broadcast_buffers": asked}
    trainer = make_trainer(tiny_recipe("partial_bce", training=settings), tmp_path)
    assert trainer.accelerator.ddp_handler.broadcast_buffers == bool(asked)


@pytest.mark.parametrize("settings, tries", [({}, True), ({"cudnn_benchmark": False}, False)])
def test_cudnn_looks_for_the_fastest_convolutions(settings, tries, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", not tries)
    make_trainer(tiny_recipe("partial_bce", training=settings), tmp_path)
    assert torch.backends.cudnn.benchmark == tries


@pytest.mark.parametrize("given", [None, {"even_batches": False}, {"non_blocking": False}])
def test_batches_travel_without_waiting(given, tmp_path):
    arguments = MultiLabelTrainingArguments(str(tmp_path))
    arguments.accelerator_config, arguments.dataloader_pin_memory = given, True
    arguments.copy_without_waiting()
    assert arguments.accelerator_config == {"non_blocking": True} | (given or {})
    assert arguments.accelerator_config["non_blocking"] != (given == {"non_blocking": False})


def test_the_precision_of_a_gpu_is_said():
    on = SimpleNamespace(bf16=False, fp16=False, device=torch.device("cuda"))
    assert describe_precision(on) == "float32 (TF32 in convolutions)"
    before, torch.backends.cudnn.conv.fp32_precision = torch.backends.cudnn.conv.fp32_precision, "ieee"
    try:
        assert describe_precision(on) == "float32"
    finally:
        torch.backends.cudnn.conv.fp32_precision = before
    assert describe_precision(SimpleNamespace(bf16=True, fp16=False, device=torch.device("cpu"))) == "bfloat16"
    assert describe_precision(SimpleNamespace(bf16=False, fp16=False, device=torch.device("cpu"))) == ""


@pytest.mark.parametrize(
    "capability, bf16, device, warned",
    [
        ("AVX2", True, "cpu", True),
        ("AVX2", False, "cpu", False),
        ("AVX2", True, "cuda", False),
        ("AVX512", True, "cpu", False),
        ("DEFAULT", True, "cpu", False),  # processors of other makers
    ],
)
def test_slow_bfloat16_is_said(capability, bf16, device, warned, monkeypatch, caplog):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    warn_of_slow_bfloat16(SimpleNamespace(bf16=bf16, device=torch.device(device)))
    assert ("training.bf16=false" in caplog.text) == warned


@pytest.fixture
def eight_cores(monkeypatch):
    """A machine for one process, on which nobody has chosen a number of threads; its present one is in the list."""
    threads = [8]
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return threads


@pytest.mark.parametrize(("device", "fits", "workers"), [("cpu", True, 0), ("cpu", False, 1), ("cuda", False, 7)])
def test_workers_are_chosen_where_nobody_says_how_many(device, fits, workers, eight_cores, monkeypatch):
    images = tiny_images(NUM_LABELS)._dataset
    monkeypatch.setattr("hf_mlrpl.data.images.torch_dataset.MAX_KEPT_BYTES", 2**28 if fits else 0)
    arguments = SimpleNamespace(dataloader_num_workers=-1, world_size=1, device=torch.device(device))
    assert workers_for(images, arguments) == workers
    assert workers_for(None, arguments) == (7 if device == "cuda" else 1)
    assert workers_for([{"labels": 1}], arguments) == 0, "items of others"
    arguments.dataloader_num_workers = 3
    assert workers_for(images, arguments) == 3
    arguments.dataloader_num_workers, arguments.world_size = -1, 8
    assert workers_for(images, arguments) == 0, "a core for each process"
    monkeypatch.setattr("multiprocessing.get_start_method", lambda allow_none: "spawn")
    arguments.world_size = 1
    assert workers_for(images, arguments) == 0, "a script would have to guard its main part"


def test_whatever_opens_images_has_the_number_that_was_chosen(tmp_path):
    recipe = tiny_recipe(
        "ssgrl",
        data={"view": "flip"},
        model={"trainable_backbone": [], "representation_dim": 96},
        training={"store_features": True, "feature_dtype": "float32"},
    )
    trainer = make_trainer(recipe, tmp_path)
    assert trainer.storing.num_workers == trainer.training_images.num_workers == trainer.args.dataloader_num_workers
    assert trainer.args.dataloader_num_workers >= 0


@pytest.mark.parametrize(
    ("workers", "chosen", "environment", "threads"),
    [(0, None, None, 8), (3, None, None, 5), (9, None, None, 1), (3, None, "8", 8), (3, 2, "8", 2), (0, 1, None, 1)],
)
def test_threads_and_workers_share_the_cores(workers, chosen, environment, threads, eight_cores, monkeypatch):
    if environment:
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
    on_cpu = SimpleNamespace(
        dataloader_num_workers=workers, cpu_threads=chosen, world_size=1, device=torch.device("cpu")
    )
    choose_threads(on_cpu)
    assert eight_cores[-1] == threads


class Waiting(TorchDispatchMode):
    """Notes the operations for whose result the host of a GPU would wait."""

    OPERATIONS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "is_nonzero"}

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.removeprefix("aten::")
        by_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in self.OPERATIONS or by_mask:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", sorted(MODELS))
def test_no_step_waits_for_a_device(method):
    model, objective = prepared(method)
    model.train()
    batch = make_batch()
    model(**batch, objective=objective, progress=LATE)  # what is read once
    with Waiting() as waiting:
        model(**batch, objective=objective, progress=LATE).loss.backward()
    assert waiting.found == []


def test_the_memory_of_a_cpu_is_kept_with_the_python_api_too(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(trainer_module, "keep_freed_memory", lambda: calls.append(1))
    make_trainer(tiny_recipe("partial_bce"), tmp_path)
    assert calls
