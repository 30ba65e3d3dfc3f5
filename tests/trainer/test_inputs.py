"""What a user may give to the trainer, and what is refused before the training."""

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from PIL import Image
from tiny import tiny_model, weights
from transformers import EarlyStoppingCallback, ProgressCallback, TrainerCallback, TrainingArguments

from hf_mlrpl import (
    BaselineForMultiLabelClassification,
    EprObjectiveConfig,
    MixupObjectiveConfig,
    MultiLabelTrainer,
    MultiLabelTrainingArguments,
    PartialBceObjectiveConfig,
    RandomKnown,
    SarbObjective,
    SarbObjectiveConfig,
    SplcObjective,
    SsgrlForMultiLabelClassification,
    hide_labels,
    label_matrix,
    make_dataset,
    prepare_images,
)
from hf_mlrpl.distributed import state_digest
from hf_mlrpl.models.priors import cooccurrence_graph
from hf_mlrpl.trainer import logs
from hf_mlrpl.trainer.logs import ConciseLog, ConciseProgress

NAMES = ["cat", "dog", "sofa"]


def raw_photos(count: int = 12, seed: int = 0, names: list[str] = NAMES) -> Dataset:
    """Photos of noise with one column per label, as `load_dataset("imagefolder", ...)` gives them."""
    generator = np.random.default_rng(seed)
    images = [Image.fromarray(generator.integers(0, 256, (36, 40, 3), np.uint8)) for _ in range(count)]
    columns = {name: generator.integers(0, 2, count).tolist() for name in names}
    features = {"image": datasets.Image(), **dict.fromkeys(names, Value("int64"))}
    return Dataset.from_dict({"image": images, **columns}, features=Features(features))


def tiny_baseline(photos: Dataset | None = None, **settings) -> BaselineForMultiLabelClassification:
    torch.manual_seed(0)
    settings = {"backbone": "test_resnet", "pretrained": False, "image_size": 32} | settings
    return BaselineForMultiLabelClassification.for_dataset(photos or raw_photos(), **settings)


def trainer_for(tmp_path, model=None, objective="partial_bce", train=None, evaluation=None, options=None, **settings):
    settings = {"num_train_epochs": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True} | settings
    arguments = MultiLabelTrainingArguments(str(tmp_path), **settings)
    if model is None and "model_init" not in (options or {}):
        model = tiny_baseline()
    train = raw_photos() if train is None else train
    return MultiLabelTrainer(model, arguments, objective, train, evaluation, **(options or {}))


# ---- data sets ----


def test_raw_data_sets_train_and_evaluate(tmp_path):
    trainer = trainer_for(tmp_path, evaluation=raw_photos(seed=1), seed=7)
    training, evaluation = trainer.train_dataset, trainer.eval_dataset
    expected = prepare_images(raw_photos(), trainer.model.config, view="crop_flip", seed=7)
    for row in range(3):
        assert torch.equal(training[row]["pixel_values"], expected[row]["pixel_values"])
    assert evaluation[0].keys() == {"pixel_values", "labels", "index"}
    trainer.train()
    assert any("eval_map" in entry for entry in trainer.state.log_history)
    assert (
        trainer.evaluate(raw_photos(seed=2))["eval_map"]
        == trainer.evaluate(prepare_images(raw_photos(seed=2), trainer.model.config))["eval_map"]
    )


def test_labels_of_other_columns_are_left_out_and_hidden_ones_count(tmp_path):
    hidden = hide_labels(raw_photos(), RandomKnown(0.5))
    wider = raw_photos(names=["owl", *NAMES])
    trainer = trainer_for(tmp_path, tiny_baseline(hidden), train=hidden, evaluation=wider)
    assert trainer.train_dataset.full_labels is not None
    assert np.array_equal(trainer.eval_dataset.labels, np.stack([wider[name] for name in NAMES], axis=1) * 2 - 1)


def test_data_that_cannot_be_trained_on(tmp_path):
    model = tiny_baseline()
    bare = raw_photos().remove_columns(NAMES)
    with pytest.raises(ValueError, match="no column for the label 'cat'"):
        trainer_for(tmp_path, model, train=bare)
    one_class = Dataset.from_dict(
        {"image": raw_photos()["image"], "label": [0] * 12},
        features=Features({"image": datasets.Image(), "label": ClassLabel(names=NAMES)}),
    )
    with pytest.raises(ValueError, match="one class per image, in the column `label`"):
        trainer_for(tmp_path, model, train=one_class)
    others = make_dataset([Image.new("L", (4, 4))], ["a"], np.int8([[1]]), ["cow"])
    with pytest.raises(ValueError, match="other labels than the model: cow only in data, cat, dog, sofa only in"):
        trainer_for(tmp_path, model, evaluation=others)
    images = prepare_images(raw_photos(names=["cow", "pig"]), tiny_baseline(raw_photos(names=["cow", "pig"])).config)
    for place in ("train", "evaluation"):
        with pytest.raises(ValueError, match="images have other labels than the model: cow, pig only in the images"):
            trainer_for(tmp_path, model, **{place: images})
    unknown = make_dataset([Image.new("L", (4, 4))] * 2, ["a", "b"], np.zeros((2, 3), np.int8), NAMES)
    with pytest.raises(ValueError, match="All training labels are unknown: there is nothing to learn from"):
        trainer_for(tmp_path, model, train=unknown)
    with pytest.raises(TypeError, match="got DatasetDict of the splits 'train': choose one"):
        trainer_for(tmp_path, model, train=datasets.DatasetDict(train=raw_photos()))


