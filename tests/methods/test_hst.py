import re

import pytest
import torch
from golden_files import cases, golden
from golden_models import build_model, check_case, cotangent_sum, leaf, weight_gradients
from tiny import make_trainer, tiny_model, tiny_recipe

from hf_mlrpl import HstForMultiLabelClassification, HstObjective, HstObjectiveConfig, Progress, losses
from hf_mlrpl.methods.hst.objective_hst import excess, prototype_loss
from hf_mlrpl.methods.semantic_transfer import cooccurrence_matrix, cooccurrence_votes

DTYPES = (torch.float64, torch.float32)
LATE = Progress(step=90, max_steps=100, epoch=9.0)


def make_objective(config, prototypes, dtype=torch.float32, **settings):
    settings = {"num_prototypes": prototypes.shape[1]} | settings
    objective = HstObjective(HstObjectiveConfig(**settings), config).to(dtype)
    objective.is_prepared = True
    objective.prototypes.copy_(prototypes)
    return objective


def golden_objective(model, dtype):
    return make_objective(model.config, golden("hst").tensors["in.prototypes"], dtype, prototype_loss="repel")


# ---- the files `hst` and `hst_extra` ----


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_model_and_scores_match_published_code(dtype):
    tensors = golden("hst").case()
    model = build_model(golden("hst"), HstForMultiLabelClassification, dtype)
    features, labels = leaf(tensors["in.feature_map"], dtype), tensors["in.target"]
    representations, _ = model.represent(features)
    pair_logits = model.cooccurrence_head(representations)
    outputs = {"category_features": representations, "logits": model.classify(representations)}
    outputs |= {"pair_logits": pair_logits, "pair_index": torch.triu_indices(*2 * labels.shape[1:], offset=1).t()}
    evidence = golden_objective(model, dtype).evidence(representations, pair_logits, labels)
    for name, golden_name in (("intra", "intra"), ("cross", "inter")):
        above = excess(evidence[name], getattr(model.thresholds, name))
        outputs[f"{golden_name}_score"] = above
        outputs[f"{golden_name}_target"] = labels.masked_fill(labels.eq(0) & (above > 0), 1)
    outputs["scalar"] = cotangent_sum(outputs, tensors)
    outputs["scalar"].backward()
    outputs["eval_logits"] = model.eval()(features).logits
    gradients = {"grad.in.feature_map": features.grad} | weight_gradients(model, golden("hst").weights("", dtype))
    check_case(golden("hst"), "", outputs | gradients)


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("hst", "total."))
def test_training_step_matches_published_code(case, monkeypatch):
    monkeypatch.setattr(losses, "random_keys", lambda x: torch.arange(x.numel(), dtype=x.dtype).view_as(x))
    name = r"total\.epoch(\d+)(?:_batch(\d+)of(\d+))?(_start)?"
    epoch, batch, batches, start = re.fullmatch(name, case).groups(default="0")
    progress = Progress(step=0, max_steps=0, epoch=int(epoch) + int(batch) / max(1, int(batches)))
    for dtype in DTYPES:
        model = build_model(golden("hst"), HstForMultiLabelClassification, dtype)
        if start != "0":
            model.thresholds.reset_parameters()
        features = leaf(golden("hst").tensors["in.feature_map"], dtype)
        labels = golden("hst").tensors["in.target"]
        output = model(features, labels, objective=golden_objective(model, dtype), progress=progress)
        output.loss.backward()
        assert (model.thresholds.intra.grad is None) == (int(epoch) < 5)
        terms = output.terms
        outputs = {
            "total": output.loss,
            "bce": sum(terms[term] for term in ("known", "intra", "cross") if term in terms),
            "cooccurrence_weighted": terms["cooccurrence"],
            "contrastive_weighted": terms["similarity"],
        }
        if "prototype" in terms:
            outputs |= {"prototype_weighted": terms["prototype"]}
            outputs |= {"intra_threshold_weighted": terms["threshold_intra"]}
            outputs |= {"inter_threshold_weighted": terms["threshold_cross"]}
        gradients = {"grad.in.feature_map": features.grad} | weight_gradients(model, golden("hst").weights("", dtype))
        check_case(golden("hst"), case, outputs | gradients)


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scores_and_prototype_loss_match_published_code(dtype):
    file = golden("hst_extra")
    intra, inter = file.case("intra"), file.case("inter")
    labels = intra["in.target"]

    margin, pair_logits = leaf(intra["in.margin"], dtype), leaf(intra["in.pair_logits"], dtype)
    score = excess(cooccurrence_votes(cooccurrence_matrix(pair_logits, labels.shape[1]), labels), margin)
    cotangent_sum({"score": score}, intra).backward()
    gradients = {"grad.in.margin": margin.grad, "grad.in.pair_logits": pair_logits.grad}
    check_case(file, "intra", {"score": score} | gradients)

    margin, representations = leaf(inter["in.margin"], dtype), leaf(inter["in.category_features"], dtype)
    objective = make_objective(tiny_model("hst").config.__class__(
        num_labels=labels.shape[1], representation_dim=representations.shape[2]
    ), inter["in.prototypes"], dtype)  # fmt: skip
    score = excess(objective.similarity(representations), margin)
    cotangent_sum({"score": score}, inter).backward()
    gradients = {"grad.in.margin": margin.grad, "grad.in.category_features": representations.grad}
    check_case(file, "inter", {"score": score} | gradients)

    representations.grad = None
    mean = prototype_loss(objective.similarity(representations), labels, "repel")
    mean.backward()
    check_case(file, "prototype_contrastive", {"mean": mean, "grad.in.category_features": representations.grad})


