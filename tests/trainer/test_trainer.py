import json
import math
import multiprocessing
from importlib import import_module

import pytest
import torch
from tiny import make_trainer, memory, tiny_recipe, weights
from torch import nn
from transformers import TrainerCallback

from hf_mlrpl.labels import POSITIVE
from hf_mlrpl.losses import partial_bce
from hf_mlrpl.objective import Objective, ObjectiveOutput
from hf_mlrpl.trainer.evaluation import evaluation_loss
from hf_mlrpl.trainer.trainer import MultiLabelTrainer

BLOCKS = import_module("hf_mlrpl.metrics.average_precision")  # the function has the name of its module
QUIET = {"eval_strategy": "no", "save_strategy": "no"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> MultiLabelTrainer:
    """Two epochs of SST: the first without pseudo-labels, the second with them."""
    trainer = make_trainer(tiny_recipe(training={"save_strategy": "no"}), tmp_path_factory.mktemp("trained"))
    trainer.train()
    return trainer


# ---- logs ----


def test_logs_hold_the_terms_of_the_loss(trained):
    steps = [entry for entry in trained.state.log_history if "loss" in entry]
    assert len(steps) == 6
    first, last = steps[0], steps[-1]
    assert {"loss_known", "loss_cooccurrence", "loss_similarity"} <= first.keys()
    assert "loss_intra" not in first and "threshold_intra" not in first
    for entry in steps:
        terms = [value for name, value in entry.items() if name.startswith("loss_")]
        assert sum(terms) == pytest.approx(entry["loss"], rel=1e-5)
    assert last["threshold_intra"] == last["threshold_cross"] == pytest.approx(0.1)
    for rule in ("intra", "cross"):
        assert last[f"pseudo_labels_{rule}"] > 0
        assert 0 <= last[f"pseudo_precision_{rule}"] <= 100


def test_the_precision_of_pseudo_labels_is_that_of_the_hidden_labels(tmp_path):
    """At threshold 0 the rule `intra` completes every unknown label of images with a known positive."""
    always = {"start_epoch": 0, "first": 0.0, "floor": 0.0}
    settings = {"num_train_epochs": 1, "logging_steps": 3, **QUIET}
    recipe = tiny_recipe(objective={"intra_threshold": always, "cross_weight": 0.0}, training=settings)
    trainer = make_trainer(recipe, tmp_path)
    images = trainer.train_dataset
    unknown = torch.from_numpy(images.labels == 0)
    correct = int((unknown & torch.from_numpy(images.full_labels == POSITIVE)).sum())
    trainer.train()
    entry = next(entry for entry in trainer.state.log_history if "loss" in entry)
    assert entry["pseudo_labels_intra"] == unknown.sum()
    assert entry["pseudo_precision_intra"] == pytest.approx(100 * correct / int(unknown.sum()))


def test_data_without_hidden_labels_have_no_precision(tmp_path):
    trainer = make_trainer(tiny_recipe(training=QUIET), tmp_path)
    trainer.train_dataset.full_labels = None
    trainer.train()
    last = [entry for entry in trainer.state.log_history if "loss" in entry][-1]
    assert last["pseudo_labels_intra"] > 0 and "pseudo_precision_intra" not in last


def test_the_hidden_labels_change_nothing(trained, tmp_path):
    trainer = make_trainer(tiny_recipe(training={"save_strategy": "no"}), tmp_path)
    trainer.train_dataset.full_labels = -trainer.train_dataset.full_labels
    trainer.train()
    assert (weights(trainer), memory(trainer)) == (weights(trained), memory(trained))


def test_a_checkpoint_and_an_evaluation_close_the_interval_of_the_logs(tmp_path):
    recipe = tiny_recipe(training={"logging_steps": 100, "save_strategy": "steps", "save_steps": 2})
    trainer = make_trainer(recipe, tmp_path)
    trainer.train()
    assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == [2, 3, 4, 6]


@pytest.mark.parametrize(
    "settings, steps", [({}, [3, 6]), ({"max_steps": 4}, [3, 4]), ({"logging_strategy": "no"}, [])]
)
def test_an_epoch_ends_with_a_log(settings, steps, tmp_path):
    training = {"logging_steps": 100, "save_strategy": "no", "eval_strategy": "no", **settings}
    trainer = make_trainer(tiny_recipe(training=training), tmp_path)
    trainer.train()
    assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == steps


def test_logs_go_to_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    make_trainer(tiny_recipe(training={"report_to": "tensorboard", **QUIET}), tmp_path).train()
    events = EventAccumulator(str(next(tmp_path.rglob("events.out.*")).parent)).Reload()
    assert {"train/loss_known", "train/threshold_intra", "train/pseudo_labels_cross"} <= {*events.Tags()["scalars"]}


def test_a_loss_that_is_no_number_stops_the_run_and_is_not_saved(tmp_path):
    trainer = make_trainer(tiny_recipe(), tmp_path)
    with torch.no_grad():
        trainer.model.fuse.weight.fill_(math.nan)
    with pytest.raises(RuntimeError, match="The loss is nan around step 1: training diverged, and nothing of it is"):
        trainer.train()
    assert not list(tmp_path.glob("checkpoint-*"))


# ---- one step ----


def test_nothing_of_a_step_looks_at_all_parameters_in_vain(tmp_path, monkeypatch):
    """Neither for a norm that clips nothing, nor to count them, nor to put what trains into training mode."""
    trainer = make_trainer(tiny_recipe(training={"max_grad_norm": 0.0, "num_train_epochs": 1, **QUIET}), tmp_path)
    calls = []
    for owner, name in ((trainer.accelerator, "clip_grad_norm_"), (trainer.model, "num_parameters")):
        monkeypatch.setattr(owner, name, lambda *args, name=name, **kwargs: calls.append(name))
    train = type(trainer.model).train
    monkeypatch.setattr(type(trainer.model), "train", lambda *args: (calls.append("train"), train(*args))[1])
    trainer.train()
    assert trainer.state.global_step == 3 and calls == ["train"]


def test_the_model_trains_again_after_an_evaluation_in_mid_epoch(tmp_path):
    modes = []

    class Modes(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
            modes.append({module.training for module in model.modules()})

    trainer = make_trainer(tiny_recipe(training={"eval_strategy": "steps", "eval_steps": 1}), tmp_path)
    trainer.model.backbone.eval()  # by somebody else, before the training
    trainer.add_callback(Modes())
    trainer.train()
    assert modes == [{True}] * 6


# ---- looking through the training set ----


class Looking(Objective):
    """Counts what it sees before each epoch, and draws random numbers there, which must not show."""

    def prepare(self, images):
        self.register_buffer("seen", torch.zeros(len(images), dtype=torch.long))
        self.epochs = []

    def before_epoch(self, model, images, progress):
        assert not model.training and not torch.is_grad_enabled()
        for rows, labels in images.map(lambda batch: batch["labels"], "Looking"):
            assert torch.equal(labels, images.labels[rows])
            self.seen[rows] += 1
        self.epochs.append(progress.epoch)
        torch.rand(1)

    def forward(self, model, batch, progress):
        assert model.training
        logits = model.classify(model.represent(model.encode(batch["pixel_values"]))[0])
        loss = partial_bce(logits, batch["labels"]) * torch.rand(())
        return ObjectiveOutput(loss=loss, logits=logits)


class NotLooking(Looking):
    before_epoch = Objective.before_epoch


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_an_objective_sees_all_images_before_each_epoch(workers, tmp_path):
    settings = {"num_train_epochs": 2, "dataloader_num_workers": workers, **QUIET}
    states = []
    for objective_class in (Looking, NotLooking):
        trainer = make_trainer(tiny_recipe("partial_bce", training=settings), tmp_path)
        objective = objective_class(None, trainer.model.config)
        trainer = MultiLabelTrainer(trainer.model, trainer.args, objective, train_dataset=trainer.train_dataset)
        torch.manual_seed(0)
        trainer.train()
        states.append(weights(trainer))
        looks = objective_class is Looking
        assert objective.seen.tolist() == [2 * looks] * 48 and objective.epochs == ([0, 1] if looks else [])
    assert states[0] == states[1]


def test_workers_that_live_through_epochs_change_nothing(tmp_path):
    """Neither the random views of later epochs nor the random numbers that an objective draws; they end with it."""
    states, others = [], set(multiprocessing.active_children())
    for workers in (0, 2):
        settings = {"num_train_epochs": 3, "dataloader_num_workers": workers, **QUIET}
        trainer = make_trainer(tiny_recipe("partial_bce", training=settings), tmp_path)
        objective = NotLooking(None, trainer.model.config)
        trainer = MultiLabelTrainer(trainer.model, trainer.args, objective, train_dataset=trainer.train_dataset)
        assert trainer.get_train_dataloader().persistent_workers == (workers > 0)
        torch.manual_seed(0)
        trainer.train()
        states.append(weights(trainer))
        assert set(multiprocessing.active_children()) <= others
    assert states[0] == states[1]


# ---- evaluation and the choice of the best model ----


def test_the_evaluation_loss_is_that_of_all_images_at_once(trained):
    images = trained.eval_dataset
    trained.args.per_device_eval_batch_size = 5  # 16 images: the last batch is smaller
    metrics = trained.evaluate()
    batch = [images[row] for row in range(len(images))]
    with torch.no_grad():
        logits = trained.model.eval()(torch.stack([item["pixel_values"] for item in batch])).logits
    expected = partial_bce(logits, torch.stack([item["labels"] for item in batch]))
    assert metrics["eval_loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_the_evaluation_loss_of_many_images_is_added_up_in_blocks(monkeypatch):
    logits, labels = torch.randn(50, 3), torch.randint(-1, 2, (50, 3))
    monkeypatch.setattr(BLOCKS, "_ENTRIES_PER_BLOCK", 20)
    loss = evaluation_loss(logits.numpy(), labels.numpy())
    assert loss == pytest.approx(partial_bce(logits.double(), labels).item(), rel=1e-12)
    assert evaluation_loss(logits.numpy(), 0 * labels.numpy()) == 0


class RememberImages(TrainerCallback):
    """Which data sets were evaluated during training."""

    def __init__(self):
        self.seen = []

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        self.seen.append(eval_dataloader.dataset)


@pytest.mark.slow
def test_the_best_epoch_on_the_validation_part_is_kept(tmp_path):
    training = {"load_best_model_at_end": True, "num_train_epochs": 4, "save_total_limit": None, "learning_rate": 0.02}
    remember = RememberImages()
    trainer = make_trainer(tiny_recipe("ssgrl", training=training), tmp_path, callbacks=[remember])
    trainer.train()
    assert all(dataset is trainer.eval_dataset for dataset in remember.seen) and remember.seen
    scores = {entry["step"]: entry["eval_map"] for entry in trainer.state.log_history if "eval_map" in entry}
    best = max(scores, key=scores.get)
    assert len(scores) == 4 and trainer.state.best_model_checkpoint.endswith(f"checkpoint-{best}")
    assert trainer.evaluate()["eval_map"] == pytest.approx(scores[best], abs=1e-9)


def test_validation_images_are_training_images_and_never_test_images():
    recipe = tiny_recipe()
    splits = recipe.data.load()
    train, validation, test = ({*part["image_id"]} for part in (splits.train, splits.validation, splits.test))
    assert len(train) == 48 and len(validation) == 16
    assert train | validation == {*recipe.data.load_split("train")["image_id"]}
    assert not (train & validation) and not (test & (train | validation))
    assert "full_labels" not in splits.validation.column_names


def test_averaged_weights_are_evaluated_and_the_own_ones_come_back(tmp_path):
    trainer = make_trainer(tiny_recipe(training={"ema_decay": 0.5, **QUIET}), tmp_path)
    trainer.train()
    own = weights(trainer)
    averaged = trainer.evaluate()
    assert weights(trainer) == own
    trainer.save_averaged_weights_to_model()
    assert weights(trainer) != own
    trainer.ema = None
    assert trainer.evaluate()["eval_loss"] == averaged["eval_loss"]


def test_the_average_follows_its_formula(tmp_path):
    trainer = make_trainer(tiny_recipe(training={"ema_decay": 0.75, **QUIET}), tmp_path)
    trainer.train_dataset.set_epoch(0)
    name = "fuse.weight"
    expected = trainer.model.state_dict()[name].clone()

    class Follow(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            expected.mul_(0.75).add_(model.state_dict()[name], alpha=0.25)

    trainer.add_callback(Follow())
    trainer.train()
    torch.testing.assert_close(trainer.ema.state_dict()[name], expected)


@pytest.mark.parametrize("decay", [1.0, 0.0, -0.5, 2])
def test_a_decay_outside_its_range_is_an_error(decay, tmp_path):
    with pytest.raises(ValueError, match=r"ema_decay` must lie in \(0, 1\)"):
        tiny_recipe(training={"ema_decay": decay}).build_arguments(tmp_path)


def test_thresholds_are_chosen_on_validation_images_for_the_averaged_weights(tmp_path):
    trainer = make_trainer(
        tiny_recipe("partial_bce", training={"choose_thresholds": True, "ema_decay": 0.5, **QUIET}), tmp_path
    )
    trainer.train()
    chosen = trainer.model.config.thresholds
    assert len(chosen) == 10 and all(0 <= threshold <= 1 for threshold in chosen)
    measured = trainer.evaluate()
    at_chosen = measured["eval_mean_f1_chosen"]
    assert trainer.state.log_history[-2]["validation_mean_f1_chosen"] == pytest.approx(at_chosen)
    assert measured["eval_mean_f1"] <= at_chosen
    for threshold in (0.3, 0.7):
        trainer.model.config.thresholds = threshold
        assert trainer.evaluate()["eval_mean_f1_chosen"] <= at_chosen
    trainer.save_averaged_weights_to_model()
    assert trainer.choose_thresholds() == chosen


def test_thresholds_cannot_be_chosen_without_validation_images(tmp_path):
    trainer = make_trainer(tiny_recipe("partial_bce", training={"choose_thresholds": True, **QUIET}), tmp_path)
    with pytest.raises(ValueError, match="`choose_thresholds` needs validation images.*`data.validation`"):
        MultiLabelTrainer(trainer.model, trainer.args, trainer.objective, train_dataset=trainer.train_dataset)


# ---- what is saved ----


def test_a_checkpoint_holds_no_pickled_arguments(tmp_path):
    make_trainer(tiny_recipe(training={"max_steps": 1, "save_strategy": "steps", "save_steps": 1}), tmp_path).train()
    names = {path.name for path in (tmp_path / "checkpoint-1").iterdir()}
    assert {"model.safetensors", "objective.safetensors", "trainer_state.json"} <= names
    assert "training_args.bin" not in names
    assert json.loads((tmp_path / "checkpoint-1" / "config.json").read_text())["model_type"] == "mlrpl-sst"


@pytest.mark.parametrize(("first", "warned"), [(1, True), (0, False)])
def test_what_never_begins_in_a_training_is_said(first, warned, tmp_path, caplog):
    recipe = tiny_recipe("splc", objective={"correction_epoch": first}, training={"max_steps": 1})
    make_trainer(recipe, tmp_path).train()
    message = f"`objective.correction_epoch`: corrections begin in epoch {first}, counted from 0, but training ends"
    assert (f"{message} after 1: there will be none" in caplog.text) == warned


def test_an_objective_with_parameters_is_an_error(tmp_path):
    class Wrong(Objective):
        def __init__(self):
            super().__init__(None, None)
            self.scale = nn.Parameter(torch.ones(()))

    recipe = tiny_recipe()
    trainer = make_trainer(recipe, tmp_path)
    with pytest.raises(ValueError, match="An objective must not have parameters, got scale"):
        MultiLabelTrainer(trainer.model, trainer.args, Wrong())


def test_another_seed_gives_another_run(trained, tmp_path):
    other = make_trainer(tiny_recipe(training={"save_strategy": "no", "seed": 1}), tmp_path / "other")
    other.train()
    again = make_trainer(tiny_recipe(training={"save_strategy": "no"}), tmp_path / "again")
    again.train()
    assert weights(again) == weights(trained) != weights(other)


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(trained, tmp_path):
    trainer = make_trainer(tiny_recipe(training={"save_strategy": "no", "dataloader_num_workers": 2}), tmp_path)
    trainer.train()
    assert weights(trainer) == weights(trained)
