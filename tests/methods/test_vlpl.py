import pytest
import torch
from golden_files import cases, golden
from golden_models import check_case, leaf
from test_asl import DTYPES
from tiny import GivenLogits, loss_of_logits, tiny_images
from tiny_clip import TINY_VIT

from hf_mlrpl import VlplObjective, VlplObjectiveConfig, ZeroShotClipConfig, ZeroShotClipForMultiLabelClassification
from hf_mlrpl.methods.vlpl import clip_pseudo_labels

NAME = "losses_vlpl"
LOSS = {"EM_PL": "em", "EM_PL_ASL": "asl"}


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", cases(NAME, "pseudo"))
def test_pseudo_labels_match_published_code(case, dtype):
    """From image vectors and text vectors to the labels, through the model that stands for CLIP."""
    file, settings = golden(NAME), golden(NAME).hparams["cases"][case]
    texts, images = (file.tensors[f"in.{kind}_features"].to(dtype) for kind in ("text", "image"))
    sizes = TINY_VIT | {"embed_dim": texts.shape[1], "initial_scale": 1 / settings["temperature"], "initial_bias": 0.0}
    config = ZeroShotClipConfig.for_labels([str(i) for i in range(len(texts))], **sizes)
    clip = ZeroShotClipForMultiLabelClassification(config).to(dtype).eval()
    clip._kept["label_vectors"] = texts
    scores = clip.classify(clip.represent(images)[0]).softmax(dim=1)
    file.check(f"{case}/out64.similarity", scores)
    for name, fraction in (("positive", 0.0), ("both", settings["negative_fraction"])):
        found = clip_pseudo_labels(scores, settings["threshold"], fraction)
        file.check(f"{case}/out.pseudo_{name}", found.long())


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", cases(NAME, "em_pl"))
def test_losses_match_published_code(case, dtype):
    file, settings = golden(NAME), golden(NAME).hparams["cases"][case]
    gammas = {f"gamma_{name}": gamma for name, gamma in file.hparams["gammas"].items()}
    config = VlplObjectiveConfig(
        loss=LOSS[settings["loss"]],
        entropy_weight=settings["alpha"],
        positive_weight=settings["beta_pos"],
        start_epoch=settings["warmup_epoch"],
        **gammas,
    )
    logits, labels = leaf(file.tensors["in.logits"], dtype), file.tensors["in.observed"]
    objective = make(config, labels.shape[1], len(labels))
    objective.pseudo_labels.copy_(file.tensors[settings["pseudo"]])
    # Published epochs count from 1, and up to `warmup_epoch` nothing is taken for present.
    output = loss_of_logits(objective, logits, labels, epoch=settings["epoch"] - 1)
    output.loss.backward()
    check_case(file, case, {"loss": output.loss, "grad.in.logits": logits.grad})


def make(config: VlplObjectiveConfig, num_labels: int = 5, num_images: int = 20) -> VlplObjective:
    """An objective that asked CLIP, which said nothing."""
    objective = VlplObjective(config, GivenLogits(num_labels).config)
    objective.prepare(tiny_images(num_labels, num_images))
    objective.is_prepared = True
    return objective


LOGITS = torch.tensor([[0.5, -1.0, 2.0, 0.0, -0.3], [1.5, 0.2, -0.7, -2.0, 0.9]])
LABELS = torch.tensor([[1, 0, 0, -1, 0], [0, 0, 0, 1, -1]])
PSEUDO = torch.tensor([[-1, 1, -1, 1, 0], [0, 0, 1, -1, 1]], dtype=torch.int8)


def nl(p: torch.Tensor) -> torch.Tensor:
    return -(p + 1e-5).log()


@pytest.mark.parametrize("loss", ["em", "asl"])
def test_values_of_a_small_problem(loss):
    """As the formulas are written, entry by entry."""
    objective = make(VlplObjectiveConfig(loss=loss, entropy_weight=0.3, positive_weight=0.6, negative_weight=0.2))
    objective.pseudo_labels[:2] = PSEUDO
    output = loss_of_logits(objective, LOGITS, LABELS)
    p = LOGITS.sigmoid()
    entropy = p * nl(p) + (1 - p) * nl(1 - p)
    by_hand = {
        "em": {
            "known +": nl(p),
            "pseudo +": 0.6 * (0.9 * nl(p) + 0.1 * nl(1 - p)),
            "pseudo -": 0.2 * (0.1 * nl(p) + 0.9 * nl(1 - p)),
            "undecided": -0.3 * entropy,
        },
        "asl": {
            "known +": (1 - p) ** 2 * nl(p),
            "pseudo +": (1 - p) ** 2 * nl(p),
            "pseudo -": p**4 * nl(1 - p),
            "undecided": -((1 - p) ** 4) * entropy,
        },
    }[loss]
    by_hand["known -"] = nl(1 - p)
    kinds = [
        ["known +", "pseudo +", "pseudo -", "known -", "undecided"],
        ["undecided", "undecided", "pseudo +", "known +", "known -"],
    ]
    losses = torch.stack([by_hand[kind][row, label] for row in (0, 1) for label, kind in enumerate(kinds[row])])
    torch.testing.assert_close(output.loss, losses.mean())
    assert output.pseudo_labels["clip"].tolist() == [[1, 1, -1, -1, 0], [0, 0, 1, 1, -1]]


def test_before_its_epoch_what_clip_says_does_not_count():
    objective = make(VlplObjectiveConfig(start_epoch=2))
    objective.pseudo_labels.fill_(1)
    early, late = (loss_of_logits(objective, LOGITS, LABELS, epoch) for epoch in (1.9, 2.0))
    assert early.terms["completed"] == 0 < late.terms["completed"]
    assert torch.equal(early.pseudo_labels["clip"], LABELS) and late.pseudo_labels["clip"].ne(0).all()


def test_lowest_scores_overrule_the_highest_and_their_number_is_rounded_down():
    scores = torch.tensor([[0.4, 0.1, 0.2, 0.05, 0.25]])
    assert clip_pseudo_labels(scores, 0.2, 0.0).tolist() == [[1, 0, 0, 0, 1]]
    assert clip_pseudo_labels(scores, 0.2, 0.59).tolist() == [[1, -1, 0, -1, 1]]
    assert clip_pseudo_labels(scores, 0.2, 1.0).tolist() == [[-1] * 5]
