import re

import pytest
import torch
from golden_files import cases, golden, sub_cases
from golden_models import check_case, leaf
from test_asl import DTYPES, LOGITS
from tiny import GivenLogits, loss_of_logits, tiny_images

from hf_mlrpl.methods.em import (
    EmAplObjective,
    EmAplObjectiveConfig,
    EmObjective,
    EmObjectiveConfig,
    em_apl_losses,
    em_losses,
    least_likely,
)
from hf_mlrpl.schedules import Progress

NAME = "losses_em_apl"


@pytest.mark.golden
@pytest.mark.parametrize("case", cases(NAME, "em/"))
def test_loss_matches_published_code(case):
    tensors, settings = golden(NAME).case(case), golden(NAME).hparams["cases"][case]
    for dtype in DTYPES:
        logits = leaf(tensors["in.logits"], dtype)
        loss = em_losses(logits, tensors["in.observed"], settings["alpha"]).mean()
        loss.backward()
        check_case(golden(NAME), case, {"loss": loss, "grad.in.logits": logits.grad})


@pytest.mark.golden
@pytest.mark.parametrize("case", cases(NAME, "em_apl/"))
def test_loss_with_soft_labels_matches_published_code(case):
    """Whose label matrix holds minus the soft label where there is one."""
    tensors, settings = golden(NAME).case(case), golden(NAME).hparams["cases"][case]
    stored, config = (
        tensors["in.stored"],
        EmAplObjectiveConfig(entropy_weight=settings["alpha"], pseudo_weight=settings["beta"]),
    )
    for dtype in DTYPES:
        logits = leaf(tensors["in.logits"], dtype)
        is_soft = stored < 0
        labels = stored.masked_fill(is_soft, 0)
        loss = em_apl_losses(logits, labels, -stored.to(dtype), is_soft, config).mean()
        loss.backward()
        check_case(golden(NAME), case, {"loss": loss, "grad.in.logits": logits.grad})


def make(num_images: int = 20, num_labels: int = 5, **settings) -> EmAplObjective:
    objective = EmAplObjective(EmAplObjectiveConfig(**{"warmup_epochs": 1} | settings), None)
    objective.prepare(tiny_images(num_labels, num_images))
    return objective


def after(epoch: float, num_epochs: int = 4) -> Progress:
    return Progress(step=0, max_steps=100, epoch=epoch, num_epochs=num_epochs)


@pytest.fixture
def label_round(monkeypatch):
    """A round of an objective on given logits of all images."""

    def run(objective, logits, images, progress):
        monkeypatch.setattr(objective, "scores", lambda model, images: logits.sigmoid())
        objective.before_epoch(None, images, progress)

    return run


class Labels:
    def __init__(self, labels):
        self.labels = labels


@pytest.mark.golden
@pytest.mark.parametrize("case", ["apl", "apl_fast"])
def test_labels_after_each_round_are_those_of_the_published_code(case, label_round):
    tensors, settings = golden(NAME).case(case), golden(NAME).hparams[case]
    images = Labels(tensors["in.observed"])
    assert images.labels.eq(0).sum(dim=0).tolist() == settings["unlabel_num"]
    for dtype in DTYPES:
        objective = EmAplObjective(
            EmAplObjectiveConfig(proportion=settings["neg_proportion"], warmup_epochs=settings["warmup_epoch"]), None
        )
        objective.prepare(images)
        objective.to(dtype)
        epochs = sorted(int(name.removeprefix("in.logits_epoch")) for name in tensors if "logits" in name)
        num_epochs = settings["num_epochs"]
        for epoch in epochs:
            label_round(objective, tensors[f"in.logits_epoch{epoch}"].to(dtype), images, after(epoch, num_epochs))
            assert epoch > epochs[0] or objective.is_soft.sum(dim=0).tolist() == settings["per_round"]
            stored = torch.where(objective.is_soft, -objective.soft_labels, images.labels.to(dtype))
            golden(NAME).check(f"{case}/out64.stored_epoch{epoch}", stored)


@pytest.mark.golden
def test_every_sub_case_of_the_file_is_compared():
    assert all(re.match("em/|em_apl/|apl$|apl_fast$", case) for case in sub_cases(NAME))


@pytest.mark.golden
def test_published_settings_are_those_that_the_config_names():
    columns, published = golden(NAME).hparams["dataset_columns"], golden(NAME).hparams["dataset"]
    coco = dict(zip(columns, published["coco"], strict=True))
    config = EmAplObjectiveConfig()
    assert (config.entropy_weight, config.pseudo_weight, config.warmup_epochs) == (
        coco["alpha"],
        coco["beta"],
        coco["warmup_epoch"],
    )


LABELS = torch.tensor([[1, 0, -1, 0, 0], [0, 0, 0, 1, -1]])


def test_a_label_known_to_be_absent_counts_as_such_with_the_weight_one():
    losses, known = em_losses(LOGITS, LABELS, 0.3), LABELS.ne(0)
    torch.testing.assert_close(losses[known], -((LABELS * LOGITS).sigmoid() + 1e-5).log()[known])
    scores = LOGITS.sigmoid()
    entropy = -scores * (scores + 1e-5).log() - (1 - scores) * (1 - scores + 1e-5).log()
    torch.testing.assert_close(losses[~known], -0.3 * entropy[~known])


