import pytest
import torch
from golden_files import cases, golden, sub_cases
from golden_models import check_case, leaf
from test_asl import DTYPES, LABELS, LOGITS
from tiny import GivenLogits, loss_of_logits

from hf_mlrpl.methods.single_positive import AnObjective, EprObjective, LsanObjective, WanObjective, ranking_loss
from hf_mlrpl.settings import from_mapping

EXPECTED = golden("losses_single_positive").hparams["expected_num_pos"]
SMOOTHING = golden("losses_single_positive").hparams["ls_coef"]
LOSSES = {  # name in the golden file: class, settings
    "an": (AnObjective, {}),
    "an_ls": (LsanObjective, {"smoothing": SMOOTHING}),
    "wan": (WanObjective, {}),
    "epr": (EprObjective, {"expected_positives": EXPECTED}),
    "iu": (AnObjective, {"unknown_weight": 0.0}),
    "iun": (AnObjective, {"unknown_weight": 0.0}),
    "pr": (AnObjective, {"loss": "ranking"}),
    "bce": (AnObjective, {}),
    "bce_ls": (LsanObjective, {"smoothing": SMOOTHING}),
}


def make(objective_class: type, num_labels: int, **settings):
    config = from_mapping(objective_class.config_class, settings, "objective")
    return objective_class(config, GivenLogits(num_labels).config)


def inputs(case: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels, in {-1, 0, +1}, of a sub-case."""
    name, _, which = case.partition(".")
    tensors = golden("losses_single_positive").tensors
    if which == "extreme":
        return tensors["in.extreme_logits"], tensors["in.extreme_observed"]
    observed = tensors["in.observed"]
    labels = {
        "iu": tensors["in.observed_iu"],
        "iun": torch.where(observed.eq(1), 1, tensors["in.true"].clamp(max=0)),  # all absent labels are known
        "bce": 2 * tensors["in.clean"] - 1,
        "bce_ls": 2 * tensors["in.clean"] - 1,
    }
    return tensors["in.logits"], labels.get(name, observed)


@pytest.mark.golden
@pytest.mark.parametrize("case", [c for name in LOSSES for c in cases("losses_single_positive", f"{name}.")])
def test_loss_matches_published_code(case):
    objective_class, settings = LOSSES[case.partition(".")[0]]
    for dtype in DTYPES:
        logits, labels = leaf(inputs(case)[0], dtype), inputs(case)[1]
        output = loss_of_logits(make(objective_class, logits.shape[1], **settings), logits, labels)
        output.loss.backward()
        penalty = output.terms.get("expected_positives", torch.zeros((), dtype=dtype))
        outputs = {"loss": output.loss, "regulariser": penalty, "grad.in.logits": logits.grad}
        check_case(golden("losses_single_positive"), case, outputs)


@pytest.mark.golden
def test_every_sub_case_of_the_file_is_compared():
    for case in sub_cases("losses_single_positive"):
        assert case in ("", "estimator") or case.partition(".")[0] in {*LOSSES, "role"}


@pytest.mark.parametrize(
    ("objective_class", "settings", "expected"),
    [
        (AnObjective, {}, 1.073222),
        (LsanObjective, {}, 1.026224),
        (WanObjective, {}, 0.527448),
        (EprObjective, {"expected_positives": 1.5}, 0.395125),
    ],
)
def test_default_settings_are_the_published_ones(objective_class, settings, expected):
    loss = loss_of_logits(make(objective_class, 5, **settings), LOGITS, LABELS).loss
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_labels_known_to_be_absent_have_their_full_weight():
    labels = torch.tensor([[1, -1, 0, 0, 1], [0, -1, -1, 1, 0]])
    wan = loss_of_logits(make(WanObjective, 5), LOGITS, labels).loss
    an = loss_of_logits(make(AnObjective, 5), LOGITS, labels).loss
    unknown = -(1 - LOGITS.sigmoid() + 1e-5).log()[labels.eq(0)].sum() / 10
    torch.testing.assert_close(wan, an - 0.75 * unknown)


def test_epr_needs_the_number_of_positives():
    with pytest.raises(ValueError, match="Recipe section `objective` needs `expected_positives`"):
        make(EprObjective, 5)


def test_more_present_labels_than_there_are_is_an_error():
    with pytest.raises(ValueError, match=r"`expected_positives` must be at most the number of labels, 5, got 31\.4"):
        loss_of_logits(make(EprObjective, 5, expected_positives=31.4), LOGITS, LABELS)


def test_ranking_is_the_sum_over_pairs():
    p, expected = LOGITS.sigmoid(), torch.zeros(2)
    for b, i, j in torch.cartesian_prod(torch.arange(2), torch.arange(5), torch.arange(5)).tolist():
        if LABELS[b, i] == 1 and LABELS[b, j] != 1:
            expected[b] += torch.clamp(1 - p[b, i] + p[b, j], min=0) / 5
    torch.testing.assert_close(ranking_loss(LOGITS, LABELS), expected)