@pytest.mark.golden
@pytest.mark.parametrize("name", ["hst", "hst_extra"])
def test_every_sub_case_is_compared(name):
    compared = {"", "intra", "inter", "prototype_contrastive"}
    for case in golden(name).sub_cases():
        assert case in compared or case.startswith("total.") or not golden(name).outputs(case), case


# ---- what makes it different ----


def test_a_threshold_meets_no_gradient_at_the_ends():
    threshold = torch.tensor(0.4, requires_grad=True)
    above = excess(torch.tensor([0.1, 0.4, 0.7, 1.4, 2.0]), threshold)
    torch.testing.assert_close(above.detach(), torch.tensor([0, 0, 0.3, 1, 1]))
    assert [torch.autograd.grad(value, threshold, retain_graph=True)[0].item() for value in above] == [0, 0, -1, 0, 0]


def test_present_labels_come_closer_to_their_prototypes():
    similarity = torch.tensor([[0.5, 0.5, 0.5]], requires_grad=True)
    labels = torch.tensor([[1, -1, 0]])
    attract = prototype_loss(similarity, labels)
    assert attract.item() == pytest.approx((0.5 + 1.5) / 3)
    (gradient,) = torch.autograd.grad(attract, similarity)
    (published,) = torch.autograd.grad(prototype_loss(similarity, labels, "repel"), similarity)
    assert torch.equal(gradient, -published) and gradient.sign().tolist() == [[-1, 1, 0]]


def test_a_label_without_prototypes_is_never_completed_across_images():
    model = tiny_model("hst")
    prototypes = torch.ones(5, 2, 24)
    prototypes[3] = 0
    objective = make_objective(model.config, prototypes, intra_weight=0.0, intra_threshold_weight=0.0)
    with torch.no_grad():
        model.thresholds.cross.fill_(-2)  # everything is similar enough
    output = model(torch.randn(4, 3, 32, 32), torch.zeros(4, 5), objective=objective, progress=LATE)
    assert set(output.pseudo_labels) == {"cross"}
    assert output.loss.isfinite()


@pytest.mark.parametrize(
    ("settings", "terms"),
    [
        (
            {"cross_weight": 0.0, "cross_threshold_weight": 0.0, "prototype_weight": 0.0},
            {"known", "intra", "threshold_intra", "cooccurrence", "similarity"},
        ),
        (
            {"intra_weight": 0.0, "intra_threshold_weight": 0.0, "cooccurrence_weight": 0.0},
            {"known", "cross", "threshold_cross", "prototype", "similarity"},
        ),
    ],
    ids=["inside an image", "across images"],
)
def test_a_weight_of_zero_switches_a_term_off(settings, terms):
    model = tiny_model("hst")
    objective = HstObjective(HstObjectiveConfig(num_prototypes=2, **settings), model.config)
    objective.is_prepared = True
    output = model(torch.randn(4, 3, 32, 32), torch.zeros(4, 5), objective=objective, progress=LATE)
    assert set(output.terms) == terms
    assert ("prototypes" in objective.state_dict()) == ("cross" in terms)


def test_weight_decay_alone_lowers_thresholds_of_one(tmp_path):
    """They are among the parameters with weight decay, and without it they would stay."""
    learned = []
    for weight_decay in (0.0, 0.01):
        training = {"weight_decay": weight_decay, "learning_rate": 1e-4}
        recipe = tiny_recipe("hst", model={"initial_threshold": 1.0}, training=training)
        trainer = make_trainer(recipe, tmp_path / str(weight_decay))
        trainer.train()
        learned.append([value.item() for value in trainer.model.thresholds.parameters()])
    assert learned[0] == [1, 1] and all(0.99 < value < 1 for value in learned[1])
