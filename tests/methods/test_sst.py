import dataclasses
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden_files import cases, golden
from golden_models import (
    build_model,
    check_case,
    cotangent_sum,
    fill_bank,
    leaf,
    model_of_sines,
    newest_first,
    sines,
    weight_gradients,
)

from hf_mlrpl import losses
from hf_mlrpl.losses import asymmetric_loss, image_similarities, known_bce, partial_bce, similarity_loss
from hf_mlrpl.methods.sst import objective_sst
from hf_mlrpl.methods.sst.configuration_sst import SstConfig
from hf_mlrpl.methods.sst.modeling_sst import SstForMultiLabelClassification
from hf_mlrpl.methods.sst.objective_sst import (
    SstObjective,
    SstObjectiveConfig,
    cooccurrence_loss,
    cooccurrence_matrix,
    cross_image_pseudo_labels,
    intra_image_pseudo_labels,
    mean_similarity,
)
from hf_mlrpl.schedules import Progress, Ramp, StepDown

DTYPES = (torch.float64, torch.float32)
TERMS = {
    "known": "bce",
    "intra": "intra_bce",
    "cross": "inter_bce",
    "cooccurrence": "cooccurrence",
    "similarity": "contrastive",
}


@pytest.fixture
def sampling_in_order(monkeypatch):
    """The golden files were made with `arange` in the place of random permutations."""
    monkeypatch.setattr(losses, "random_keys", lambda x: torch.arange(x.numel(), dtype=x.dtype).view_as(x))


def _names(tensors: dict, pattern: str) -> dict[str, re.Match]:
    """Outputs whose name after `out.` matches."""
    names = {name.partition(".")[2] for name in tensors if name.startswith(("out.", "out64."))}
    matches = {name: re.fullmatch(pattern, name) for name in names}
    return {name: match for name, match in matches.items() if match}


# --- the file `sst`: the whole model, and the training step ---