# ---- several data sets to evaluate on ----


def test_models_and_thresholds_are_chosen_with_the_validation_part(tmp_path):
    parts = {"test": raw_photos(seed=1), "validation": raw_photos(seed=2)}
    keep_best = {"save_strategy": "epoch", "load_best_model_at_end": True, "choose_thresholds": True}
    trainer = trainer_for(tmp_path, evaluation=parts, num_train_epochs=2, **keep_best)
    trainer.train()
    assert trainer.args.metric_for_best_model == "validation_map"
    scores = [entry["eval_validation_map"] for entry in trainer.state.log_history if "eval_validation_map" in entry]
    assert len(scores) == 2 and trainer.state.best_metric == max(scores)
    assert trainer.model.config.thresholds == trainer.choose_thresholds(parts["validation"])
    part, metrics = logs.last_evaluation(trainer.state, trainer.eval_dataset, best=True)
    assert part == "validation" and metrics["validation_map"] == max(scores)


def test_a_choice_between_several_data_sets_is_an_error(tmp_path):
    parts, model = {"a": raw_photos(seed=1), "b": raw_photos(seed=2)}, tiny_baseline()
    trainer = trainer_for(tmp_path, model, evaluation=parts)
    trainer.train()
    assert trainer.args.metric_for_best_model is None, "which nobody needs here"
    for setting in ("choose_thresholds", "load_best_model_at_end"):
        settings = {setting: True, "save_strategy": "epoch"}
        with pytest.raises(ValueError, match="needs one data set to choose with, but `eval_dataset` has 'a', 'b'"):
            trainer_for(tmp_path, model, evaluation=parts, **settings)
    settings = {"load_best_model_at_end": True, "save_strategy": "epoch", "metric_for_best_model": "b_map"}
    assert trainer_for(tmp_path, model, evaluation=parts, **settings).args.metric_for_best_model == "b_map"
    assert trainer_for(tmp_path, model, evaluation={"a": parts["a"]}).args.metric_for_best_model == "a_map"


# ---- settings ----


def test_without_data_to_evaluate_on_nothing_is_evaluated(tmp_path):
    arguments = MultiLabelTrainingArguments(str(tmp_path), report_to="none")
    trainer = MultiLabelTrainer(tiny_baseline(), arguments, "partial_bce", raw_photos())
    assert trainer.args.eval_strategy == "no" and arguments.eval_strategy == "epoch", "a copy"
    with pytest.raises(ValueError, match="`load_best_model_at_end` needs validation images: give an `eval_dataset`"):
        trainer_for(tmp_path, load_best_model_at_end=True, save_strategy="epoch")


def test_the_arguments_of_transformers_are_not_enough(tmp_path):
    with pytest.raises(TypeError, match="must be `MultiLabelTrainingArguments`.*got TrainingArguments"):
        MultiLabelTrainer(tiny_baseline(), TrainingArguments(str(tmp_path)), "partial_bce", raw_photos())


def test_early_stopping(tmp_path):
    settings = {"num_train_epochs": 9, "save_strategy": "epoch", "load_best_model_at_end": True}
    options = {"callbacks": [EarlyStoppingCallback(early_stopping_patience=1, early_stopping_threshold=1000.0)]}
    trainer = trainer_for(tmp_path, evaluation=raw_photos(seed=1), options=options, **settings)
    trainer.train()
    assert trainer.state.global_step == 2 and (tmp_path / "checkpoint-2").is_dir()


class NotebookProgress(TrainerCallback):
    """In the place of that of transformers, which needs IPython."""


@pytest.mark.parametrize(
    "default, quiet, expected",
    [
        (ProgressCallback, False, ConciseProgress),
        (ProgressCallback, True, ConciseLog),
        (NotebookProgress, False, NotebookProgress),
    ],
)
def test_there_is_one_place_where_progress_is_shown(default, quiet, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "DEFAULT_PROGRESS_CALLBACK", default)
    monkeypatch.setattr("transformers.trainer.DEFAULT_PROGRESS_CALLBACK", default)
    callbacks = trainer_for(tmp_path, disable_tqdm=quiet).callback_handler.callbacks
    shown = [each for each in callbacks if "Progress" in type(each).__name__ or isinstance(each, ConciseLog)]
    assert [type(each) for each in shown] == [expected]


