import re

import pytest
import torch
from golden_files import cases, golden
from golden_models import FeatureMap, build_model, check_case, cotangent_sum, leaf, weight_gradients
from tiny import make_trainer, tiny_images, tiny_model, tiny_recipe

from hf_mlrpl import DsrbForMultiLabelClassification, DsrbObjective, DsrbObjectiveConfig, Progress, losses
from hf_mlrpl.methods import blending
from hf_mlrpl.methods.dsrb import objective_dsrb
from hf_mlrpl.methods.dsrb.quadrants import QuadrantMeans, quadrant_prototypes, quadrants_of_peaks

DTYPES = (torch.float64, torch.float32)
LATE = Progress(step=90, max_steps=100, epoch=9.0)
TERMS = {
    "known": "bce",
    "instance": "instance_bce",
    "prototype": "prototype_bce",
    "similarity": "contrastive_weighted",
}


# ---- the file `dsrb` ----


@pytest.fixture
def golden_draws(monkeypatch):
    tensors = golden("dsrb").tensors
    monkeypatch.setattr(objective_dsrb, "random_turns", lambda *_: tensors["in.quadrant_shift"])
    monkeypatch.setattr(blending, "random_scores", lambda _: tensors["in.random_scores"])
    monkeypatch.setattr(losses, "random_keys", lambda x: torch.arange(x.numel(), dtype=x.dtype).view_as(x))

    def given_mask(mask):
        """The choice of the file where known labels are among it: there the published code depends on the machine."""
        chosen, own = mask.bool(), objective_dsrb.choose_unknown_labels

        def choose(labels, has_prototypes, count, relabel):
            columns = chosen.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :count]
            enough = labels.eq(0).sum(dim=1) >= count
            assert torch.equal(own(labels, has_prototypes, count, relabel)[1][enough], chosen[enough]) and relabel
            return columns, chosen

        monkeypatch.setattr(objective_dsrb, "choose_unknown_labels", choose)

    return given_mask


def golden_objective(model, dtype, **settings):
    config = DsrbObjectiveConfig(relabel_complete_images=True, **settings)
    objective = DsrbObjective(config, model.config).to(dtype)
    objective.is_prepared = True
    objective.prototypes.copy_(golden("dsrb").tensors["out64.prototype_pooled"])
    objective.counts.fill_(1)
    return objective