@pytest.mark.golden
@pytest.mark.parametrize("case", [""], ids=["sst"])
def test_model_matches_published_code(case):
    for dtype in DTYPES:
        tensors = golden("sst").case(case)
        model = build_model(golden("sst"), SstForMultiLabelClassification, dtype)
        model.word_embeddings.requires_grad_()
        features = leaf(tensors["in.feature_map"], dtype)

        representations, _ = model.represent(features)
        logits, pair_logits = model.classify(representations), model.cooccurrence_head(representations)
        outputs = {"category_features": representations, "logits": logits, "pair_logits": pair_logits}
        outputs["scalar"] = cotangent_sum(outputs, tensors)
        outputs["scalar"].backward()
        objective = _objective(model, SstObjectiveConfig(bank_size=golden("sst").hparams["bank"]), dtype)
        objective.remember(representations, tensors["in.target"])
        outputs["bank_after"] = newest_first(objective)
        outputs["pair_index"] = torch.triu_indices(logits.shape[1], logits.shape[1], offset=1).t()
        gradients = {"grad.in.feature_map": features.grad, "grad.in.word_vectors": model.word_embeddings.grad}
        gradients |= weight_gradients(model, golden("sst").weights(case, dtype))
        check_case(golden("sst"), case, outputs | gradients)


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("sst", "total/"))
def test_pseudo_labels_of_a_training_step_match_published_code(case):
    """The bank is updated with the batch before labels are completed."""
    for dtype in DTYPES:
        tensors, labels = golden("sst").case(case), golden("sst").tensors["in.target"]
        model = build_model(golden("sst"), SstForMultiLabelClassification, dtype)
        representations, _ = model.represent(golden("sst").tensors["in.feature_map"].to(dtype))
        objective = _objective(model, SstObjectiveConfig(bank_size=golden("sst").hparams["bank"]), dtype)
        objective.remember(representations, labels)
        cooccurrence = cooccurrence_matrix(model.cooccurrence_head(representations), labels.shape[1])
        outputs = {}
        for name, match in _names(tensors, r"(intra|inter)_pseudo_([\d.]+)").items():
            margin = float(match[2])
            if match[1] == "intra":
                outputs[name] = intra_image_pseudo_labels(cooccurrence, labels, margin)
            else:
                outputs[name] = cross_image_pseudo_labels(representations, objective.centers(), labels, margin)
        check_case(golden("sst"), case, outputs)


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("sst", "total."))
def test_training_step_matches_published_code(case, sampling_in_order):
    hparams = golden("sst").hparams
    regime, weights = hparams["regimes"][case.removeprefix("total.")], hparams["weights"]
    config = SstObjectiveConfig(
        intra_weight=weights["intra_bce"],
        cross_weight=weights["inter_bce"],
        cooccurrence_weight=weights["cooccurrence"],
        similarity_weight=weights["contrastive"],
        intra_threshold=StepDown(hparams["generate_epoch"], regime["intra_margin"], 0.0, 0.0),
        cross_threshold=StepDown(hparams["generate_epoch"], regime["inter_margin"], 0.0, 0.0),
        bank_size=hparams["bank"],
    )
    epoch = regime["epoch"] + regime["batch_index"] / regime["batches"]
    progress = Progress(step=0, max_steps=0, epoch=epoch)
    # The golden components are without weights, and without the ramp.
    unweighted = dataclasses.replace(
        config, intra_weight=1.0, cross_weight=1.0, cooccurrence_weight=1.0, similarity_weight=1.0, ramp=Ramp(0)
    )
    for dtype in DTYPES:
        labels = golden("sst").tensors["in.target"]
        model = build_model(golden("sst"), SstForMultiLabelClassification, dtype)
        model.word_embeddings.requires_grad_()
        features = leaf(golden("sst").tensors["in.feature_map"], dtype)

        output = model(features, labels, objective=_objective(model, config, dtype), progress=progress)
        output.loss.backward()
        gradients = {"grad.in.feature_map": features.grad, "grad.in.word_vectors": model.word_embeddings.grad}
        gradients |= weight_gradients(model, golden("sst").weights(dtype=dtype))
        terms = model(features, labels, objective=_objective(model, unweighted, dtype), progress=progress).terms
        outputs = {golden_name: terms[name] for name, golden_name in TERMS.items() if name in terms}
        for name in {"intra_bce", "inter_bce"} - outputs.keys():  # logged by the published code, with the weight 0
            outputs[name] = partial_bce(output.logits, labels)
        check_case(golden("sst"), case, outputs | {"total": output.loss} | gradients)
        assert ("intra" in terms) == ("cross" in terms) == (epoch >= hparams["generate_epoch"])


def _objective(model, config, dtype):
    """An objective whose bank is that of the golden file before the batch."""
    objective = SstObjective(config, model.config).to(dtype)
    fill_bank(objective, golden("sst").tensors["in.bank_before"].to(dtype))
    return objective


# --- the file `sst_losses`: every equation by itself ---

FAMILIES = ("intra", "inter", "interadj", "bank", "bce/", "cooc/", "partial_asl", "con", "con/")


@pytest.mark.golden
@pytest.mark.parametrize("name", ["sst", "sst_losses"])
def test_every_sub_case_is_compared(name):
    families = FAMILIES if name == "sst_losses" else ("total", "total.")
    for case in golden(name).sub_cases():
        compared = case in families or case.startswith(tuple(f for f in families if f.endswith(("/", "."))))
        assert compared or case == "" or not golden(name).outputs(case), f"{name} {case} is not compared by any test"


@pytest.mark.golden
@pytest.mark.parametrize("case", ["intra"], ids=["sst_losses-intra"])
def test_intra_image_pseudo_labels_match_published_code(case):
    for dtype in DTYPES:
        tensors = golden("sst_losses").case(case)
        labels = tensors["in.target"]
        cooccurrence = cooccurrence_matrix(tensors["in.pair_logits"].to(dtype), labels.shape[1])
        outputs = {
            name: intra_image_pseudo_labels(cooccurrence, labels, float(match[1]))
            for name, match in _names(tensors, r"pseudo_([\d.]+)").items()
        }
        # One known positive, and all pairs exactly at the threshold, or at probability 1.
        for name, match in _names(tensors, r"boundary_equal_([\d.]+)").items():
            outputs[name] = _boundary(tensors[f"out.{name}"], torch.tensor(float(match[1])).logit(), float(match[1]))
        for name, match in _names(tensors, r"boundary_margin([\d.]+)_prob1").items():
            outputs[name] = _boundary(tensors[f"out.{name}"], torch.tensor(100.0), float(match[1]))
        check_case(golden("sst_losses"), case, outputs)


