"""What SARB does with single images and labels, when it makes prototypes, and the rows of its ablation table."""

from types import SimpleNamespace

import pytest
import torch
from tiny import make_trainer, tiny_images, tiny_model, tiny_recipe
from torch.utils.flop_counter import FlopCounterMode

from hf_mlrpl import Progress, SarbConfig, SarbObjective, SsgrlForMultiLabelClassification
from hf_mlrpl.data.images.views import crop_flip_view
from hf_mlrpl.methods import blending, prototype_objective
from hf_mlrpl.methods.blending import blend, choose_unknown_labels
from hf_mlrpl.methods.prototypes import Prototypes
from hf_mlrpl.methods.sarb.objective_sarb import SarbObjectiveConfig

LATE = Progress(step=90, max_steps=100, epoch=9.0)
NUM_LABELS = 5
LABELS = torch.tensor([[1, 0, 0, -1, 0], [0, 1, -1, 1, 0], [-1, 1, 1, -1, 1]], dtype=torch.int8)


@pytest.fixture
def model():
    return tiny_model("sarb", NUM_LABELS)


def make_objective(model, num_prototypes: int = 3, **settings) -> SarbObjective:
    """An objective with random prototypes for all labels."""
    config = SarbObjectiveConfig(num_prototypes=num_prototypes, **settings)
    objective = SarbObjective(config, model.config)
    objective.is_prepared = True
    if config.prototype_weight:
        objective.prototypes.copy_(torch.randn(objective.prototypes.shape, generator=torch.Generator().manual_seed(3)))
        objective.counts.fill_(7)
    return objective


def representations_of(labels: torch.Tensor, dim: int = 24) -> torch.Tensor:
    return torch.randn(*labels.shape, dim, generator=torch.Generator().manual_seed(2))