def test_gradient_checkpointing_changes_no_weight(tmp_path):
    results = []
    for checkpoints in (False, True):
        trainer = trainer_for(tmp_path, tiny_baseline(), gradient_checkpointing=checkpoints)
        trainer.train()
        results.append(weights(trainer))
    assert results[0] == results[1]
    with pytest.raises(ValueError, match="`gradient_checkpointing` must be false: ClipImageEncoder has none"):
        tiny_model("dualcoop").gradient_checkpointing_enable()
    with pytest.raises(ValueError, match="which has no settings, got {'use_reentrant': True}"):
        tiny_baseline().gradient_checkpointing_enable({"use_reentrant": True})


# ---- models and objectives ----


def test_each_training_begins_with_a_new_model(tmp_path):
    options = {"model_init": lambda: tiny_baseline()}
    trainer = trainer_for(tmp_path, None, "curriculum", options=options, ema_decay=0.5, learning_rate=1e-2)
    results = []
    for _ in range(2):
        trainer.train()
        results.append((weights(trainer), trainer.objective))
    assert results[0][0] == results[1][0] and results[0][1] is not results[1][1]
    assert results[0][0] != state_digest(tiny_baseline().state_dict())
    with pytest.raises(ValueError, match="name or the config of the objective, not a SplcObjective"):
        objective = SplcObjective(SplcObjective.config_class(), tiny_baseline().config)
        trainer_for(tmp_path, None, objective, options=options)


def test_an_objective_by_its_name_its_config_or_itself(tmp_path):
    model = tiny_baseline()
    trainer = trainer_for(tmp_path, model, "splc")
    assert type(trainer.objective) is SplcObjective and trainer.objective.config == SplcObjective.config_class()
    config = PartialBceObjectiveConfig()
    assert trainer_for(tmp_path, model, config).objective.config is config
    assert trainer_for(tmp_path, model, trainer.objective).objective is trainer.objective
    assert trainer_for(tmp_path, model, EprObjectiveConfig(expected_positives=2.0)).objective.config.expected_positives


@pytest.mark.parametrize(
    "objective, message",
    [
        ("slpc", "Unknown method 'slpc'. Did you mean 'splc'"),
        ("epr", r"'epr' has no default for `expected_positives`: give `objective=EprObjectiveConfig\(expected_"),
        (MixupObjectiveConfig(), "belongs to FmMixupObjective and IpMixupObjective. Give the objective itself"),
        (None, "`objective` must be the name of a method, such as 'sst', .*got None"),
        ("sst", "SstObjective trains a SstForMultiLabelClassification, got a BaselineFor.*Make one with `SstFor"),
        (SarbObjectiveConfig(), "SarbObjective trains a SarbForMultiLabelClassification, got a Baseline.*: ssgrl, "),
    ],
)
def test_objectives_that_cannot_train_the_model(objective, message, tmp_path):
    with pytest.raises((ValueError, TypeError), match=message):
        trainer_for(tmp_path, tiny_baseline(), objective)


def test_models_of_others_are_refused(tmp_path):
    objective = SarbObjective(SarbObjectiveConfig(), tiny_model("sarb").config)
    with pytest.raises(ValueError, match="trains a SarbForMultiLabelClassification, got a SstForMulti"):
        trainer_for(tmp_path, tiny_model("sst"), objective)
    model = torch.nn.Linear(3, 3)
    model.config = tiny_baseline().config
    with pytest.raises(TypeError, match="must be a model of this library, .*got Linear"):
        trainer_for(tmp_path, model, "partial_bce")


# ---- results ----


def test_what_is_saved_has_the_averaged_weights_the_processor_and_a_card(tmp_path):
    trainer = trainer_for(tmp_path, evaluation=raw_photos(seed=1), ema_decay=0.5, learning_rate=1e-2)
    trainer.train()
    expected, own = trainer.evaluate()["eval_loss"], weights(trainer)
    trainer.save_model()
    assert weights(trainer) == own
    again = BaselineForMultiLabelClassification.from_pretrained(tmp_path)
    loaded = trainer_for(tmp_path / "again", again, evaluation=raw_photos(seed=1))
    assert loaded.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-6)
    card = (tmp_path / "README.md").read_text()
    assert "Partial BCE" in card and "12 training images with 3 labels each" in card and "| mAP |" in card
    assert (tmp_path / "preprocessor_config.json").is_file()


# ---- models for a data set ----


def test_a_model_for_a_data_set_has_its_labels_and_priors():
    hidden = hide_labels(raw_photos(), RandomKnown(0.5))
    sizes = {"representation_dim": 8, "attention_dim": 8, "output_dim": 8, "word_embedding_dim": 8}
    settings = {"backbone": "test_resnet", "pretrained": False, "image_size": 32, "trainable_backbone": None, **sizes}
    settings["label_embeddings"] = "orthogonal"
    model = SsgrlForMultiLabelClassification.for_dataset(hidden, **settings)
    assert model.config.label_names == NAMES and model.config.label2id == {"cat": 0, "dog": 1, "sofa": 2}
    assert torch.equal(model.label_graph, cooccurrence_graph(label_matrix(hidden)))
    with pytest.raises(ValueError, match="SsgrlConfig has no key `backbon`. Did you mean `backbone`"):
        SsgrlForMultiLabelClassification.for_dataset(hidden, backbon="test_resnet")
