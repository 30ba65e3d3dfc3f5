"""Parameter groups, optimizers and schedules."""

import math

import pytest
import torch
from golden_files import golden
from tiny import make_trainer, tiny_recipe
from torch import nn

from hf_mlrpl.trainer.optimization import FusedSgd, make_optimizer, make_schedule


@pytest.mark.parametrize(
    "name, kind", [("adam", "Adam"), ("adamw", "AdamW"), ("adamax", "Adamax"), ("sgd", "FusedSgd")]
)
def test_the_optimizer_is_the_one_that_was_asked_for(name, kind, tmp_path):
    settings = {"optimizer": name, "weight_decay": 0.01, "adam_beta1": 0.7}
    settings |= {"momentum": 0.8} if name == "sgd" else {}
    trainer = make_trainer(tiny_recipe("ssgrl", training=settings), tmp_path)
    optimizer = trainer.create_optimizer()
    assert type(optimizer).__name__ == kind
    (group,) = optimizer.param_groups
    assert group["weight_decay"] == 0.01  # on biases and norms, too
    assert group["momentum"] == 0.8 if name == "sgd" else group["betas"] == (0.7, 0.999)
    assert len(group["params"]) == sum(parameter.requires_grad for parameter in trainer.model.parameters())


def rates_and_decays(optimizer: torch.optim.Optimizer) -> dict[int, tuple[float, float]]:
    groups = optimizer.param_groups
    return {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}


def test_parts_may_learn_faster_and_biases_go_without_decay(tmp_path):
    settings = {"learning_rate": 1e-3, "weight_decay": 0.01, "decay_exempt": "biases_and_norms"}
    settings |= {"lr_factors": {"backbone": 0.5, "backbone.network.layer4": 2, "classifier": 10.0}}
    trainer = make_trainer(tiny_recipe("partial_bce", training=settings | {"lr_schedule": "one_cycle"}), tmp_path)
    optimizer = trainer.create_optimizer()
    found = rates_and_decays(optimizer)
    for name, parameter in trainer.model.named_parameters():
        rate = 1e-2 if name.startswith("classifier.") else 2e-3 if ".layer4." in name else 5e-4
        decay = 0.0 if parameter.ndim == 1 or name.endswith(".bias") else 0.01
        assert found[id(parameter)] == (pytest.approx(rate), decay), name
    trainer.create_scheduler(num_training_steps=100, optimizer=optimizer)
    assert sorted({group["max_lr"] for group in optimizer.param_groups}) == pytest.approx([5e-4, 2e-3, 1e-2])


def test_a_factor_for_a_part_that_is_not_trained_is_an_error(tmp_path):
    for part, model in (("clasifier", {}), ("backbone.network.layer1", {"trainable_backbone": ["layer4"]})):
        recipe = tiny_recipe("partial_bce", model=model, training={"lr_factors": {part: 10.0}})
        with pytest.raises(ValueError, match=f"'{part}', but no .* Its trained parts are backbone, classifier."):
            make_trainer(recipe, tmp_path).create_optimizer()


@pytest.mark.parametrize("factor", [0, -1.0, "ten"])
def test_a_factor_that_is_no_factor_is_an_error(factor, tmp_path):
    with pytest.raises(ValueError, match=f"lr_factors.classifier` must .*, got {factor!r}"):
        tiny_recipe(training={"lr_factors": {"classifier": factor}}).build_arguments(tmp_path)


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 6])
def test_a_cycle_may_have_few_steps(steps, tmp_path):
    arguments = tiny_recipe(training={"lr_schedule": "one_cycle"}).build_arguments(tmp_path)
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make_schedule(optimizer, arguments, steps)
    for _ in range(steps - 1):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("epochs", [0, -1.0, [5, 0], ["ten"]])
def test_the_rate_falls_after_the_beginning(epochs, tmp_path):
    with pytest.raises(ValueError, match="`(training.)?lr_step_epochs` must"):
        tiny_recipe(training={"lr_step_epochs": epochs}).build_arguments(tmp_path)


