"""Settings of SST beside the defaults: the forms of the paper, and the rows of its ablation table."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hf_mlrpl import Progress, SstConfig, SstForMultiLabelClassification, SstObjective
from hf_mlrpl.losses import similarity_loss
from hf_mlrpl.methods.sst.objective_sst import (
    SstObjectiveConfig,
    cooccurrence_loss,
    cross_image_pseudo_labels,
    intra_image_pseudo_labels,
)
from hf_mlrpl.methods.sst.pictures import cooccurrence
from hf_mlrpl.schedules import StepDown

LATE = Progress(step=90, max_steps=100, epoch=9.0)
EASY = StepDown(start_epoch=1, first=0.2, floor=0.2)


@pytest.fixture(scope="module")
def model():
    config = SstConfig(
        num_labels=5, backbone="test_resnet", image_size=32, feature_pool=1, trainable_backbone=None,
        label_embeddings="orthogonal", word_embedding_dim=8, representation_dim=12, attention_dim=8, output_dim=12,
        cooccurrence_dim=6, cooccurrence_hidden_dim=7,
    )  # fmt: skip
    torch.manual_seed(0)
    model = SstForMultiLabelClassification(config)
    model.set_priors(np.eye(5, dtype=np.int8))  # no label knows of another one
    return model


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(-1, 2, (6, 5), generator=generator).to(torch.int8)
    return {"pixel_values": torch.randn(6, 3, 32, 32, generator=generator), "labels": labels}


@pytest.mark.parametrize(
    ("settings", "terms", "rules"),
    [
        ({}, {"known", "intra", "cross", "cooccurrence", "similarity"}, {"intra", "cross"}),
        ({"cross_weight": 0.0, "similarity_weight": 0.0}, {"known", "intra", "cooccurrence"}, {"intra"}),
        ({"intra_weight": 0.0, "cooccurrence_weight": 0.0}, {"known", "cross", "similarity"}, {"cross"}),
        (
            {"cross_weight": 0.0, "similarity_weight": 0.0, "cooccurrence_weight": 0.0, "cooccurrence": "statistical"},
            {"known", "intra"},
            {"intra"},
        ),
        (
            {"intra_weight": 0.0, "cross_weight": 0.0, "cooccurrence_weight": 0.0, "similarity_weight": 0.0},
            {"known"},
            set(),
        ),
    ],
    ids=["SST", "IST", "CST", "IST with statistics", "SSGRL"],
)
def test_a_weight_of_zero_switches_a_term_off(model, batch, settings, terms, rules):
    config = SstObjectiveConfig(intra_threshold=EASY, cross_threshold=EASY, **settings)
    output = model(**batch, objective=SstObjective(config, model.config), progress=LATE)
    assert set(output.terms) == terms
    assert set(output.pseudo_labels) == rules
    assert torch.isclose(output.loss, sum(output.terms.values()))


def test_statistics_vote_with_the_probability_of_the_label_given_the_known_one(model, batch):
    with torch.no_grad():  # row i, column j: j is present in half of the images with i
        model.label_graph.copy_(torch.eye(5))
        model.label_graph[1, 0] = 0.9  # label 1 is a sure sign of label 0, not the other way round
    batch["labels"] = torch.tensor([[0, 1, 0, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.int8).repeat(3, 1)
    config = SstObjectiveConfig(
        cross_weight=0, similarity_weight=0, cooccurrence_weight=0, cooccurrence="statistical",
        intra_threshold=StepDown(start_epoch=0, first=0.8, floor=0.8),
    )  # fmt: skip
    output = model(**batch, objective=SstObjective(config, model.config), progress=LATE)
    assert output.pseudo_labels["intra"][:2].tolist() == [[1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]


def test_two_weak_votes_pass_as_a_sum_and_not_as_a_mean():
    cooccurrence = torch.full((1, 3, 3), 0.4)
    labels = torch.tensor([[1, 1, 0]])
    assert intra_image_pseudo_labels(cooccurrence, labels, 0.75, vote="mean").tolist() == [[1, 1, 0]]
    assert intra_image_pseudo_labels(cooccurrence, labels, 0.75, vote="sum").tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(("empty_slots", "completed"), [("zero", 0), ("ignore", 1)])
def test_empty_slots_of_the_bank_count_as_zero_or_not_at_all(empty_slots, completed):
    config = SstObjectiveConfig(bank_size=4, empty_slots=empty_slots)
    objective = SstObjective(config, SstConfig(num_labels=1, representation_dim=2))
    representations, unknown = torch.tensor([[[2.0, 0.0]]]), torch.tensor([[0]])
    assert cross_image_pseudo_labels(representations, objective.centers(), unknown, 0.9).item() == 0
    objective.remember(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[1]]))
    assert cross_image_pseudo_labels(representations, objective.centers(), unknown, 0.9).item() == completed


def test_pairs_with_an_unknown_label_are_negative_or_left_out():
    labels = torch.tensor([[1, 1, 0, -1]])
    logits = torch.zeros(1, 6, requires_grad=True)  # pairs 01 02 03 12 13 23
    cooccurrence_loss(logits, labels, "ignore").backward()
    # 02 and 12 are undecided; 23 is not, since label 3 is known to be absent
    assert (logits.grad[0] == 0).tolist() == [False, True, False, True, False, False]
    logits.grad = None
    cooccurrence_loss(logits, labels, "negative").backward()
    assert (logits.grad != 0).all()


def test_all_pairs_of_images_are_compared_without_sampling():
    representations = torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 1], [1, -1], [-1, 0], [-1, -1], [0, 1]])
    losses = []
    for c in range(2):
        for i in range(5):
            for j in range(i + 1, 5):
                if labels[i, c] and labels[j, c]:
                    cosine = F.cosine_similarity(representations[i, c], representations[j, c], dim=0)
                    losses.append(1 - cosine if labels[i, c] == labels[j, c] == 1 else 1 + cosine)
    actual = similarity_loss(representations, labels, "all")
    assert torch.isclose(actual, torch.stack(losses).mean(), rtol=1e-12)


def test_unknown_labels_count_as_absent_in_the_similarity_loss_of_the_paper(model, batch):
    def similarity(setting, labels):
        config = SstObjectiveConfig(unknown_in_similarity=setting, pair_sampling="all", ramp=EASY)
        objective = SstObjective(config, model.config)
        return model(batch["pixel_values"], labels, objective=objective, progress=LATE).terms["similarity"]

    model.eval()
    absent = batch["labels"].masked_fill(batch["labels"] == 0, -1)
    assert similarity("absent", batch["labels"]) == similarity("ignore", absent)
    assert similarity("absent", batch["labels"]) != similarity("ignore", batch["labels"])


def test_a_shared_pair_classifier_has_one_row():
    config = SstConfig(num_labels=5, backbone="test_resnet", trainable_backbone=None, pair_classifier="shared")
    head = SstForMultiLabelClassification(config).cooccurrence_head
    assert head.classifier.weight.shape == (1, 1024)
    assert head(torch.randn(2, 5, 1024)).shape == (2, 10)


def test_thresholds_follow_the_published_schedule():
    schedule = StepDown()
    values = [schedule(Progress(0, 1, epoch + 0.5)) for epoch in range(20)]
    assert values[:5] == [math.inf] * 5
    assert values[5:14] == pytest.approx([0.95, 0.925, 0.9, 0.875, 0.85, 0.825, 0.8, 0.775, 0.75])
    assert values[14:] == [0.75] * 6


def test_the_printed_head_has_three_layers_and_two_activations():
    config = SstConfig(
        num_labels=3, backbone="test_resnet", trainable_backbone=None, representation_dim=8, attention_dim=4,
        output_dim=8, cooccurrence_dim=5, cooccurrence_hidden_dim=6, pair_classifier="shared",
        cooccurrence_layers="paper",
    )  # fmt: skip
    head, vectors = SstForMultiLabelClassification(config).cooccurrence_head, torch.randn(2, 3, 8)
    reduced = head.reduce(vectors).relu()
    pairs = [torch.cat([reduced[:, i], reduced[:, j]], dim=1) for i, j in ((0, 1), (0, 2), (1, 2))]
    expected = [head.hidden(pair).relu() @ head.classifier.weight[0] + head.classifier.bias[0] for pair in pairs]
    torch.testing.assert_close(head(vectors), torch.stack(expected, dim=1))
    assert {name.split(".")[0] for name, _ in head.named_parameters()} == {"reduce", "hidden", "classifier"}


def test_the_printed_loss_of_pairs():
    logits = torch.linspace(-4, 4, 6, dtype=torch.float64).reshape(1, 6)
    labels, p = torch.tensor([[1, 1, 0, -1]]), logits.sigmoid()[0]
    printed = -((p - 0.05) ** 2 * (1 - p).log())
    printed[0] = -((1 - p[0]) * p[0].log())  # the pair of labels that are both present
    assert torch.isclose(cooccurrence_loss(logits, labels, form="paper"), printed.mean())
    summed = cooccurrence_loss(logits, labels, "ignore", "paper", "sum")
    assert torch.isclose(summed, printed[[0, 2, 4, 5]].sum()), "02 and 12 are undecided"


def test_sums_are_as_many_times_the_means_as_there_are_pairs(model, batch):
    terms = [
        SstObjective(
            SstObjectiveConfig(pair_sampling="all", cooccurrence_reduction=how, similarity_reduction=how), model.config
        )(model, batch, LATE).terms
        for how in ("mean", "sum")
    ]
    assert torch.isclose(terms[1]["cooccurrence"], 6 * 10 * terms[0]["cooccurrence"])
    known = batch["labels"].ne(0).sum(dim=0)
    assert torch.isclose(terms[1]["similarity"], (known * (known - 1) / 2).sum() * terms[0]["similarity"])


def test_a_head_that_is_not_trained_is_not_shown():
    config = SstObjectiveConfig(intra_weight=0.0, cooccurrence_weight=0.0)
    with pytest.raises(ValueError, match="There is no co-occurrence to show: with these settings"):
        cooccurrence(SstObjective(config, SstConfig(num_labels=3)), None, None)
