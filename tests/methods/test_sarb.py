import dataclasses
import re

import pytest
import torch
from golden_files import cases, golden
from golden_models import (
    build_model,
    check_case,
    cotangent_sum,
    leaf,
    model_of_sines,
    sines,
    weight_gradients,
)

from hf_mlrpl import losses
from hf_mlrpl.methods import blending
from hf_mlrpl.methods.sarb import objective_sarb
from hf_mlrpl.methods.sarb.modeling_sarb import SarbForMultiLabelClassification
from hf_mlrpl.methods.sarb.objective_sarb import SarbObjective, SarbObjectiveConfig
from hf_mlrpl.schedules import Progress, Ramp

DTYPES = (torch.float64, torch.float32)
TERMS = {"known": "bce", "instance": "instance_bce", "prototype": "prototype_bce", "similarity": "contrastive"}


# --- the file `sarb`: the whole model, blending, and the training step ---


@pytest.fixture
def golden_draws(monkeypatch):
    """The random numbers of the golden file; it was made with `arange` in the place of permutations."""
    tensors = golden("sarb").tensors
    monkeypatch.setattr(objective_sarb, "random_prototypes", lambda *_: tensors["in.prototype_index"])
    monkeypatch.setattr(blending, "random_scores", lambda _: tensors["in.random_scores"])
    monkeypatch.setattr(losses, "random_keys", lambda x: torch.arange(x.numel(), dtype=x.dtype).view_as(x))


def golden_config(**settings) -> SarbObjectiveConfig:
    """Settings of the published code, its error included."""
    hparams = golden("sarb").hparams
    return SarbObjectiveConfig(
        similarity_weight=hparams["contrastive_weight"],
        start_epoch=hparams["mixup_epoch"],
        num_prototypes=hparams["prototypes"],
        relabel_complete_images=True,
        **settings,
    )


def golden_objective(model, dtype, **settings) -> SarbObjective:
    objective = SarbObjective(golden_config(**settings), model.config).to(dtype)
    objective.is_prepared = True
    if objective.config.prototype_weight:
        objective.prototypes.copy_(golden("sarb").tensors["in.prototypes"])
        objective.counts.fill_(1)
    return objective


def blended_outputs(model, objective, features) -> dict[str, torch.Tensor]:
    """Everything that the published forward pass gives in training, by its golden name."""
    representations, _ = model.represent(features)
    outputs = {"category_features": representations, "logits": model.classify(representations)}
    for name, blended in objective.blend(model, representations, golden("sarb").tensors["in.target"]).items():
        outputs[f"{name}_logits"] = model.classify(blended.representations)
        outputs[f"{name}_target"] = blended.targets
        outputs[f"{name}_mask"] = blended.chosen
    return outputs