def blended_outputs(model, objective, features):
    tensors = golden("dsrb").tensors
    representations, places = objective.represent(model, features)
    outputs = {"category_features": representations, "logits": model.classify(representations), "quadrant": places}
    for name, blended in objective.blend(model, representations, tensors["in.target"], places).items():
        outputs[f"{name}_logits"] = model.classify(blended.representations)
        outputs[f"{name}_target"] = blended.targets
        outputs[f"{name}_mask"] = blended.chosen
    outputs["used_quadrant"] = (places - tensors["in.quadrant_shift"]) % 4
    outputs["prototype_pooled"] = tensors["in.prototype_maps"].to(features.dtype).sum(dim=(2, 3))
    return outputs


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_blending_matches_published_code(dtype, golden_draws):
    tensors, topk = golden("dsrb").case(), golden("dsrb").hparams["topk"]
    golden_draws(tensors["out.prototype_mask"])
    model = build_model(golden("dsrb"), DsrbForMultiLabelClassification, dtype)
    features = leaf(tensors["in.feature_map"], dtype)
    outputs = blended_outputs(model, golden_objective(model, dtype, blended_labels=topk), features)
    outputs["scalar"] = cotangent_sum(outputs, tensors)
    outputs["scalar"].backward()
    outputs["eval_logits"] = model.eval()(features).logits
    gradients = {"grad.in.feature_map": features.grad} | weight_gradients(model, golden("dsrb").weights("", dtype))
    check_case(golden("dsrb"), "", outputs | gradients)


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_more_labels_than_are_unknown_match_published_code(dtype, golden_draws):
    tensors = golden("dsrb").case("topk_too_large")
    golden_draws(tensors["out.prototype_mask"])
    model = build_model(golden("dsrb"), DsrbForMultiLabelClassification, dtype)
    objective = golden_objective(model, dtype, blended_labels=int(tensors["in.topk"]))
    outputs = blended_outputs(model, objective, golden("dsrb").tensors["in.feature_map"].to(dtype))
    check_case(golden("dsrb"), "topk_too_large", outputs)


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("dsrb", "total."))
def test_training_step_matches_published_code(case, golden_draws):
    golden_draws(golden("dsrb").tensors["out.prototype_mask"])
    epoch, batch, batches = re.fullmatch(r"total\.epoch(\d+)(?:_batch(\d+)of(\d+))?", case).groups(default="0")
    progress = Progress(step=0, max_steps=0, epoch=int(epoch) + int(batch) / max(1, int(batches)))
    for dtype in DTYPES:
        model = build_model(golden("dsrb"), DsrbForMultiLabelClassification, dtype)
        features = leaf(golden("dsrb").tensors["in.feature_map"], dtype)
        objective = golden_objective(model, dtype, blended_labels=golden("dsrb").hparams["topk"])
        output = model(features, golden("dsrb").tensors["in.target"], objective=objective, progress=progress)
        output.loss.backward()
        outputs = {TERMS[name]: term for name, term in output.terms.items()} | {"total": output.loss}
        gradients = {"grad.in.feature_map": features.grad}
        gradients |= weight_gradients(model, golden("dsrb").weights("", dtype))
        check_case(golden("dsrb"), case, outputs | gradients)


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_prototypes_match_published_code(dtype):
    """Theirs are maps, whose sums over the positions are ours."""
    tensors = golden("dsrb").case("prototypes")
    model = build_model(golden("dsrb"), DsrbForMultiLabelClassification, dtype).eval()
    representations, contributions = model.represent_with_contributions(tensors["in.feature_maps"].to(dtype))
    found = quadrants_of_peaks(contributions)
    means = QuadrantMeans(*representations.shape[1:], most=100, count_zero=True)
    rows, labels = tensors["in.target"].eq(1).nonzero(as_tuple=True)
    for some in torch.arange(len(rows)).split(7):
        means.add(representations[rows[some], labels[some]], labels[some], found[rows[some], labels[some]])
    golden("dsrb").check("prototypes/out.counts", means.counts.view(-1, 4))
    golden("dsrb").check("prototypes/out.quadrant", found)
    centers, expected = means.prototypes().centers, tensors["out64.maps"].sum(dim=(2, 3))
    torch.testing.assert_close(centers, expected, rtol=0, atol=1e-6 if dtype == torch.float64 else 1e-5)


@pytest.mark.golden
def test_every_sub_case_is_compared():
    for case in golden("dsrb").sub_cases():
        compared = case in ("", "topk_too_large", "prototypes") or case.startswith("total.")
        assert compared or not golden("dsrb").outputs(case), case


# ---- quadrants ----


@pytest.mark.parametrize(
    ("row", "column", "quadrant"), [(0, 0, 0), (2, 2, 0), (2, 3, 1), (3, 2, 2), (3, 3, 3), (6, 6, 3)]
)
def test_a_map_of_seven_by_seven_is_split_behind_the_third_row(row, column, quadrant):
    maps = torch.full((1, 1, 7, 7), -5.0)
    maps[0, 0, row, column] = -1  # peaks may be negative
    assert quadrants_of_peaks(maps).item() == quadrant


def test_a_mean_counts_the_first_images_and_empty_quadrants_get_that_of_the_label():
    means = QuadrantMeans(3, 1, most=2)
    values = torch.tensor([[1.0], [3.0], [100.0], [8.0], [5.0]])
    labels, places = torch.tensor([0, 0, 0, 0, 2]), torch.tensor([1, 1, 1, 2, 0])
    means.add(values[:2], labels[:2], places[:2])
    means.add(values[2:], labels[2:], places[2:])
    found = means.prototypes()
    assert found.centers[0].flatten().tolist() == [4, 2, 8, 4]
    assert found.centers[2].flatten().tolist() == [5, 5, 5, 5] and not found.centers[1].any()
    assert found.counts.tolist() == [3, 0, 1]