def _boundary(expected, logit, threshold):
    batch_size, num_labels = expected.shape
    pair_logits = logit.double().expand(batch_size, num_labels * (num_labels - 1) // 2)
    labels = torch.zeros_like(expected)
    labels[:, 0] = 1
    return intra_image_pseudo_labels(cooccurrence_matrix(pair_logits, num_labels), labels, threshold)


@pytest.mark.golden
@pytest.mark.parametrize("case", ["inter"], ids=["sst_losses-inter"])
def test_cross_image_pseudo_labels_match_published_code(case):
    for dtype in DTYPES:
        tensors = golden("sst_losses").case(case)
        representations, bank = tensors["in.category_features"].to(dtype), tensors["in.bank"].to(dtype)
        config = SstConfig(num_labels=bank.shape[0], representation_dim=bank.shape[2])
        objective = SstObjective(SstObjectiveConfig(bank_size=bank.shape[1]), config).to(dtype)
        fill_bank(objective, bank)
        centers, labels = objective.centers(), tensors["in.target"]
        outputs = {
            name: cross_image_pseudo_labels(representations, centers, labels, float(match[1]))
            for name, match in _names(tensors, r"pseudo_([\d.]+)").items()
        }
        outputs["mean_cosine"] = mean_similarity(representations, centers)
        check_case(golden("sst_losses"), case, outputs)


@pytest.mark.golden
@pytest.mark.parametrize("case", ["bank"], ids=["sst_losses-bank"])
def test_bank_matches_published_code(case):
    for dtype in DTYPES:
        tensors = golden("sst_losses").case(case)
        num_labels, bank_size, dim = tensors["out.bank_0"].shape
        config = SstConfig(num_labels=num_labels, representation_dim=dim)
        objective = SstObjective(SstObjectiveConfig(bank_size=bank_size), config).to(dtype)
        outputs = {}
        for step in range(sum(name.startswith("in.features_") for name in tensors)):
            objective.remember(tensors[f"in.features_{step}"].to(dtype), tensors[f"in.target_{step}"])
            outputs[f"bank_{step}"] = newest_first(objective)
        check_case(golden("sst_losses"), case, outputs)


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("sst_losses", "bce/")[1:])
def test_partial_bce_matches_published_code(case):
    inputs = golden("sst_losses").case("bce")
    kind, _, margin = case.removeprefix("bce/").partition("_m")
    targets = {"hard": inputs["in.target"], "soft": inputs["in.soft_target"]}
    labels = targets.get(kind, torch.zeros_like(inputs["in.target"]))
    for dtype in DTYPES:
        logits = leaf(inputs["in.logits"], dtype)
        losses, _ = known_bce(logits, labels, float(margin or 0))
        mean = partial_bce(logits, labels, margin=float(margin or 0))
        mean.backward()
        outputs = {"none": losses, "sum": losses.sum(), "mean": mean, "grad.in.logits": logits.grad}
        check_case(golden("sst_losses"), case, outputs)


@pytest.mark.golden
@pytest.mark.parametrize("case", ["partial_asl"], ids=["sst_losses-partial_asl"])
def test_asymmetric_loss_of_known_labels_matches_published_code(case):
    inputs = golden("sst_losses").case("bce")
    labels = inputs["in.target"]
    for dtype in DTYPES:
        logits = leaf(inputs["in.logits"], dtype)
        losses = asymmetric_loss(logits, labels.eq(1), gamma_positive=1, gamma_negative=4)
        mean = losses.where(labels.ne(0), 0.0).mean()
        mean.backward()
        check_case(golden("sst_losses"), case, {"mean": mean, "grad.in.logits": logits.grad})


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("sst_losses", "cooc/"))
def test_cooccurrence_loss_matches_published_code(case):
    inputs = golden("sst_losses").case("intra")
    labels = inputs["in.target"]
    gamma_negative, gamma_positive = map(float, re.fullmatch(r"cooc/gn([\d.]+)_gp([\d.]+)", case).groups())
    first, second = torch.triu_indices(labels.shape[1], labels.shape[1], offset=1)
    positive = labels[:, first].eq(1) & labels[:, second].eq(1)
    for dtype in DTYPES:
        logits = leaf(inputs["in.pair_logits"], dtype)
        losses = asymmetric_loss(logits, positive, gamma_positive=gamma_positive, gamma_negative=gamma_negative)
        mean = losses.mean()
        if (gamma_negative, gamma_positive) == (2, 1):
            mean = cooccurrence_loss(logits, labels)
        mean.backward()
        check_case(golden("sst_losses"), case, {"none": losses, "mean": mean, "grad.in.pair_logits": logits.grad})


