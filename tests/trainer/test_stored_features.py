"""Training on stored features is the training on pixels of a frozen backbone."""

import pytest
import torch
from tiny import make_trainer, memory, tiny_recipe, weights, without_clock

from hf_mlrpl.data.images import storing
from hf_mlrpl.data.images.feature_files import FEATURES
from hf_mlrpl.data.images.stored_images import StoredImages

FLIP = {"view": "flip"}
EXACT = {"feature_dtype": "float32", "per_device_eval_batch_size": 16}
METHODS = ["partial_bce", "sst", "sarb", "curriculum", "soft_exposure", "fm_mixup", "dualcoop", "boost_lu"]


def recipe(method="partial_bce", trained=(), data=FLIP, **training):
    objective = {"features_from": "model"} if method == "soft_exposure" else {}
    model = {"trainable_backbone": trained if trained is None else list(trained)}
    return tiny_recipe(method, data=data, model=model, objective=objective, training=training)


def outcome(chosen, folder, *, stored):
    trainer = make_trainer(chosen, folder)
    assert isinstance(trainer.train_dataset, StoredImages) == stored
    trainer.train()
    logs = [without_clock(entry) for entry in trainer.state.log_history if "train_runtime" not in entry]
    return {"weights": weights(trainer), "memory": memory(trainer), "logs": logs}


@pytest.mark.parametrize("method", METHODS)
def test_with_float32_every_bit_is_that_of_training_on_pixels(method, tmp_path):
    stored = outcome(recipe(method, **EXACT), tmp_path / "stored", stored=True)
    assert stored == outcome(recipe(method, store_features=False), tmp_path / "pixels", stored=False)


@pytest.mark.parametrize("method, dimensions", [("partial_bce", 1), ("boost_lu", 3), ("sst", 3)])
def test_networks_that_read_only_the_mean_of_a_map_get_no_more(method, dimensions, tmp_path):
    trainer = make_trainer(recipe(method), tmp_path)
    for loader in (trainer.get_train_dataloader(), trainer.get_eval_dataloader()):
        assert next(iter(loader))[FEATURES][0].ndim == dimensions


def test_maps_that_are_stored_serve_networks_that_read_only_their_mean(tmp_path, monkeypatch):
    make_trainer(recipe("ssgrl"), tmp_path / "maps").train()
    monkeypatch.setattr(storing, "_compute", None)  # no photo passes the backbone again
    make_trainer(recipe("partial_bce"), tmp_path / "means").train()


@pytest.mark.parametrize("trained", [["layer4"], ["layer3.0", "layer4"]])
def test_the_last_stages_train_on_the_features_of_the_first_ones(trained, tmp_path):
    stored = outcome(recipe(trained=trained, store_features=True, **EXACT), tmp_path / "stored", stored=True)
    assert stored == outcome(recipe(trained=trained), tmp_path / "pixels", stored=False)


def test_with_float16_the_loss_and_its_gradients_are_those_of_rounded_features(tmp_path):
    stored = make_trainer(recipe(num_train_epochs=1, max_steps=1), tmp_path / "stored")
    pixels = make_trainer(recipe(num_train_epochs=1, max_steps=1, store_features=False), tmp_path / "pixels")
    gradients = []
    for trainer in (stored, pixels):
        batch = next(iter(trainer.get_train_dataloader()))
        trainer.model.train()
        trainer.compute_loss(trainer.model, batch).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.requires_grad]))
    assert not torch.equal(*gradients)
    torch.testing.assert_close(*gradients, rtol=2e-3, atol=2e-5)


def test_a_run_on_features_is_resumed_exactly(tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 2, "ema_decay": 0.9}
    unbroken = make_trainer(recipe("sst", **settings), tmp_path / "unbroken")
    unbroken.train()
    first = make_trainer(recipe("sst", max_steps=3, **settings), tmp_path / "resumed")
    first.train()
    resumed = make_trainer(recipe("sst", **settings), tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=True)
    assert (weights(resumed), memory(resumed)) == (weights(unbroken), memory(unbroken))


def test_a_run_is_not_resumed_on_features_of_other_weights(tmp_path):
    make_trainer(recipe(), tmp_path).train()
    other = make_trainer(recipe(seed=1), tmp_path)  # another random backbone
    with pytest.raises(ValueError, match="frozen weights"):
        other.train(resume_from_checkpoint=True)


@pytest.mark.parametrize("view, count", [("plain", 1), ("flip", 2)])
def test_by_default_features_are_stored_where_that_changes_nothing(view, count, tmp_path):
    images = make_trainer(recipe(data={"view": view}), tmp_path).train_dataset
    assert isinstance(images, StoredImages) and len(images.stored.views) == count


@pytest.mark.parametrize(
    "method, trained, settings",
    [("partial_bce", ["layer4"], {}), ("partial_bce", [], {"view": "shift"}), ("ip_mixup", [], {})],
)
def test_by_default_they_are_not_where_it_would(method, trained, settings, tmp_path):
    trainer = make_trainer(recipe(method, trained, data=FLIP | settings), tmp_path)
    assert not isinstance(trainer.train_dataset, StoredImages)


@pytest.mark.parametrize(
    "method, trained, data, training, message",
    [
        ("ip_mixup", [], {}, {}, "IpMixupObjective mixes the pixels"),
        ("logic_mix", [], {}, {}, "LogicMixObjective mixes the pixels"),
        ("mixup_pme", [], {}, {}, "MixupPmeObjective mixes the pixels"),
        ("scpnet", [], {}, {}, "ScpnetObjective compares several random views of an image .*weak, strong"),
        ("partial_bce", None, {}, {}, "needs a frozen backbone: set `model.trainable_backbone="),
        ("partial_bce", ["conv1", "layer4"], {}, {}, "the first part of test_resnet, conv1, is trained"),
        ("partial_bce", [], {"view": "shift"}, {}, "too many different results .* `data.view=flip`"),
        (
            "partial_bce",
            [],
            {"view": "flip"},
            {"views_per_image": 3},
            "fewer different images than `views_per_image=3`",
        ),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(method, trained, data, training, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        make_trainer(recipe(method, trained, data=FLIP | data, store_features=True, **training), tmp_path)


@pytest.mark.parametrize("view, count", [("shift", 1), ("shift", 2), ("shift", 3), ("plain", 2)])
def test_a_number_of_views_takes_the_place_of_the_view(view, count, tmp_path):
    trainer = make_trainer(recipe(data={"view": view}, views_per_image=count, num_train_epochs=1), tmp_path)
    assert len(trainer.train_dataset.stored.views) == count
    trainer.train()