def test_prototypes_of_a_training_set():
    """Each is a mean of the representations that a plain loop finds for its quadrant."""
    model, images = tiny_model("dsrb", output_stride=8).eval(), tiny_images(unreadable=[3])
    found = quadrant_prototypes(model, images, peak="contribution", most=100)
    expected: dict[tuple[int, int], list[torch.Tensor]] = {}
    for rows, pixels in images.map(lambda batch: batch["pixel_values"], "Looking"):
        vectors, maps = model.represent_with_contributions(model.encode(pixels))
        for i, row in enumerate(rows.tolist()):
            for label in images.labels[row].eq(1).nonzero().flatten().tolist():
                quadrant = int(quadrants_of_peaks(maps)[i, label])
                expected.setdefault((label, quadrant), []).append(vectors[i, label].double())
    assert len(expected) > 5
    for (label, quadrant), vectors in expected.items():
        torch.testing.assert_close(found.centers[label, quadrant], torch.stack(vectors).mean(dim=0), atol=1e-5, rtol=0)


def test_a_model_that_diverged_is_an_error(monkeypatch):
    model = tiny_model("dsrb").eval()
    torch.nn.init.constant_(model.project[0].weight, torch.nan)
    with pytest.raises(RuntimeError, match="infinite or NaN values for row 0.*Has training diverged"):
        quadrant_prototypes(model, tiny_images(), peak="attention", most=100)


# ---- blending ----


def blended(model, labels, places, **settings):
    objective = DsrbObjective(DsrbObjectiveConfig(**settings), model.config)
    objective.prototypes.copy_(torch.arange(4.0).view(4, 1) + 10)
    objective.counts.fill_(1)
    representations = torch.zeros(*labels.shape, model.config.representation_dim)
    return objective.blend_with_prototypes(representations, labels, torch.tensor(0.0), places)


def test_the_prototype_is_never_that_of_the_own_quadrant():
    labels = torch.zeros(200, 5, dtype=torch.int8)
    places = torch.randint(4, labels.shape, generator=torch.Generator().manual_seed(0))
    result = blended(tiny_model("dsrb"), labels, places)
    assert result.chosen.sum(dim=1).tolist() == [1] * 200
    taken = result.representations[..., 0][result.chosen].long() - 10
    assert (taken != places[result.chosen]).all() and len(set(taken.tolist())) == 4


@pytest.mark.parametrize(("relabel", "count"), [(False, [2, 1, 0]), (True, [2, 2, 2])])
def test_as_many_labels_as_are_unknown_are_blended(relabel, count):
    labels = torch.tensor([[0, 0, 0, 1, 0], [1, 0, -1, -1, 1], [1, 1, -1, -1, 1]])
    settings = {"blended_labels": 2, "relabel_complete_images": relabel}
    result = blended(tiny_model("dsrb"), labels, torch.zeros_like(labels), **settings)
    assert result.chosen.sum(dim=1).tolist() == count
    assert relabel or not (result.chosen & labels.ne(0)).any()


def test_semantic_attention_has_contributions_too():
    model = tiny_model("dsrb", label_features="attention")
    features = model.encode(torch.randn(2, 3, 32, 32))
    vectors, contributions = model.represent_with_contributions(features)
    torch.testing.assert_close(contributions.sum(dim=(2, 3)), vectors.sum(dim=2), rtol=1e-4, atol=1e-4)


def test_contributions_add_up_to_the_sum_of_the_channels():
    model = tiny_model("dsrb")
    model.backbone, model.project = FeatureMap(), torch.nn.Identity()
    vectors, contributions = model.represent_with_contributions(torch.randn(2, 24, 4, 4))
    torch.testing.assert_close(contributions.sum(dim=(2, 3)), vectors.sum(dim=2), rtol=1e-4, atol=1e-4)


def test_a_run_blends_and_makes_its_prototypes_again(tmp_path):
    trainer = make_trainer(tiny_recipe("dsrb", objective={"peak": "attention"}), tmp_path)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss_known" in entry]
    assert all(entry["blended_labels_prototype"] > 0 for entry in logs if entry["epoch"] > 1)
    assert trainer.objective.prototype_epoch == 1 and trainer.objective.prototypes.any()
