import pytest
import torch
from golden_files import cases, golden
from golden_models import check_case, leaf
from test_asl import DTYPES
from tiny import GivenLogits, tiny_images

from hf_mlrpl import GprObjective, GprObjectiveConfig, Progress
from hf_mlrpl.methods.gpr import damp_pseudo_labels, damp_scores

NAME = "losses_gpr"


def config(**settings) -> GprObjectiveConfig:
    return GprObjectiveConfig(**{"expected_positives": 2.9} | settings)


def make(settings: GprObjectiveConfig, num_labels: int = 5, num_images: int = 20) -> GprObjective:
    """An objective that asked CLIP, which said nothing."""
    objective = GprObjective(settings, GivenLogits(num_labels).config)
    objective.prepare(tiny_images(num_labels, num_images))
    objective.is_prepared = True
    return objective


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_pseudo_labels_match_published_code(dtype):
    file, settings = golden(NAME), golden(NAME).hparams["pseudo"]
    labels, cosines = file.tensors["in.observed"], file.tensors["in.region_logits"].to(dtype)
    scores = (cosines / settings["temp"]).softmax(dim=1).unflatten(0, (-1, len(labels))).transpose(0, 1)
    assert scores.shape[1] == 1 + settings["grid_size"] ** 2
    score, mean = damp_scores(scores, labels, settings["eta"])
    file.check("pseudo/out64.score", score)
    file.check("pseudo/out64.average_score", mean)
    chosen = {"num_candidates": settings["top_k"], "lowest_fraction": settings["negative_ratio"]}
    chosen |= {"tile_threshold": settings["eta"], "threshold": settings["threshold"]}
    found = damp_pseudo_labels(scores, labels, config(**chosen))
    file.check("pseudo/out.pseudo", found.long())
    before = damp_pseudo_labels(scores, labels, config(**chosen | {"lowest_fraction": 0.0}))
    file.check("pseudo/out.pseudo_accumulated", before.long())
    absent = damp_pseudo_labels(scores, labels, config(**chosen, lowest="absent"))
    assert absent.eq(-1).sum(dim=1).eq(int(settings["negative_ratio"] * labels.shape[1])).all()
    assert torch.equal(absent.clamp(min=0), found)


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", cases(NAME, "gpr/"))
def test_losses_match_published_code(case, dtype):
    file, settings = golden(NAME), golden(NAME).hparams["cases"][case]
    (w0, w1, b0, b1), (mu0, sigma0, mu1, sigma1) = settings["beta"], settings["alpha"]
    logits, labels = leaf(file.tensors["in.logits"], dtype), file.tensors["in.observed"]
    chosen = config(
        slope=(w0, w1),
        offset=(b0, b1),
        centre=(mu0, mu1),
        width=(sigma0, sigma1),
        present_exponent=settings["q"][0],
        absent_exponent=settings["q"][1],
        least_weight=settings["lam_2"],
        largest_weight=settings["lam_1"],
        confidence=settings["rho"],
        expected_positives=settings["expected_num_pos"],
        expected_positives_weight=settings["reg"],
    )
    objective = make(chosen, labels.shape[1], len(labels))
    if settings["pseudo"] is not None:
        objective.pseudo_labels.copy_(file.tensors[settings["pseudo"]])
    batch = {"pixel_values": logits, "labels": labels, "index": torch.arange(len(labels))}
    progress = Progress(0, 0, epoch=settings["epoch"] - 1, num_epochs=settings["num_epochs"])
    output = objective(GivenLogits(labels.shape[1]), batch, progress)
    output.loss.backward()
    check_case(file, case, {"loss": output.loss, "grad.in.logits": logits.grad})


LOGITS = torch.tensor([[0.5, -1.0, 2.0, 0.0, -0.3], [4.0, -4.0, -0.7, -2.0, 0.9]])
LABELS = torch.tensor([[1, 0, 0, -1, 0], [0, 0, 0, 1, -1]])
PSEUDO = torch.tensor([[-1, 1, -1, 1, 0], [1, 1, 0, -1, 1]], dtype=torch.int8)


def nl(p: torch.Tensor) -> torch.Tensor:
    return -(p + 1e-7).log()


