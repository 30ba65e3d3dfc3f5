"""What every line of the method registry promises, with a tiny network."""

import copy
import functools
import re

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import OBJECTIVES, WITH_MEMORY, make_trainer, tiny_images, tiny_model, tiny_recipe
from transformers import AutoModelForImageClassification, pipeline

import hf_mlrpl.auto  # noqa: F401  registers the models
from hf_mlrpl.clip.modeling_clip import ClipPromptModel
from hf_mlrpl.distributed import state_digest
from hf_mlrpl.models.image_processing import processor_for
from hf_mlrpl.registry import METHODS, load
from hf_mlrpl.schedules import Progress
from hf_mlrpl.settings import from_mapping

LATE = Progress(step=90, max_steps=100, epoch=9.0, num_epochs=10)
NUM_LABELS = 5


NETWORKS = {METHODS[method].model: method for method in sorted(METHODS, reverse=True)}  # and a method that trains it


@pytest.fixture(params=sorted(METHODS))
def method(request) -> str:
    return request.param


@pytest.fixture
def model(method):
    return tiny_model(method, NUM_LABELS)


@pytest.fixture
def objective(method):
    return copy.deepcopy(_prepared(method))


@functools.cache
def _prepared(method: str):
    objective_class = load(METHODS[method].objective)
    return make_objective(objective_class, tiny_model(method, NUM_LABELS), OBJECTIVES.get(method, {}))


def make_objective(objective_class, model, settings=None):
    """An objective as the trainer leaves it before the first step of a late epoch."""
    config = from_mapping(objective_class.config_class, settings or {}, "objective")
    objective, images = objective_class(config, model.config), tiny_images(NUM_LABELS)
    objective.prepare(images)
    with torch.no_grad():
        objective.before_epoch(model.eval(), images, LATE)
    return objective


