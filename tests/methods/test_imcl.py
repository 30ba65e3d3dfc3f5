import pytest
import torch
from golden_files import assert_close, golden
from golden_models import leaf
from tiny import make_trainer, tiny_images, tiny_model, tiny_recipe

from hf_mlrpl import ImclObjective, ImclObjectiveConfig, Progress
from hf_mlrpl.losses import partial_bce
from hf_mlrpl.methods.imcl.objective_imcl import activation, completed
from hf_mlrpl.methods.imcl.sparse_coding import Pursuit, combine, least_squares, sparse_code
from hf_mlrpl.models.parts.label_classifier import LabelClassifier

CASES = golden("imcl").sub_cases()
LATE = Progress(step=90, max_steps=100, epoch=9.0)


# ---- the file `imcl` ----


@pytest.mark.golden
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_losses_match_published_code(case, dtype):
    file, settings = golden("imcl"), golden("imcl").hparams["cases"][case]
    tensors = file.case(case)
    config = ImclObjectiveConfig(
        label_weight=settings["alpha_label"],
        feature_weight=settings["alpha_feature"],
        num_neighbours=settings["k"],
        absent_share=1 / settings["c"],
        threshold=settings["threshold"],
        balance=settings["is_balance"],
        relative_weights=False,
        first_item_ends=True,
        weight_penalty=settings["alpha_regulariser"],
    )
    features, dictionary = (leaf(tensors[name][:, :-1], dtype) for name in ("in.features", "in.dict_features"))
    num_labels, dim = tensors["in.labels"].shape[1], features.shape[1]
    model = tiny_model("imcl", num_labels)
    model.classifier = LabelClassifier(num_labels, dim)
    model.to(dtype)
    with torch.no_grad():
        model.classifier.weight.copy_(tensors["w.theta"][:-1].t())
        model.classifier.bias.copy_(tensors["w.theta"][-1])
        model.class_graph.weight.copy_(tensors["w.graph"])
        model.class_graph.pattern.fill_(1)
    objective = ImclObjective(config, model.config).to(dtype)
    labels, logits = tensors["in.labels"], model.classify(features.unsqueeze(1))
    allowed = torch.ones(len(labels), len(dictionary), dtype=torch.bool)
    losses, code = objective.combination_losses(
        model, features, logits, labels, dictionary, tensors["in.dict_labels"], allowed
    )
    logistic, regulariser = partial_bce(logits, labels), model.classifier.weight.square().sum()
    total = logistic + sum(objective.weighted(losses, logistic).values()) + config.weight_penalty * regulariser
    scalars = {"logistic": logistic, "collaborative": losses["label"], "feature": losses["feature"]}
    scalars |= {"regulariser": regulariser, "total": total}
    for name, value in scalars.items():
        file.check(f"{case}/out64.{name}", value.view(1))
    assert torch.equal(code.neighbours, tensors["out.neighbours"])
    file.check(f"{case}/out64.coef_label", code.label_coefficients)
    file.check(f"{case}/out64.coef_feature", code.feature_coefficients)
    leaves = [features, dictionary, model.class_graph.weight, model.classifier.weight, model.classifier.bias]
    for name in ("collaborative", "feature", "total"):
        found = torch.autograd.grad(scalars[name], leaves, retain_graph=True, allow_unused=True)
        grads = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)]
        theta = torch.cat([grads[3].t(), grads[4].unsqueeze(0)])
        ours = {"in.features": grads[0], "in.dict_features": grads[1], "w.graph": grads[2], "w.theta": theta}
        for golden_name, gradient in ours.items():
            expected = tensors[f"grad64.{name}.{golden_name}"]
            expected = expected[:, :-1] if golden_name.startswith("in.") else expected  # a trailing 1 is no input
            assert_close(gradient, expected, dtype, f"{case} {name} {golden_name}")


# ---- parts ----


def test_labels_are_completed_between_absent_and_present():
    values = activation(torch.tensor([-50.0, 0.0, 50.0]), 0.5)
    torch.testing.assert_close(values, torch.tensor([-0.5, 0.0, 1.0]))
    assert completed(values, torch.tensor([1, 0, -1], dtype=torch.int8), 0.5).tolist() == [1, 0, -0.5]