def test_values_of_a_small_problem():
    """As the formulas are written, entry by entry, in the first of eight epochs."""
    objective = make(config(least_weight=0.2, largest_weight=0.4, width=(1.0, 1.0), centre=(0.5, 0.5)))
    objective.pseudo_labels[:2] = PSEUDO
    batch = {"pixel_values": LOGITS, "labels": LABELS, "index": torch.arange(2)}
    output = objective(GivenLogits(5), batch, Progress(0, 0, epoch=0.0, num_epochs=8))
    p = LOGITS.sigmoid()
    trust, likely = (-((p - 0.5) ** 2) / 2).exp(), torch.tensor(-2.0).sigmoid()
    by_hand = {
        "known +": nl(p),
        "known -": nl(1 - p),
        "pseudo +": (1 - trust).clamp(0.2, 0.4) * (0.9 * nl(p) + 0.1 * nl(1 - p)),
        "pseudo -": trust * nl(1 - p),
        "undecided": trust * (likely * (1 - p**0.01) / 0.01 + (1 - likely) * p),
    }
    kinds = [
        ["known +", "pseudo +", "pseudo -", "known -", "undecided"],
        ["pseudo +", "pseudo +", "undecided", "known +", "known -"],
    ]
    losses = torch.stack([by_hand[kind][row, label] for row in (0, 1) for label, kind in enumerate(kinds[row])])
    penalty = 0.001 * ((p.sum(dim=1).mean() - 2.9) / 5) ** 2
    torch.testing.assert_close(output.loss, losses.mean() + penalty)
    assert output.pseudo_labels["clip"].tolist() == [[1, 1, -1, -1, 0], [1, 1, 0, 1, -1]]


def test_the_best_tile_counts_where_it_beats_the_known_label_and_the_worst_one_elsewhere():
    whole = torch.tensor([[0.2, 0.5, 0.3]])
    tiles = torch.tensor([[[0.3, 0.6, 0.1], [0.1, 0.4, 0.5]]])
    scores = torch.cat([whole[:, None], tiles], dim=1)
    for label, threshold, best in (
        (1, 0.4, [False, True, True]),  # the threshold is less than the 0.5 of the known label
        (0, 0.9, [True, True, True]),  # the 0.2 of the known label are less
        (None, 0.9, [True, True, True]),  # nothing is known to be present
        (2, 0.9, [False, True, True]),
    ):
        labels = torch.tensor([[-1, -1, -1]])
        if label is not None:
            labels[0, label] = 1
        score, mean = damp_scores(scores, labels, threshold)
        tile = torch.where(torch.tensor([best]), tiles.amax(dim=1), tiles.amin(dim=1))
        torch.testing.assert_close(score, (whole + tile) / 2)
        torch.testing.assert_close(mean, (whole + tiles.mean(dim=1)) / 2)


def test_the_highest_scores_are_taken_where_they_reach_the_threshold():
    scores = torch.tensor([[0.25, 0.5, 0.125, 0.25]]).expand(1, 3, 4)
    labels = torch.zeros(1, 4)

    def taken(**settings) -> list[int]:
        chosen = config(**{"lowest_fraction": 0.0, "threshold": 0.25, "num_candidates": 3} | settings)
        return damp_pseudo_labels(scores, labels, chosen)[0].tolist()

    assert taken() == [1, 1, 0, 1], "also where the threshold is just reached"
    assert taken(threshold=0.3) == [0, 1, 0, 0]
    assert taken(num_candidates=2) == [1, 1, 0, 0], "the first of equal ones"
    assert taken(num_candidates=9, threshold=0.0) == [1, 1, 1, 1]
    assert taken(lowest_fraction=0.5) == [0, 1, 0, 1] and taken(lowest_fraction=0.5, lowest="absent") == [-1, 1, -1, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"least_weight": 0.8}, "`least_weight` must not lie above `largest_weight`, got 0.8 and 0.7"),
        ({"slope": (1.0,)}, "`slope` must be two numbers"),
        ({"templates": ("a photo",)}, "`templates` must have one {}"),
    ],
)
def test_settings_that_make_no_sense_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        config(**settings)