def step(model, objective, labels=LABELS, progress=LATE):
    pixel_values = torch.randn(len(labels), 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return model(pixel_values, labels, objective=objective, progress=progress)


# ---- blending ----


def test_the_share_of_the_other_is_the_target():
    representations, others = torch.zeros(1, 2, 4), torch.ones(1, 1, 4)
    chosen = torch.tensor([[False, True]])
    blended = blend(representations, torch.tensor([[-1, 0]]), others, chosen, torch.tensor(0.2))
    torch.testing.assert_close(blended.targets, torch.tensor([[-1, 0.8]]))
    torch.testing.assert_close(blended.representations[0, 1], torch.full((4,), 0.8))
    assert not blended.representations[0, 0].any()


def test_the_middle_image_of_an_odd_batch_meets_itself_and_stays(model):
    objective = make_objective(model)
    blended = objective.blend_with_images(representations_of(LABELS), LABELS, model.coefficients.alpha)
    # The first image meets the last one, which shows the labels 1, 2 and 4; the last one has no unknown label.
    assert blended.chosen.nonzero().tolist() == [[0, 1], [0, 2], [0, 4]]


def test_images_that_meet_a_prototype_cost_less_than_others(model):
    objective, representations = make_objective(model), representations_of(LABELS)

    def operations(function) -> int:
        with FlopCounterMode(display=False) as counter:
            function()
        return counter.get_total_flops()

    early, late = (operations(lambda p=p: step(model, objective, progress=p)) for p in (Progress(0, 100, 0.0), LATE))
    assert late - early < 0.95 * operations(lambda: model.classify(representations.repeat(2, 1, 1)))


@pytest.mark.parametrize("partner", ["flip", "random"])
def test_images_that_show_few_labels_cost_less_and_give_the_same(partner):
    labels = torch.tensor([[1, 0, 0, -1], [0, 1, -1, 0], [0, -1, 0, 1]], dtype=torch.int8)
    model, results, operations = tiny_model("sarb", labels.shape[1]).double(), [], []
    for is_prepared in (False, True):
        objective = make_objective(model, partner=partner).double()
        if is_prepared:
            objective.prepare(SimpleNamespace(labels=labels))
        torch.manual_seed(0)
        with FlopCounterMode(display=False) as counter:
            blends = objective.blend(model, representations_of(labels).double().requires_grad_(), labels)
            stacked = torch.cat([blended.representations for blended in blends.values()])
            differing = [blended.columns for blended in blends.values() if blended.columns is not None]
            stacked = torch.cat([representations_of(labels).double(), stacked])
            logits = model.classify(stacked, differing)
        operations.append(counter.get_total_flops())
        results.append((logits, *torch.autograd.grad(logits.sin().sum(), list(model.coefficients.parameters()))))
    torch.testing.assert_close(*results)
    assert blends["instance"].chosen.any() and operations[1] < operations[0]


def test_a_single_image_meets_nothing_but_a_prototype(model):
    objective, labels = make_objective(model), LABELS[:1]
    blends = objective.blend(model, representations_of(labels), labels)
    assert not blends["instance"].chosen.any()
    assert blends["prototype"].chosen.sum() == 1


def test_a_random_partner_may_be_any_image(model, monkeypatch):
    monkeypatch.setattr(blending, "random_partners", lambda *_: torch.tensor([1, 2, 0]))
    objective, representations = make_objective(model, partner="random"), representations_of(LABELS)
    blended = objective.blend_with_images(representations, LABELS, torch.tensor(0.0))
    assert blended.chosen.nonzero().tolist() == [[0, 1], [1, 4]]
    assert torch.equal(blended.representations[0, 1], representations[1, 1])
    assert torch.equal(blended.representations[1, 4], representations[2, 4])


def test_partners_are_drawn_for_every_image():
    torch.manual_seed(0)
    assert blending.random_partners(6, torch.device("cpu")).sort().values.tolist() == [*range(6)]


# ---- which label meets a prototype ----


def test_one_unknown_label_of_each_image_is_chosen():
    torch.manual_seed(0)
    seen = torch.zeros_like(LABELS, dtype=torch.bool)
    for _ in range(100):
        columns, chosen = choose_unknown_labels(LABELS, torch.ones(NUM_LABELS, dtype=torch.bool))
        assert chosen.sum(dim=1).tolist() == [1, 1, 0]
        assert chosen[[0, 1], columns[:2, 0]].all()
        seen |= chosen
    assert torch.equal(seen[:2], LABELS[:2].eq(0)), "each unknown label, sooner or later"


def test_a_complete_image_is_left_alone_or_loses_its_first_label():
    everywhere = torch.ones(NUM_LABELS, dtype=torch.bool)
    _, chosen = choose_unknown_labels(LABELS, everywhere)
    assert not chosen[2].any()
    _, published = choose_unknown_labels(LABELS, everywhere, relabel=True)
    assert published[2].tolist() == [True, False, False, False, False]
    _, without = choose_unknown_labels(LABELS, ~everywhere, relabel=True)
    assert not without.any()


def test_the_error_of_the_published_code_overwrites_a_known_label(model):
    for relabel, target in ((False, -1), (True, 0.5)):
        objective = make_objective(model, relabel_complete_images=relabel)
        blended = objective.blend_with_prototypes(representations_of(LABELS), LABELS, model.coefficients.beta)
        assert blended.targets[2, 0] == target


def test_a_label_without_prototypes_is_never_chosen(model):
    objective = make_objective(model)
    objective.counts[1] = objective.counts[4] = 0
    for _ in range(20):
        blended = objective.blend_with_prototypes(representations_of(LABELS), LABELS, model.coefficients.beta)
        assert not blended.chosen[:, [1, 4]].any()
        assert blended.chosen[0, 2] and blended.chosen[1, 0]
    objective.counts.zero_()
    assert step(model, objective).logs["blended_labels_prototype"] == 0


@pytest.mark.parametrize("index", ["shared", "per_label", "per_image"])
def test_which_prototype_an_image_meets(model, index, monkeypatch):
    labels = torch.zeros(6, NUM_LABELS, dtype=torch.int8)
    objective = make_objective(model, num_prototypes=50, prototype_index=index)
    columns = torch.tensor([0, 0, 1, 1, 2, 2])
    monkeypatch.setattr(blending, "random_scores", lambda _: torch.eye(NUM_LABELS)[columns])
    torch.manual_seed(0)
    blended = objective.blend_with_prototypes(representations_of(labels), labels, torch.tensor(0.0))
    rows = blended.representations[torch.arange(6), columns]  # (B, D), prototypes as they are
    taken = (objective.prototypes[columns] == rows.unsqueeze(1)).all(dim=2).nonzero()[:, 1].tolist()
    if index == "shared":
        assert len(set(taken)) == 1
    elif index == "per_label":
        assert taken[0] == taken[1] and taken[2] == taken[3] and taken[4] == taken[5] and len(set(taken)) == 3
    else:
        assert len(set(taken)) == 6


# ---- the training step ----


@pytest.mark.parametrize(
    ("settings", "terms"),
    [
        ({}, {"known", "instance", "prototype", "similarity"}),
        ({"prototype_weight": 0.0}, {"known", "instance", "similarity"}),
        ({"instance_weight": 0.0}, {"known", "prototype", "similarity"}),
        ({"instance_weight": 0.0, "prototype_weight": 0.0, "similarity_weight": 0.0}, {"known"}),
    ],
    ids=["SARB", "ILRB", "PLRB", "SSGRL"],
)
def test_a_weight_of_zero_switches_a_term_off(model, settings, terms):
    output = step(model, make_objective(model, **settings))
    assert set(output.terms) == terms
    assert set(output.logs) >= {f"blended_labels_{name}" for name in terms & {"instance", "prototype"}}
    assert torch.isclose(output.loss, sum(output.terms.values()))


def test_nothing_is_blended_before_the_start(model):
    objective = make_objective(model, start_epoch=3)
    before = step(model, objective, progress=Progress(step=0, max_steps=1, epoch=2.9))
    assert set(before.terms) == {"known", "similarity"} and before.logs == {}
    before.loss.backward()
    assert model.coefficients.alpha.grad is None and model.coefficients.beta.grad is None
    after = step(model, objective, progress=Progress(step=0, max_steps=1, epoch=3.0))
    assert set(after.terms) == {"known", "similarity", "instance", "prototype"}
    assert {name: after.logs[name].item() for name in ("alpha", "beta")} == {"alpha": 0.5, "beta": 0.5}
    assert (after.logs["blended_labels_instance"], after.logs["blended_labels_prototype"]) == (3, 2)


def test_targets_that_are_detached_change_the_gradients_only(model):
    outputs, gradients = [], []
    for detach in (False, True):
        torch.manual_seed(0)
        model.zero_grad()
        outputs.append(step(model, make_objective(model, detach_targets=detach)).loss)
        outputs[-1].backward()
        gradients.append((model.coefficients.alpha.grad.item(), model.coefficients.beta.grad.item()))
    assert outputs[0] == outputs[1]
    assert gradients[0] != gradients[1] and all(gradients[1])


def test_fixed_coefficients_are_not_trained(tmp_path):
    settings = {"train_alpha": False, "initial_alpha": 0.3}
    trainer = make_trainer(tiny_recipe("sarb", model=settings, training={"weight_decay": 0.1}), tmp_path)
    trainer.train()
    coefficients = trainer.model.coefficients
    assert coefficients.alpha == torch.tensor(0.3) and coefficients.beta != 0.5


def test_coefficients_wait_for_the_first_blending(tmp_path):
    """Adam would turn their weight decay alone into full steps; the published ones have no gradient until then."""
    training = {"weight_decay": 0.1, "num_train_epochs": 1}
    trainer = make_trainer(tiny_recipe("sarb", training=training), tmp_path)
    trainer.train()
    assert trainer.model.coefficients.alpha == trainer.model.coefficients.beta == 0.5


@pytest.mark.parametrize("name", ["initial_alpha", "initial_beta"])
def test_coefficients_are_shares(name):
    with pytest.raises(Exception, match=rf"`{name}` must lie in \[0, 1\], got 1.5"):
        SarbConfig(**{name: 1.5})


def test_blending_is_gone_at_inference(model, tmp_path):
    """The weights of SARB in SSGRL give the same logits; alpha and beta travel with the checkpoint."""
    with torch.no_grad():
        model.coefficients.alpha.fill_(0.7)
    model.eval().save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert loaded.coefficients.alpha == torch.tensor(0.7) and loaded.coefficients.beta == 0.5
    settings = {name: value for name, value in model.config.to_diff_dict().items() if name != "model_type"}
    plain = SsgrlForMultiLabelClassification(SsgrlForMultiLabelClassification.config_class(**settings)).eval()
    plain.load_state_dict({n: w for n, w in model.state_dict().items() if not n.startswith("coefficients.")})
    pixel_values = torch.randn(2, 3, 32, 32)
    assert torch.equal(plain(pixel_values).logits, model(pixel_values).logits)


# ---- prototypes ----


@pytest.fixture
def passes(monkeypatch):
    """Seeds of the passes over the training set, which give prototypes that tell them apart."""
    seeds = []

    def make(model, images, num_prototypes, *, seed, **settings):
        assert not model.training
        assert settings == {"num_starts": 1, "memory_limit": 8.0}
        seeds.append(seed)
        sizes = model.config.num_labels, num_prototypes, model.config.representation_dim
        return Prototypes(torch.full(sizes, float(seed)), torch.ones(sizes[0], dtype=torch.int64))

    monkeypatch.setattr(prototype_objective, "label_prototypes", make)
    return seeds


def test_prototypes_are_made_at_the_start_and_after_each_interval(model, passes):
    objective = SarbObjective(SarbObjectiveConfig(start_epoch=2, prototype_interval=3), model.config)
    epochs = []
    for epoch in range(10):
        objective.before_epoch(model.eval(), tiny_images(NUM_LABELS), Progress(0, 1, float(epoch)))
        epochs.append(objective.prototype_epoch.item())
    assert epochs == [-1, -1, 2, 2, 2, 5, 5, 5, 8, 8]
    assert passes == [2, 5, 8], "the seed of the run, which is 0, and the epoch"
    assert (objective.prototypes == 8).all() and (objective.counts == 1).all()


@pytest.mark.parametrize(("epoch", "again"), [(5.5, False), (7.9, False), (8.0, True)])
def test_a_resumed_run_makes_only_what_is_due(model, passes, epoch, again):
    config = SarbObjectiveConfig(start_epoch=2, prototype_interval=3)
    first, resumed = SarbObjective(config, model.config), SarbObjective(config, model.config)
    first.before_epoch(model.eval(), tiny_images(NUM_LABELS), Progress(0, 1, 5.0))
    resumed.load_state_dict(first.state_dict())
    resumed.before_epoch(model, tiny_images(NUM_LABELS), Progress(0, 1, epoch))
    assert passes == ([5, 8] if again else [5])


def test_without_plrb_nothing_is_looked_through_or_remembered(model, passes):
    objective = SarbObjective(SarbObjectiveConfig(prototype_weight=0.0), model.config)
    objective.before_epoch(model.eval(), tiny_images(NUM_LABELS), LATE)
    assert passes == [] and objective.state_dict() == {}
    assert "instance" in step(model, objective).terms


def test_training_on_a_foreign_data_set_is_an_error(model):
    objective = SarbObjective(SarbObjectiveConfig(), model.config)
    with pytest.raises(RuntimeError, match="SarbObjective was not prepared, so it has no `prototypes`"):
        step(model, objective, progress=Progress(0, 1, 0.0))


def test_a_run_blends_and_logs_what_it_does(tmp_path):
    trainer = make_trainer(tiny_recipe("sarb"), tmp_path)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss_known" in entry]
    assert all(("alpha" in entry) == (entry["epoch"] > 1) for entry in logs)
    assert all(entry["blended_labels_prototype"] > 0 and entry["beta"] != 0.5 for entry in logs[-2:])
    assert any(entry.get("blended_labels_instance", 0) > 0 for entry in logs)
    assert trainer.objective.prototype_epoch == 1 and trainer.objective.prototypes.any()


def test_prototypes_may_come_from_augmented_images(model, monkeypatch):
    seen = []

    def made(model, images, count, **settings):
        (_, pixels), *_ = images.map(lambda batch: batch["pixel_values"], "")
        seen.append(pixels)
        return Prototypes(torch.zeros(NUM_LABELS, count, 24), torch.zeros(NUM_LABELS, dtype=torch.int64))

    monkeypatch.setattr(prototype_objective, "label_prototypes", made)
    images = tiny_images(NUM_LABELS)
    images._given.views = {"pixel_values": crop_flip_view((32, 32)), "weak": images._given.plain_view}
    for view in ("plain", "plain", "training", "training"):
        make_objective(model, prototype_view=view).before_epoch(model, images, LATE)
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[2], seen[3]) and not torch.equal(seen[0], seen[2])


def test_similarities_may_be_summed(model):
    terms = [step(model, make_objective(model, similarity_reduction=how)).terms for how in ("mean", "sum")]
    assert terms[1]["similarity"] > 1.5 * terms[0]["similarity"] > 0