# ---- the groups of SCPNet ----


def golden_parameters() -> nn.Module:
    """Parameters with the published names and shapes; the text encoder is frozen."""
    scpnet, clip = golden("scpnet_full"), golden("clip_resnet").tensors
    shapes = {"prompt_learner.ctx": scpnet.tensors["in.context"].shape, "logit_scale": clip["w.logit_scale"].shape}
    for group in scpnet.hparams["param_groups"]:
        for name in group["params"]:
            if name.startswith("image_encoder."):
                shapes[name] = clip[name.replace("image_encoder.", "w.visual.")].shape
            elif name.startswith("gc"):
                shapes[name] = scpnet.tensors[f"w.gcn.{int(name[2]) - 1}.weight"].shape
    model = nn.Module()
    for name in [*shapes, *scpnet.hparams["frozen"]]:
        *path, last = name.split(".")
        module = model
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        trained = name in shapes
        module.register_parameter(last, nn.Parameter(torch.zeros(shapes.get(name, ())), requires_grad=trained))
    return model


@pytest.mark.golden
def test_groups_match_published_code(tmp_path):
    hparams = golden("scpnet_full").hparams
    groups = hparams["param_groups"]
    (decay,) = {group["weight_decay"] for group in groups} - {0.0}
    rates = {"lr": 3e-5, "gcn_lr": 1e-5}
    settings = {"learning_rate": rates["lr"], "weight_decay": decay, "decay_exempt": "biases_and_norms"}
    settings["lr_factors"] = {"gc": rates["gcn_lr"] / rates["lr"]}
    arguments = tiny_recipe("partial_bce", training=settings).build_arguments(tmp_path)
    model = golden_parameters()
    optimizer = make_optimizer(model, arguments)
    found = rates_and_decays(optimizer)
    expected = {
        name: (pytest.approx(rates[rate]), group["weight_decay"])
        for group, rate in zip(groups, hparams["lr_of_groups"], strict=True)
        for name in group["params"]
    }
    assert {name: found.get(id(p)) for name, p in model.named_parameters() if p.requires_grad} == expected
    assert len(found) == len(expected) == golden("scpnet_full").tensors["out.group_sizes"].sum()


def test_frozen_parameters_are_not_optimized(tmp_path):
    trainer = make_trainer(tiny_recipe("ssgrl", model={"trainable_backbone": ["layer4"]}), tmp_path)
    optimized = {id(p) for group in trainer.create_optimizer().param_groups for p in group["params"]}
    for name, parameter in trainer.model.backbone.network.named_parameters():
        assert (id(parameter) in optimized) == name.startswith("layer4."), name
    assert id(trainer.model.fuse.weight) in optimized


# ---- schedules ----


def learning_rates(tmp_path, **settings) -> list[float]:
    """The learning rate of each of 12 epochs of three steps."""
    training = {"num_train_epochs": 12, "learning_rate": 1e-3, "lr_step_epochs": 10, **settings}
    trainer = make_trainer(tiny_recipe("partial_bce", training=training), tmp_path)
    trainer.create_optimizer_and_scheduler(num_training_steps=36)
    rates = []
    for step in range(36):
        if step % 3 == 0:
            rates.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    return rates


def test_the_step_schedule_falls_every_ten_epochs(tmp_path):
    rates = learning_rates(tmp_path, lr_schedule="step")
    assert rates == pytest.approx([1e-3] * 10 + [1e-4] * 2)


def test_the_step_schedule_can_fall_at_other_epochs(tmp_path):
    rates = learning_rates(tmp_path, lr_schedule="step", lr_step_epochs=4, lr_step_factor=0.5)
    assert rates == pytest.approx([1e-3] * 4 + [5e-4] * 4 + [2.5e-4] * 4)