def make_batch(
    batch_size: int = 4, dtype: torch.dtype = torch.int8, size: int = 32, seed: int = 1
) -> dict[str, torch.Tensor]:
    """Images with the views that some methods ask for; the others do not look at them."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, 2, (batch_size, NUM_LABELS), generator=generator)
    batch = {"labels": labels.to(dtype), "index": torch.arange(batch_size)}
    for name in ("pixel_values", "weak", "strong"):
        batch[name] = torch.randn(batch_size, 3, size, size, generator=generator)
    return batch


def step(model, objective, batch):
    """Loss and gradients of one training step."""
    model.train()
    output = model(**batch, objective=objective, progress=LATE)
    output.loss.backward()
    return output


def test_the_loss_is_finite_and_reaches_every_parameter(model, objective):
    output = step(model, objective, make_batch())
    assert output.loss.isfinite() and output.loss.ndim == 0
    assert output.logits.shape == (4, NUM_LABELS)
    assert torch.stack(list(output.terms.values())).sum() == pytest.approx(output.loss.item())
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert [name for name, parameter in trained.items() if parameter.grad is None] == []
    assert all(parameter.grad.isfinite().all() for parameter in trained.values())


ALL_KNOWN = torch.tensor([[1, -1, 1, -1, -1], [-1, 1, 1, -1, 1], [1, 1, -1, -1, -1], [-1, -1, -1, -1, 1]])
EDGES = {
    "all known": ALL_KNOWN,
    "all unknown": torch.zeros(4, NUM_LABELS),
    "no positive": -torch.ones(4, NUM_LABELS),
    "only positives": torch.ones(4, NUM_LABELS),
    "one image without known labels": ALL_KNOWN * torch.tensor([[1], [0], [1], [1]]),
}


def test_edges_of_the_labels(model, objective):
    for edge, labels in EDGES.items():
        some, with_memory = copy.deepcopy(model), copy.deepcopy(objective)
        output = step(some, with_memory, make_batch() | {"labels": labels.to(torch.int8)})
        assert output.loss.isfinite(), edge
        assert all(p.grad.isfinite().all() for p in some.parameters() if p.grad is not None), edge
        assert edge != "all unknown" or output.terms.get("known", 0) == 0


def test_a_batch_of_one(model, objective):
    batch = make_batch(batch_size=1, size=64)  # batch norm needs more than one place
    assert step(model, objective, batch).loss.isfinite()


def test_the_type_of_the_labels_makes_no_difference(model, objective):
    losses = []
    for dtype in (torch.int8, torch.int64, torch.float32):
        torch.manual_seed(0)
        output = step(copy.deepcopy(model), copy.deepcopy(objective), make_batch(dtype=dtype))
        losses.append(output.loss.item())
    assert losses[0] == losses[1] == losses[2]


def test_what_an_objective_remembers_is_in_its_state_and_nothing_else_is(method, model, objective):
    """So a checkpoint holds it: an objective that is made again and given the state goes on like the old one."""
    assert list(objective.parameters()) == []
    assert not objective.state_dict() or method in WITH_MEMORY, "the page says nothing of it"
    step(copy.deepcopy(model), objective, make_batch())
    again = type(objective)(objective.config, model.config)
    again.prepare(tiny_images(NUM_LABELS))
    again.load_state_dict(objective.state_dict())
    with torch.no_grad():
        again.before_epoch(copy.deepcopy(model).eval(), tiny_images(NUM_LABELS), LATE)
    assert state_digest(again.state_dict()) == state_digest(objective.state_dict())
    losses = []
    for some in (objective, again):
        torch.manual_seed(0)
        losses.append(step(copy.deepcopy(model), some, make_batch(seed=2)).loss.item())
    assert losses[0] == losses[1]
    assert state_digest(again.state_dict()) == state_digest(objective.state_dict())


def test_autocast_to_bfloat16(model, objective):
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**make_batch(), objective=objective, progress=LATE)
        plain = model(make_batch()["pixel_values"])
    output.loss.backward()
    assert output.loss.dtype == output.logits.dtype == plain.logits.dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.slow
def test_training_learns_the_training_images(method, tmp_path):
    """An epoch on all labels brings the loss below that of saying nothing."""
    settings = {"num_train_epochs": 6, "learning_rate": 3e-3, "eval_strategy": "no", "save_strategy": "no"}
    recipe = tiny_recipe(method, data={"proportion": 1.0, "view": "plain", "validation": 0.0}, training=settings)
    trainer = make_trainer(recipe, tmp_path)
    trainer.train()
    history = trainer.state.log_history
    name = "loss_known" if "loss_known" in history[0] else "loss"
    losses = [entry[name] for entry in history if name in entry]
    assert losses[-1] < 0.8 * losses[0]


# ---- each network ----

each_network = pytest.mark.parametrize("method", NETWORKS.values(), indirect=True)


@each_network
def test_shapes_of_the_outputs(model):
    pixel_values, model = make_batch()["pixel_values"], model.eval()
    output = model(pixel_values, output_attention_maps=True, output_representations=True)
    assert output.logits.shape == (4, NUM_LABELS) and output.loss is None
    assert output.representations.shape[:2] in ((4, NUM_LABELS), (4, 1))
    assert output.attention_maps is None or output.attention_maps.shape[:2] == (4, NUM_LABELS)
    assert model(pixel_values, return_dict=False)[0].shape == (4, NUM_LABELS)
    representations, _ = model.represent(model.encode(pixel_values))
    assert torch.equal(model.classify(representations), output.logits)
    nothing_known = model(pixel_values, labels=torch.zeros(4, NUM_LABELS))
    assert nothing_known.loss == 0


@each_network
def test_images_need_not_be_square(method):
    model = tiny_model(method, NUM_LABELS, image_size=[32, 64])
    assert model(torch.randn(2, 3, 32, 64)).logits.shape == (2, NUM_LABELS)
    processed = processor_for(model.config)(Image.new("RGB", (30, 20)), return_tensors="pt")
    assert processed["pixel_values"].shape == (1, 3, 32, 64)


@pytest.fixture
def checkpoint(model, tmp_path):
    model.save_pretrained(tmp_path)
    processor_for(model.config).save_pretrained(tmp_path)
    return tmp_path


@each_network
def test_a_checkpoint_brings_back_every_weight_and_buffer(model, checkpoint):
    loaded = type(model).from_pretrained(checkpoint)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert loaded.config.label_names == ["0", "1", "2", "3", "4"]
    assert loaded.config.problem_type == "multi_label_classification"
    pixel_values = make_batch()["pixel_values"].double()  # where the order of sums makes no difference
    expected = model.double().eval()(pixel_values).logits
    assert torch.allclose(loaded.double()(pixel_values).logits, expected, rtol=0, atol=1e-6)


@each_network
def test_a_checkpoint_brings_back_what_is_frozen(method, tmp_path):
    model = tiny_model(method, NUM_LABELS, trainable_backbone=["layer4"])
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    trained = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert {name: parameter.requires_grad for name, parameter in loaded.named_parameters()} == trained
    assert not all(trained.values())


@each_network
def test_a_checkpoint_is_safetensors_only(model, checkpoint):
    files = {"config.json", "model.safetensors", "preprocessor_config.json"}
    if isinstance(model, ClipPromptModel):
        files |= {"label_vectors.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in checkpoint.iterdir()} == files


@each_network
def test_the_auto_class_finds_the_model(model, checkpoint):
    loaded = AutoModelForImageClassification.from_pretrained(checkpoint)
    assert type(loaded) is type(model)


@each_network
def test_the_stock_pipeline_gives_a_score_per_label(model, checkpoint):
    classify = pipeline("image-classification", model=str(checkpoint), device="cpu")
    scores = classify(Image.new("RGB", (40, 40), "red"), top_k=NUM_LABELS)
    assert sorted(entry["label"] for entry in scores) == model.config.label_names
    pixel_values = processor_for(model.config)(Image.new("RGB", (40, 40), "red"), return_tensors="pt")["pixel_values"]
    expected = model.eval()(pixel_values).logits[0].sigmoid()
    for entry in scores:
        assert entry["score"] == pytest.approx(expected[int(entry["label"])].item(), abs=1e-6)
    assert [len(scores), len(classify(Image.new("RGB", (40, 40)), top_k=2))] == [NUM_LABELS, 2]


@each_network
def test_a_checkpoint_without_some_backbone_weights_is_an_error(model, checkpoint):
    state = load_file(checkpoint / "model.safetensors")
    lost = next(name for name in state if re.match(r"backbone\.network\.layer1\.0\.conv1.*\.weight", name))
    del state[lost]
    save_file(state, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"lacks 1 weights \({lost}"):
        type(model).from_pretrained(checkpoint)


@each_network
def test_frozen_parts_stay_as_they_are(method, tmp_path):
    trainer = make_trainer(tiny_recipe(method, model={"trainable_backbone": ["layer4"]}), tmp_path)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.train()
    changed = {name for name, tensor in trainer.model.state_dict().items() if not torch.equal(tensor, before[name])}
    in_backbone = {name for name in changed if name.startswith("backbone.")}
    assert all(".layer4." in name for name in in_backbone), sorted(in_backbone)
    assert any("running_mean" in name for name in in_backbone) and any("conv" in name for name in in_backbone)
    assert changed - in_backbone