def test_terms_are_those_of_the_three_kinds_of_labels():
    objective = make(entropy_weight=0.3, pseudo_weight=0.7)
    objective.is_soft[0, 1] = objective.is_soft[0, 0] = True  # the second is known, and stays as it is
    objective.soft_labels[0, :2] = 0.2
    output = loss_of_logits(objective, LOGITS, LABELS)
    score = LOGITS[0, 1].sigmoid()
    expected = -0.7 * (0.2 * (score + 1e-5).log() + 0.8 * (1 - score + 1e-5).log()) / 10
    torch.testing.assert_close(output.terms["pseudo"], expected)
    assert output.pseudo_labels["apl"].tolist() == [[1, -1, -1, 0, 0], [0, 0, 0, 1, -1]]
    plain = loss_of_logits(EmObjective(EmObjectiveConfig(entropy_weight=0.3), None), LOGITS, LABELS)
    assert output.terms["known"] == plain.terms["known"] and output.terms["entropy"] != plain.terms["entropy"]


def test_of_equal_scores_the_first_images_are_the_least_likely():
    scores = torch.tensor([[0.5, 0.1], [0.2, 0.1], [0.2, 0.1], [0.0, 0.1], [torch.inf, 0.1]])
    candidates = torch.tensor([[1, 1], [1, 0], [1, 1], [0, 1], [1, 1]], dtype=torch.bool)
    chosen = least_likely(scores, candidates, torch.tensor([1, 2]))
    assert chosen.nonzero().tolist() == [[0, 1], [1, 0], [2, 1]]
    assert least_likely(scores, candidates, torch.tensor([9, 0])).nonzero().tolist() == [[0, 0], [1, 0], [2, 0]]


def test_labels_are_taken_for_absent_after_each_epoch_from_the_warm_up_on_and_once(label_round):
    images, objective = tiny_images(), make(proportion=0.6, warmup_epochs=2)
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    rounds = []
    for epoch, sign in ((0.0, 1), (1.0, 1), (2.0, 1), (2.5, -1), (3.0, -1)):
        label_round(objective, sign * logits, images, after(epoch))
        rounds.append(objective.is_soft.clone())
    counts = [chosen.sum(dim=0) for chosen in rounds]
    per_round = (0.6 * images.labels.eq(0).sum(dim=0) / 2).long()
    expected = [0 * per_round, 0 * per_round, per_round, per_round, 2 * per_round]
    assert torch.equal(torch.stack(counts), torch.stack(expected)) and per_round.gt(0).all()
    assert not objective.is_soft[images.labels.ne(0)].any()
    first, later = rounds[2], rounds[4] & ~rounds[2]
    assert torch.equal(objective.soft_labels[first], logits.sigmoid()[first]), "they keep the scores that they had"
    assert torch.equal(objective.soft_labels[later], (-logits).sigmoid()[later])


def test_a_score_of_zero_is_remembered(label_round):
    images, objective = tiny_images(), make(proportion=1.0)
    label_round(objective, torch.full((20, 5), -200.0), images, after(1.0, num_epochs=2))
    assert torch.equal(objective.is_soft, images.labels.eq(0)) and not objective.soft_labels.any()


class Brightness(GivenLogits):
    """A model whose logit of every label is the mean of the pixels."""

    def represent(self, features):
        return features.mean(dim=(1, 2, 3)).unsqueeze(1).expand(-1, 5), None


def test_images_are_scored_as_at_inference_and_unreadable_ones_are_left_out():
    images = tiny_images(unreadable=(2, 19))
    objective = make()
    with torch.no_grad():
        scores = objective.scores(Brightness(5), images)
        assert scores.isinf().any(dim=1).nonzero().flatten().tolist() == [2, 19]
        objective.before_epoch(Brightness(5), images, after(3.0))
    assert objective.is_soft.any() and not objective.is_soft[[2, 19]].any()


def test_the_random_view_of_training_is_a_setting(monkeypatch):
    images = tiny_images()
    seen = []
    monkeypatch.setattr(type(images), "augmented", lambda self: seen.append(self) or self)
    for view, count in (("plain", 0), ("training", 1)):
        make(scored_view=view).scores(Brightness(5), images)
        assert len(seen) == count


def test_a_run_that_ends_with_the_warm_up_is_refused_before_it_begins():
    for num_epochs in (1, 5):
        with pytest.raises(
            ValueError, match=f"`warmup_epochs` must be less than the epochs of the run, got 5 and {num_epochs}"
        ):
            make(warmup_epochs=5).before_epoch(None, tiny_images(), after(0.0, num_epochs))


def test_completed_labels_are_the_known_ones_and_those_taken_for_absent(label_round):
    images, objective = tiny_images(), make(proportion=1.0)
    label_round(objective, torch.zeros(20, 5), images, after(1.0, num_epochs=3))
    completed = objective.completed_labels(images.labels).labels
    known = images.labels.ne(0)
    assert torch.equal(completed[known], images.labels[known])
    assert torch.equal(completed.eq(-1) & ~known, objective.is_soft) and completed.eq(0).any()


def test_nothing_says_absent_where_both_weights_are_zero():
    assert EmObjectiveConfig(entropy_weight=0).needs_negatives and not EmObjectiveConfig().needs_negatives
    assert not EmAplObjectiveConfig(entropy_weight=0).needs_negatives
    assert EmAplObjectiveConfig(entropy_weight=0, pseudo_weight=0).needs_negatives