def test_the_step_schedule_can_fall_after_given_epochs_and_stay_there(tmp_path):
    rates = learning_rates(tmp_path, lr_schedule="step", lr_step_epochs=[2, 5.0])
    assert rates == pytest.approx([1e-3] * 2 + [1e-4] * 3 + [1e-5] * 7)


def test_one_cycle_rises_and_falls(tmp_path):
    rates = learning_rates(tmp_path, lr_schedule="one_cycle")
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(1e-3, rel=0.05) and 1 <= peak <= 4
    assert rates[0] == pytest.approx(1e-3 / 25) and rates[-1] < 1e-4


def test_one_cycle_may_be_cut_off(tmp_path):
    whole = learning_rates(tmp_path, lr_schedule="one_cycle")
    cut_off = learning_rates(tmp_path, lr_schedule="one_cycle", one_cycle_epochs=24)
    assert len(cut_off) == len(whole) == 12
    assert max(cut_off) == pytest.approx(1e-3, rel=0.05) and cut_off.index(max(cut_off)) > whole.index(max(whole))
    assert cut_off[-1] > 1e-4 > whole[-1]
    with pytest.raises(ValueError, match="`one_cycle_epochs` must not be less than `num_train_epochs`, got 3 and 12"):
        learning_rates(tmp_path, lr_schedule="one_cycle", one_cycle_epochs=3)


def test_schedules_of_transformers(tmp_path):
    rates = learning_rates(tmp_path, lr_schedule="transformers", lr_scheduler_type="linear")
    assert rates == pytest.approx([1e-3 * (1 - epoch / 12) for epoch in range(12)])


def test_a_cosine_falls_between_epochs_behind_a_constant_beginning(tmp_path):
    """As DualCoOp's library does it: the cosine begins behind the first epoch, and its length is that of the run."""
    settings = {"optimizer": "sgd", "warmup_epochs": 1, "warmup_learning_rate": 1e-5}
    rates = learning_rates(tmp_path, lr_schedule="cosine", **settings)
    assert rates == pytest.approx([1e-5] + [1e-3 * (1 + math.cos(math.pi * epoch / 12)) / 2 for epoch in range(11)])
    rates = learning_rates(tmp_path, lr_schedule="cosine")
    assert rates == pytest.approx([1e-3 * (1 + math.cos(math.pi * epoch / 12)) / 2 for epoch in range(12)])


def test_a_beginning_as_long_as_the_training_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"`warmup_epochs` must lie in \[0, `num_train_epochs`\), got 12 and 12"):
        learning_rates(tmp_path, lr_schedule="cosine", warmup_epochs=12)


@pytest.mark.parametrize("key, value", [("optimizer", "lion"), ("lr_schedule", "cosin")])
def test_an_unknown_optimizer_or_schedule_is_an_error(key, value, tmp_path):
    with pytest.raises(ValueError, match=f"`{key}` must be one of .*, got '{value}'"):
        tiny_recipe(training={key: value}).build_arguments(tmp_path)


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_fused_sgd_goes_on_where_parameters_get_their_first_gradient_late(momentum, tmp_path):
    """As torch's plain one does: the second parameter has no gradient in the first step, nor in the checkpoint."""
    ends = []
    for make in (torch.optim.SGD, FusedSgd):
        torch.manual_seed(0)
        first, second = (nn.Parameter(torch.randn(5)) for _ in range(2))
        options = {"lr": 0.1, "momentum": momentum, "weight_decay": 0.01}
        optimizer = make([first, second], **options)
        for step in range(4):
            if step == 1:
                torch.save(torch.optim.SGD.state_dict(optimizer), tmp_path / "state.pt")
                optimizer = make([first, second], **options)
                optimizer.load_state_dict(torch.load(tmp_path / "state.pt"))
            first.grad, second.grad = torch.randn(2, 5)
            second.grad = None if step < 2 else second.grad
            optimizer.step()
        ends.append(torch.stack([first.detach(), second.detach()]))
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-7)