def test_a_combination_of_two_images_is_found_and_nothing_more():
    generator = torch.Generator().manual_seed(0)
    items, labels = torch.randn(30, 8, generator=generator), torch.randn(30, 5, generator=generator)
    target = torch.tensor([[0.7, 0.2]])
    pursuit = Pursuit(4, 1.0, 1.0, 1e-3)
    allowed = torch.ones(1, 30, dtype=torch.bool)
    code = sparse_code(target @ labels[[3, 9]], target @ items[[3, 9]], labels, items, allowed, pursuit)
    used = code.neighbours[code.is_used].tolist()
    assert sorted(used) == [3, 9]
    near = combine(items[code.neighbours], code.feature_coefficients)
    torch.testing.assert_close(near, target @ items[[3, 9]], rtol=0, atol=1e-5)
    allowed[0, 3] = False
    assert 3 not in sparse_code(target @ labels[[3, 9]], target @ items[[3, 9]], labels, items, allowed, pursuit)[0]


def test_atoms_that_depend_on_each_other_are_no_problem():
    atoms = torch.ones(1, 3, 4)
    solution = least_squares(2 * torch.ones(1, 4), atoms, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(combine(atoms, solution), 2 * torch.ones(1, 4), rtol=1e-4, atol=1e-4)
    assert solution[0, 2] == 0


# ---- the dictionary ----


def prepared(**settings):
    model = tiny_model("imcl")
    objective = ImclObjective(ImclObjectiveConfig(**settings), model.config)
    objective.prepare(tiny_images())
    return model, objective


def step(model, objective, index, progress=LATE):
    pixels = torch.randn(len(index), 3, 32, 32, generator=torch.Generator().manual_seed(index[0]))
    labels = torch.randint(-1, 2, (len(index), 5), generator=torch.Generator().manual_seed(2))
    return model(pixels, labels, index=torch.tensor(index), objective=objective, progress=progress)


def test_images_of_a_batch_take_their_places():
    model, objective = prepared(dictionary_size=7)
    step(model, objective, range(20))
    assert objective.is_filled.tolist() == 7 * [True] + [False]
    assert objective.dictionary[:-1].any(dim=1).all() and not objective.dictionary[-1].any()
    assert torch.equal(objective.their_labels, tiny_images().labels[objective.rows])


def test_an_image_that_stands_twice_is_remembered_once():
    model, objective = prepared()
    step(model, objective, [4, 4, 4])
    assert objective.is_filled.nonzero().flatten().tolist() == [4]


def test_an_image_is_no_combination_of_itself():
    """Also where its feature has changed since it was remembered."""
    model, objective = prepared(num_neighbours=1, label_weight=0.0)
    step(model, objective, [3, 3])
    assert step(model, objective, [3, 3]).logs["neighbours"] == 0
    assert step(model, objective, [5, 6]).logs["neighbours"] == 1


def test_losses_begin_with_their_epoch_and_get_the_size_of_the_first():
    model, objective = prepared(label_weight=2.0, feature_weight=0.5)
    early = step(model, objective, range(8), Progress(0, 1, 0.9))
    assert set(early.terms) == {"known"} and objective.factors.isnan().all()
    first = step(model, objective, range(8), Progress(0, 1, 1.0)).terms
    assert first["label"] == pytest.approx(2 * first["known"].item(), rel=1e-5)
    assert first["feature"] == pytest.approx(0.5 * first["known"].item(), rel=1e-5)
    factors = objective.factors.clone()
    step(model, objective, range(8, 16))
    assert torch.equal(objective.factors, factors)


def test_a_first_step_without_known_labels_measures_nothing():
    model, objective = prepared()
    output = model(
        torch.randn(2, 3, 32, 32), torch.zeros(2, 5), index=torch.arange(2), objective=objective, progress=LATE
    )
    assert output.loss == 0 and objective.factors.isnan().all()


def test_the_class_graph_keeps_its_pattern_and_its_columns_sum_to_one():
    model = tiny_model("imcl")
    torch.testing.assert_close(model.class_graph(torch.eye(5)).sum(dim=0), torch.ones(5))
    fixed = tiny_model("imcl", class_graph="identity")
    assert torch.equal(fixed.class_graph(torch.eye(5)), torch.eye(5)) and not fixed.class_graph.weight.requires_grad


def test_a_run_uses_its_dictionary(tmp_path):
    trainer = make_trainer(tiny_recipe("imcl"), tmp_path)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss_known" in entry]
    assert all(("neighbours" in entry) == (entry["epoch"] > 1) for entry in logs)
    assert all(entry["neighbours"] > 0 for entry in logs if entry["epoch"] > 1)