@pytest.mark.golden
@pytest.mark.parametrize("case", ["con"], ids=["sst_losses-con"])
def test_image_similarities_match_published_code(case):
    for dtype in DTYPES:
        representations = golden("sst_losses").case(case)["in.category_features"].to(dtype)
        first, second = torch.triu_indices(len(representations), len(representations), offset=1)
        distance = image_similarities(representations)[first, second]
        outputs = {"distance": distance, "pair_index": torch.stack([first, second], dim=1)}
        check_case(golden("sst_losses"), case, outputs)


@pytest.mark.golden
@pytest.mark.parametrize("case", [case for case in cases("sst_losses", "con/") if case.values != ("con",)])
def test_similarity_loss_matches_published_code(case, sampling_in_order):
    labels = golden("sst_losses").case(case)["in.target"]
    for dtype in DTYPES:
        representations = leaf(golden("sst_losses").tensors["con/in.category_features"], dtype)
        mean = similarity_loss(representations, labels)
        mean.backward()
        total = similarity_loss(representations, labels, reduction="sum")
        outputs = {"mean": mean, "sum": total, "grad.in.category_features": representations.grad}
        if golden("sst_losses").tensors[f"{case}/out64.mean"].isnan():  # the mean of nothing is 0 with us
            assert mean == 0
            outputs["mean"] = mean * torch.nan
        check_case(golden("sst_losses"), case, outputs)


@pytest.mark.golden
@pytest.mark.parametrize("case", ["interadj"], ids=["sst_losses-interadj"])
def test_images_that_attract_each_other_match_published_code(case):
    """Opposite vectors have the loss 2 where two images attract each other, and 0 elsewhere."""
    labels = golden("sst_losses").tensors["intra/in.target"]
    batch_size, num_labels = labels.shape
    matrix = torch.eye(batch_size, dtype=torch.int64).repeat(num_labels, 1, 1)
    opposite = torch.tensor([1.0, -1.0]).view(2, 1, 1)
    for i, j in torch.triu_indices(batch_size, batch_size, offset=1).t().tolist():
        for c in range(num_labels):
            loss = similarity_loss(opposite, labels[[i, j], c].unsqueeze(1), sampling="all", reduction="sum")
            matrix[c, i, j] = matrix[c, j, i] = loss == 2
    check_case(golden("sst_losses"), case, {"matrix": matrix})


# --- numbers from small problems that need no file ---


def test_network_with_sines_as_weights():
    layers = {"pair.reduce": (5, 4), "pair.hidden": (4, 10), "pair.out": (4, 4), "pair.classifier": (3, 4)}
    sizes = {"cooccurrence_dim": 5, "cooccurrence_hidden_dim": 4}
    model = model_of_sines(SstForMultiLabelClassification, layers, {}, **sizes)
    representations, attention_maps = model.represent(2 * sines((2, 4, 2, 2), 0.7))
    _close(attention_maps[0, 0], [[0.247822, 0.251955], [0.252102, 0.248121]])
    _close(
        representations[0],
        [
            [0.385786, -0.039302, -0.334407, 0.476468],
            [0.384015, -0.041464, -0.329809, 0.472620],
            [0.379615, -0.035395, -0.333344, 0.471171],
        ],
    )
    _close(model.graph_network(representations, model.label_graph)[0, 0], [-0.563980, -0.231084, 0.299432, 0.400929])
    _close(model.classify(representations), [[0.002089, -0.439641, -0.427100], [0.017294, -0.382739, -0.538492]])
    pair_logits = model.cooccurrence_head(representations)
    _close(pair_logits, [[-0.232881, -0.011073, -0.235056], [-0.225245, -0.016312, -0.235847]])