@pytest.mark.golden
@pytest.mark.parametrize("case", [""], ids=["sarb"])
def test_blending_matches_published_code(case, golden_draws):
    for dtype in DTYPES:
        tensors = golden("sarb").case(case)
        model = build_model(golden("sarb"), SarbForMultiLabelClassification, dtype)
        model.word_embeddings.requires_grad_()
        features = leaf(tensors["in.feature_map"], dtype)

        outputs = blended_outputs(model, golden_objective(model, dtype), features)
        outputs["scalar"] = cotangent_sum(outputs, tensors)
        outputs["scalar"].backward()
        outputs["eval_logits"] = model.eval()(features).logits
        gradients = {"grad.in.feature_map": features.grad, "grad.in.word_vectors": model.word_embeddings.grad}
        gradients |= weight_gradients(model, golden("sarb").weights(case, dtype))
        check_case(golden("sarb"), case, outputs | gradients)


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("sarb", "clamp/"))
def test_coefficients_are_clamped_before_they_blend(case, golden_draws):
    for dtype in DTYPES:
        before = golden("sarb").case(case)["in.alpha_beta_before"].to(dtype)
        model = build_model(golden("sarb"), SarbForMultiLabelClassification, dtype)
        coefficients = list(model.coefficients.parameters())
        with torch.no_grad():
            for coefficient, value in zip(coefficients, before, strict=True):
                coefficient.copy_(value)
        features = golden("sarb").tensors["in.feature_map"].to(dtype)
        outputs = blended_outputs(model, golden_objective(model, dtype), features)
        check_case(golden("sarb"), case, outputs | {"alpha_beta_after": torch.stack(coefficients)})


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("sarb", "total."))
def test_training_step_matches_published_code(case, golden_draws):
    epoch, batch, batches = re.fullmatch(r"total\.epoch(\d+)(?:_batch(\d+)of(\d+))?", case).groups(default="0")
    progress = Progress(step=0, max_steps=0, epoch=int(epoch) + int(batch) / max(1, int(batches)))
    for dtype in DTYPES:
        labels = golden("sarb").tensors["in.target"]
        model = build_model(golden("sarb"), SarbForMultiLabelClassification, dtype)
        features = leaf(golden("sarb").tensors["in.feature_map"], dtype)

        output = model(features, labels, objective=golden_objective(model, dtype), progress=progress)
        output.loss.backward()
        gradients = {"grad.in.feature_map": features.grad}
        gradients |= weight_gradients(model, golden("sarb").weights(dtype=dtype))
        without_gradient = [name for name, value in model.coefficients.named_parameters() if value.grad is None]
        assert without_gradient == golden("sarb").hparams["info"][case.removeprefix("total.")]["none_grads"]

        # The golden components are without weights, and without the ramp.
        unweighted = golden_objective(model, dtype)
        unweighted.config = dataclasses.replace(unweighted.config, similarity_weight=1.0, ramp=Ramp(0))
        terms = model(features, labels, objective=unweighted, progress=progress).terms
        outputs = {TERMS[name]: term for name, term in terms.items()}
        check_case(golden("sarb"), case, outputs | {"total": output.loss} | gradients)


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("sarb", "scalargrad."))
def test_gradients_of_the_coefficients_match_published_code(case, golden_draws):
    """The loss of each rule reaches its own coefficient alone; the other terms reach none."""
    rule, targets = re.fullmatch(r"scalargrad\.(instance|prototype)_(with_target|target_detached)", case).groups()
    settings = {"instance_weight": float(rule == "instance"), "prototype_weight": float(rule == "prototype")}
    for dtype in DTYPES:
        model = build_model(golden("sarb"), SarbForMultiLabelClassification, dtype)
        objective = golden_objective(model, dtype, detach_targets=targets == "target_detached", **settings)
        features, labels = golden("sarb").tensors["in.feature_map"].to(dtype), golden("sarb").tensors["in.target"]
        progress = Progress(step=0, max_steps=0, epoch=float(objective.config.start_epoch))
        model(features, labels, objective=objective, progress=progress).loss.backward()
        scalars = {name: w for name, w in golden("sarb").weights(dtype=dtype).items() if name in ("alpha", "beta")}
        check_case(golden("sarb"), case, weight_gradients(model, scalars))


@pytest.mark.golden
@pytest.mark.parametrize("name", ["sarb"])
def test_every_sub_case_is_compared(name):
    for case in golden(name).sub_cases():
        compared = case.startswith(("total.", "scalargrad.")) or case in ("", "clamp")
        assert compared or not golden(name).outputs(case), f"{name} {case} is not compared by any test"


# --- numbers from a small problem that needs no file ---


def test_blending_with_sines_as_weights():
    model = model_of_sines(SarbForMultiLabelClassification, {}, {"alpha": 0.5, "beta": 0.5})
    representations, _ = model.represent(2 * sines((2, 4, 2, 2), 0.7))
    objective = SarbObjective(SarbObjectiveConfig(prototype_weight=0.0), model.config)
    blended = objective.blend(model, representations, torch.tensor([[1, 0, -1], [0, 1, 0]]))["instance"]
    logits = torch.tensor([[-0.008571, -0.413674, -0.419278], [-0.006605, -0.383208, -0.538612]], dtype=torch.float64)
    torch.testing.assert_close(model.classify(blended.representations), logits, rtol=0, atol=1e-6)
    assert blended.targets.tolist() == [[1, 0.5, -1], [0.5, 1, 0]]
