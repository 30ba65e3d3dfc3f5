import pytest
import torch
from golden_files import cases, golden, sub_cases
from golden_models import FeatureMap, check_case, leaf
from test_asl import DTYPES
from tiny import GivenLogits, loss_of_logits, tiny_images, tiny_model

from hf_mlrpl import BoostLuConfig, BoostLuForMultiLabelClassification
from hf_mlrpl.methods.boost_lu.modeling_boost_lu import boost
from hf_mlrpl.methods.large_loss import LargeLossObjective, LargeLossObjectiveConfig, large_loss
from hf_mlrpl.schedules import Progress

NAME = "losses_boostlu"


def model_of_file(factor: float, dtype: torch.dtype) -> BoostLuForMultiLabelClassification:
    weights = golden(NAME).weights(dtype=dtype)
    config = BoostLuConfig(backbone="test_resnet", num_labels=len(weights["classifier.bias"]), boost=factor)
    model = BoostLuForMultiLabelClassification(config)
    model.backbone = FeatureMap()
    for name in ("weight", "bias"):
        setattr(model.classifier, name, torch.nn.Parameter(weights[f"classifier.{name}"]))
    return model


@pytest.mark.golden
@pytest.mark.parametrize("case", cases(NAME, "map_alpha"))
def test_logits_match_published_code(case):
    for dtype in DTYPES:
        model = model_of_file(float(case.removeprefix("map_alpha")), dtype)
        features = leaf(golden(NAME).tensors["in.feature_map"], dtype)
        representations, _ = model.represent(features)
        logits = model.classify(representations)
        (logits * golden(NAME).tensors["cot.logits"].to(dtype)).sum().backward()
        outputs = {
            "logits": logits,
            "boosted_map": boost(representations, model.config.boost).unflatten(2, features.shape[2:]),
            "grad.in.feature_map": features.grad,
            "grad.w.classifier.weight": model.classifier.weight.grad,
            "grad.w.classifier.bias": model.classifier.bias.grad,
        }
        check_case(golden(NAME), case, outputs)


def schedule_of(case: str) -> tuple[str, dict]:
    scheme, _, epoch = case.partition("/epoch")
    entries = golden(NAME).hparams["schedule"][scheme]
    return scheme, next(entry for entry in entries if entry["epoch"] == int(epoch))


@pytest.mark.golden
@pytest.mark.parametrize("case", cases(NAME, "LL"))
def test_losses_and_corrections_match_published_code(case):
    scheme, schedule = schedule_of(case)
    labels = golden(NAME).case(case)["in.labels"]
    config = LargeLossObjectiveConfig(scheme=scheme, rate=golden(NAME).hparams["delta_rel"])
    count = config.num_large(Progress(0, 0, schedule["epoch"] - 0.5), labels.numel())
    assert count == schedule["k"]
    for dtype in DTYPES:
        logits = leaf(golden(NAME).tensors[f"in.logits_epoch{schedule['epoch']}"], dtype)
        losses, large, _ = large_loss(logits, labels, scheme, count)
        losses.mean().backward()
        outputs = {"loss": losses.mean(), "correction_mask": large.long(), "grad.in.logits": logits.grad}
        check_case(golden(NAME), case, outputs)


@pytest.mark.golden
def test_what_is_remembered_is_all_that_was_corrected():
    target = golden(NAME).tensors["in.target"]
    config = LargeLossObjectiveConfig(scheme="LL-Cp", rate=golden(NAME).hparams["delta_rel"], strict=False)
    objective = LargeLossObjective(config, GivenLogits(target.shape[1]).config)
    objective.prepare(tiny_images(target.shape[1], len(target)))
    for case in sub_cases(NAME, "LL-Cp/"):
        remembered = golden(NAME).case(case)["in.labels"]
        assert torch.equal(target.masked_fill(target.eq(0) & objective.corrected.ne(0), 1), remembered)
        epoch = schedule_of(case)[1]["epoch"]
        loss_of_logits(objective, golden(NAME).tensors[f"in.logits_epoch{epoch}"], target, epoch - 0.5)


@pytest.mark.golden
def test_every_sub_case_of_the_file_is_compared():
    assert all(case == "" or case.startswith(("LL", "map_alpha")) for case in sub_cases(NAME))


FEATURES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_with_a_factor_of_one_it_is_the_baseline():
    boosted, plain = tiny_model("boost_lu", boost=1.0).double().eval(), tiny_model("partial_bce").double().eval()
    plain.load_state_dict(boosted.state_dict())
    torch.testing.assert_close(boosted(FEATURES.double()).logits, plain(FEATURES.double()).logits, rtol=0, atol=1e-12)


def test_it_is_boosted_in_both_phases_or_at_evaluation_alone():
    model = tiny_model("boost_lu")
    representations = torch.tensor([[[1.0, -1.0], [0.0, 2.0]]])
    expected = {("both", True): [2.0, 5.0], ("both", False): [2.0, 5.0]}
    expected |= {("evaluation", True): [0.0, 1.0], ("evaluation", False): [2.0, 5.0]}
    for (phase, is_training), logits in expected.items():
        model.config.boost_in = phase
        assert model.train(is_training).classify(representations).tolist() == [logits]


def test_a_score_of_exactly_zero_has_the_slope_one():
    scores = torch.tensor([-1.0, 0.0, 1.0], requires_grad=True)
    boost(scores, 5.0).sum().backward()
    assert scores.grad.tolist() == [1.0, 1.0, 5.0]


def test_attention_is_where_the_score_of_a_label_is_high():
    model = tiny_model("boost_lu").eval()
    output = model(FEATURES, output_attention_maps=True, output_representations=True)
    maps = output.attention_maps
    assert maps.shape[:2] == (4, 5) and maps.min() > 0 and maps.max() < 1
    torch.testing.assert_close(maps.flatten(2).logit(), output.representations, rtol=1e-4, atol=1e-4)


def test_every_loss_has_its_boosted_row():
    model = tiny_model("partial_bce", name="boost_lu")
    assert type(model) is BoostLuForMultiLabelClassification and model.config.boost == 5.0