def _close(actual, expected):
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6)


def test_similarity_loss_counts_hard_duplicates():
    b, c, d = torch.meshgrid(torch.arange(4), torch.arange(3), torch.arange(2), indexing="ij")
    representations = torch.sin(1 + 1.7 * (6 * b + 2 * c + d))
    labels = torch.tensor([[1, 1, -1], [1, 0, -1], [-1, 1, 1], [1, 1, 0]])
    assert similarity_loss(representations, labels).item() == pytest.approx(0.685771, abs=1e-6)


@pytest.mark.parametrize(("row", "label", "vote"), [(0, 2, 0.2824), (0, 3, 0.3223), (1, 0, 0.6286), (1, 4, 0.8808)])
def test_known_positives_vote_with_their_mean(row, label, vote):
    labels = torch.tensor([[1, -1, 0, 0, 1], [0, -1, -1, 1, 0]])
    cooccurrence = cooccurrence_matrix(torch.linspace(-2, 2, 20).view(2, 10), 5)
    for threshold, expected in ((vote - 1e-4, 1), (vote + 1e-4, 0)):
        assert intra_image_pseudo_labels(cooccurrence, labels, threshold)[row, label] == expected


def test_autocast_rounds_no_loss_no_logits_and_no_threshold():
    """The matrix products are bfloat16; what is compared with thresholds, ranked or added up is float32."""
    torch.manual_seed(0)
    config = SstConfig(
        backbone="test_resnet",
        num_labels=5,
        representation_dim=16,
        word_embedding_dim=8,
        label_embeddings="orthogonal",
    )
    model = SstForMultiLabelClassification(config)
    model.set_priors(np.eye(5, dtype=np.int8))
    objective = SstObjective(SstObjectiveConfig(bank_size=4), config)
    pixel_values, labels = torch.randn(4, 3, 64, 64), torch.randint(-1, 2, (4, 5))
    with torch.autocast("cpu", torch.bfloat16):
        output = model(pixel_values, labels, objective=objective, progress=Progress(0, 1, epoch=13.0))
        assert model(pixel_values).logits.dtype == torch.float32
    output.loss.backward()
    assert output.loss.dtype == output.logits.dtype == torch.float32
    assert all(term.dtype == torch.float32 and term.isfinite() for term in output.terms.values())
    assert not torch.equal(output.logits, output.logits.bfloat16().float())
    assert objective.bank.any()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained)


def test_sums_of_the_bank_follow_what_it_holds():
    """Through many turns of the ring, with batches that have more positives of a label than the bank has places."""
    torch.manual_seed(0)
    objective = SstObjective(SstObjectiveConfig(bank_size=3), SstConfig(num_labels=4, representation_dim=8))
    for _ in range(300):
        objective.remember(torch.randn(6, 4, 8), torch.randint(-1, 2, (6, 4)))
    expected = torch.nn.functional.normalize(objective.bank, dim=-1).sum(dim=1)
    torch.testing.assert_close(objective.bank_sums, expected, rtol=0, atol=1e-5)
    assert not objective.bank[:, -1].any() and objective.num_remembered.min() > 300


def test_processes_exchange_known_positives_only(monkeypatch):
    shapes = []
    monkeypatch.setattr(objective_sst, "gather_rows", lambda rows: shapes.append(tuple(rows.shape)) or rows)
    objective = SstObjective(SstObjectiveConfig(bank_size=3), SstConfig(num_labels=40, representation_dim=8))
    labels = torch.full((6, 40), -1)
    labels[:, :2] = 1
    objective.prepare(SimpleNamespace(labels=labels.to(torch.int8)))
    objective.remember(torch.randn(6, 40, 8), labels)
    assert shapes == [(12, 8), (12, 2)], "vectors; labels and images"
    assert objective.num_remembered.tolist() == [6, 6] + 38 * [0]


def test_a_rule_that_is_switched_off_has_no_beginning():
    assert {*SstObjectiveConfig(intra_weight=0).begins} == {"cross_threshold.start_epoch"}
