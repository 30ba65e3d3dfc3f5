import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interruptions import interrupted, numbers
from tiny import batches_of, make_trainer, memory, tiny_images, tiny_recipe, weights

from hf_mlrpl.losses import normalized_partial_bce
from hf_mlrpl.methods.curriculum.objective_curriculum import CurriculumObjective
from hf_mlrpl.methods.curriculum.selection import THRESHOLDS, CurriculumObjectiveConfig, select_labels
from hf_mlrpl.schedules import Progress

STRATEGIES = [*THRESHOLDS, "loss", "all", "visual_proportion"]
FIRST_EPOCH = Progress(step=0, max_steps=10, epoch=0.0)
AFTER_ONE_EPOCH = Progress(step=5, max_steps=10, epoch=1.0)


class Lookup(torch.nn.Module):
    """A model that knows the logits of some images by their pixels, which are the features, too."""

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.logits = logits

    def encode(self, pixel_values):
        return pixel_values

    def represent(self, features):
        return features.flatten(1)[:, :4].unsqueeze(1).expand(-1, self.logits.shape[1], -1), None

    def classify(self, representations):
        return representations.sum(dim=-1) * self.logits[0]


def make(num_labels: int = 5, images=None, **settings) -> CurriculumObjective:
    class ModelConfig:
        pass

    ModelConfig.num_labels = num_labels
    objective = CurriculumObjective(CurriculumObjectiveConfig(relabel_after=(1, 2), **settings), ModelConfig)
    objective.prepare(images or tiny_images(num_labels))
    return objective


# ---- which labels are selected ----


def select_slowly(samples, unknown, config):
    """The strategies, written label by label."""
    threshold = config.threshold if config.threshold is not None else THRESHOLDS.get(config.strategy)
    num_images, num_samples, num_labels = samples.shape
    result = [[0] * num_labels for _ in range(num_images)]
    places = [(i, c) for i in range(num_images) for c in range(num_labels) if unknown[i, c]]

    def mean(i, c):
        return float(samples[i, :, c].mean())

    def sign(i, c):
        return 1 if mean(i, c) > 0 else -1

    if config.strategy == "score_proportion":
        for i, c in sorted(places, key=lambda place: -abs(mean(*place)))[: int(len(places) * threshold)]:
            result[i][c] = sign(i, c)
        return result
    if config.strategy == "visual_proportion":
        for i, c in sorted(places, key=lambda place: -mean(*place))[: int(len(places) * config.positive_proportion)]:
            result[i][c] = 1
        others = [(i, c) for i, c in places if result[i][c] == 0]
        for i, c in sorted(others, key=lambda place: mean(*place))[: int(len(places) * config.negative_proportion)]:
            result[i][c] = -1
        return result
    for i, c in places:
        x = mean(i, c)
        if config.strategy == "score_threshold" and x >= threshold:
            result[i][c] = 1
        if config.strategy == "score_threshold" and x < -threshold:
            result[i][c] = -1
        if config.strategy == "positives_only" and x >= threshold:
            result[i][c] = 1
        if config.strategy == "uncertainty":
            variance = sum((float(sample) - x) ** 2 for sample in samples[i, :, c]) / num_samples
            if math.sqrt(variance) <= threshold:
                result[i][c] = sign(i, c)
        if config.strategy == "loss" and math.log1p(math.exp(-abs(x))) <= threshold:
            result[i][c] = sign(i, c)
        if config.strategy == "all":
            result[i][c] = sign(i, c)
    return result


@st.composite
def problems(draw):
    """Small ones, so that ties and nothing unknown occur; with sums that floats hold exactly."""
    num_images, num_labels = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    strategy = draw(st.sampled_from(STRATEGIES))
    num_samples = draw(st.sampled_from([2, 4])) if strategy == "uncertainty" else 1
    logit = st.sampled_from([-8.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 8.0])
    size = num_images * num_samples * num_labels
    samples = torch.tensor(draw(st.lists(logit, min_size=size, max_size=size)), dtype=torch.float64)
    unknown = draw(st.lists(st.booleans(), min_size=num_images * num_labels, max_size=num_images * num_labels))
    largest = 1.0 if strategy == "score_proportion" else 10.0
    published = st.none() if strategy != "loss" else st.nothing()
    threshold = draw(published | st.sampled_from([0.3, 0.75, 1.0, 2.0, 8.0]).filter(lambda value: value <= largest))
    proportions = draw(st.sampled_from([(0.044, 0.78), (0.5, 0.5), (0.0, 1.0), (1.0, 0.0), (0.34, 0.34)]))
    config = CurriculumObjectiveConfig(
        strategy=strategy,
        threshold=threshold,
        positive_proportion=proportions[0],
        negative_proportion=proportions[1],
    )
    shape = (num_images, num_samples, num_labels)
    return samples.view(shape), torch.tensor(unknown, dtype=torch.bool).view(num_images, num_labels), config


@settings(max_examples=400, deadline=None)
@given(problems())
def test_selected_labels_are_those_of_a_slow_transcription(problem):
    samples, unknown, config = problem
    selected = select_labels(samples, unknown, config)
    assert selected.dtype == torch.int8 and selected.shape == unknown.shape
    assert selected.tolist() == select_slowly(samples, unknown, config)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_extreme_logits(strategy):
    config = CurriculumObjectiveConfig(
        strategy=strategy, threshold=0.8, positive_proportion=0.5, negative_proportion=0.5
    )
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        samples = torch.tensor([[[1e4, -1e4, 1e4]] * 2], dtype=dtype)
        selected = select_labels(samples, torch.tensor([[True, True, False]]), config)
        assert selected[0, 2] == 0 and set(selected[0, :2].tolist()) <= {-1, 0, 1}, dtype
        if strategy not in ("score_proportion", "positives_only"):
            assert selected.tolist() == [[1, -1, 0]], dtype


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"relabel_after": (5, 5)}, "`relabel_after` must be rising numbers of epochs, such as .10, 15., got .5, 5."),
        ({"relabel_after": (1.5,)}, "`relabel_after` must be rising"),
        ({"strategy": "loss"}, "'loss' has no published `threshold`"),
        ({"strategy": "score_proportion", "threshold": 2.0}, "is a part, at most 1, got 2.0"),
        ({"positive_proportion": 0.5}, "must add up to at most 1"),
    ],
)
def test_settings_that_cannot_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        CurriculumObjectiveConfig(**wrong)


# ---- rounds ----


@pytest.fixture
def model():
    return Lookup(torch.tensor([[4.0, -4.0, 1.0, -1.0, 0.5]]))


def relabel(objective, model, images, progress=AFTER_ONE_EPOCH):
    with torch.no_grad():
        objective.before_epoch(model, images, progress)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_only_unknown_labels_are_completed(strategy, model):
    images = tiny_images()
    objective = make(images=images, strategy=strategy, threshold=0.6)
    relabel(objective, model, images)
    assert objective.pseudo_labels.any() and not objective.pseudo_labels[images.labels != 0].any()
    assert set(objective.pseudo_labels.unique().tolist()) <= {-1, 0, 1}


def test_labels_are_completed_once_per_round(model):
    images, objective = tiny_images(), make(strategy="all")
    relabel(objective, model, images, FIRST_EPOCH)
    assert not objective.pseudo_labels.any() and objective.rounds_done == 0
    relabel(objective, model, images)
    first = objective.pseudo_labels.clone()
    assert torch.equal(first != 0, images.labels == 0) and objective.rounds_done == 1
    other = Lookup(-model.logits)
    relabel(objective, other, images, Progress(step=7, max_steps=10, epoch=1.5))  # as after resuming in mid-epoch
    assert torch.equal(objective.pseudo_labels, first)
    relabel(objective, other, images, Progress(step=10, max_steps=10, epoch=2.0))
    assert torch.equal(objective.pseudo_labels, first) and objective.rounds_done == 2, "nothing is unknown any more"


def test_a_round_can_start_again_from_the_known_labels(model):
    images = tiny_images()
    once, again = make(strategy="all", relabel="permanent"), make(strategy="all", relabel="from_observed")
    for objective in (once, again):
        relabel(objective, model, images)
        relabel(objective, Lookup(-model.logits), images, Progress(step=10, max_steps=10, epoch=2.0))
    assert torch.equal(once.pseudo_labels, -again.pseudo_labels) and once.pseudo_labels.any()


def test_proportions_are_of_a_batch_or_of_the_whole_training_set(model):
    images = tiny_images(num_images=20)  # in batches of 8, 8 and 4
    unknown = images.labels == 0
    for scope, parts in (("batch", [slice(0, 8), slice(8, 16), slice(16, 20)]), ("dataset", [slice(0, 20)])):
        objective = make(strategy="score_proportion", threshold=0.3, scope=scope)
        relabel(objective, model, images)
        for part in parts:
            assert objective.pseudo_labels[part].count_nonzero() == int(unknown[part].sum() * 0.3)


def test_the_whole_training_set_is_ranked_in_its_own_order(model):
    images = tiny_images()
    objective = make(strategy="score_proportion", threshold=0.3, scope="dataset")
    relabel(objective, model, images)
    pixel_values = torch.cat([batch["pixel_values"] for batch in batches_of(images)])
    logits = model.classify(model.represent(model.encode(pixel_values))[0])
    expected = select_labels(logits.unsqueeze(1), images.labels == 0, objective.config)
    assert torch.equal(objective.pseudo_labels, expected)


@pytest.mark.parametrize("scope", ["batch", "dataset"])
def test_unreadable_images_get_no_labels(model, scope):
    images = tiny_images(unreadable=(2, 19))
    objective = make(images=images, strategy="all", scope=scope)
    relabel(objective, model, images)
    assert not objective.pseudo_labels[[2, 19]].any() and objective.pseudo_labels[[0, 1, 3, 18]].any(dim=1).all()


def test_uncertain_labels_stay_unknown(model):
    objective = make(strategy="uncertainty", threshold=0.5, num_samples=8, dropout=0.5)
    samples = objective.sample(model, torch.full((2, 3, 32, 32), 1.0), seed=1)
    assert samples.shape == (2, 8, 5) and samples.std(dim=1).gt(0).all()
    assert torch.equal(samples[0], samples[1]), "all images meet the same thinned classifiers"
    assert torch.equal(samples, objective.sample(model, torch.full((2, 3, 32, 32), 1.0), seed=1))
    assert not torch.equal(samples, objective.sample(model, torch.full((2, 3, 32, 32), 1.0), seed=2))
    images, state = tiny_images(), torch.get_rng_state()
    relabel(objective, model, images)
    assert torch.equal(torch.get_rng_state(), state)
    assert 0 < objective.pseudo_labels.count_nonzero() < (images.labels == 0).sum()


# ---- the loss ----


def make_batch(images):
    return batches_of(images)[0]


def test_completed_labels_count_like_known_ones(model):
    images, objective = tiny_images(), make(strategy="all")
    relabel(objective, model, images)
    batch = make_batch(images) | {"index": torch.arange(7, -1, -1)}  # the rows decide, not the places in the batch
    output = objective(model, batch, AFTER_ONE_EPOCH)
    completed = batch["labels"].where(batch["labels"] != 0, objective.pseudo_labels[batch["index"]])
    expected = normalized_partial_bce(output.logits, completed).mean()
    torch.testing.assert_close(output.loss, expected)
    assert torch.equal(output.pseudo_labels["curriculum"], completed)
    assert output.logs == {"round": 1.0}


def test_in_the_first_round_it_is_partial_bce(model):
    images, objective = tiny_images(), make()
    batch = make_batch(images)
    output = objective(model, batch, FIRST_EPOCH)
    torch.testing.assert_close(output.loss, normalized_partial_bce(output.logits, batch["labels"]).mean())


def test_training_leaves_out_features_only_where_uncertainty_needs_it(model):
    batch = make_batch(tiny_images())
    plain, _ = model.represent(model.encode(batch["pixel_values"]))
    for strategy, same in (("all", True), ("uncertainty", False)):
        logits = make(strategy=strategy)(model, batch, FIRST_EPOCH).logits
        assert torch.equal(logits, model.classify(plain)) == same


def test_without_the_training_images_there_is_nothing_to_remember(model):
    class ModelConfig:
        num_labels = 5

    objective = CurriculumObjective(CurriculumObjectiveConfig(), ModelConfig)
    with pytest.raises(RuntimeError, match="was not prepared, so it has no `pseudo_labels`"):
        objective(model, make_batch(tiny_images()), FIRST_EPOCH)


# ---- training ----

ROUNDS = {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": 1, "eval_strategy": "no"}


@pytest.mark.parametrize("objective", [{}, {"strategy": "uncertainty", "threshold": 1.0, "relabel": "from_observed"}])
def test_stopped_around_a_round_a_run_ends_like_an_unbroken_one(objective, tmp_path):
    """Three steps an epoch; labels are completed before the fourth and the seventh step."""
    recipe = tiny_recipe("curriculum", objective={"relabel_after": [1, 2]} | objective, training=ROUNDS)
    unbroken = make_trainer(recipe, tmp_path / "unbroken")
    unbroken.train()
    assert unbroken.objective.rounds_done == 2 and unbroken.objective.pseudo_labels.any()
    resumed = interrupted(recipe, tmp_path / "stopped", (2, 3, 4, 6, 7))
    assert numbers(resumed) == numbers(unbroken)
    assert (weights(resumed), memory(resumed)) == (weights(unbroken), memory(unbroken))


def test_logs_say_how_many_labels_were_completed_and_how_precisely(tmp_path):
    settings = {"num_train_epochs": 2, "save_strategy": "no", "eval_strategy": "no", "logging_steps": 3}
    recipe = tiny_recipe("curriculum", objective={"strategy": "all", "threshold": None}, training=settings)
    trainer = make_trainer(recipe, tmp_path)
    trainer.train()
    first, second = (entry for entry in trainer.state.log_history if "loss" in entry)
    unknown = torch.tensor(trainer.train_dataset.labels == 0)
    right = trainer.objective.pseudo_labels == torch.tensor(trainer.train_dataset.full_labels)
    assert (first["pseudo_labels_curriculum"], first["round"]) == (0, 0)
    assert (second["pseudo_labels_curriculum"], second["round"]) == (unknown.sum(), 1)
    assert second["pseudo_precision_curriculum"] == pytest.approx(100 * right[unknown].double().mean().item())


def test_the_memory_is_one_byte_per_label(tmp_path):
    objective = make(images=tiny_images(num_images=12))
    assert objective.pseudo_labels.shape == (12, 5) and objective.pseudo_labels.element_size() == 1


def test_completed_labels_are_those_of_the_last_round(model):
    images = tiny_images()
    objective = make(images=images, strategy="all")
    assert torch.equal(objective.completed_labels(images.labels).labels, images.labels)
    relabel(objective, model, images)
    expected = images.labels.where(images.labels != 0, objective.pseudo_labels)
    assert torch.equal(objective.completed_labels(images.labels).labels, expected) and expected.ne(0).all()
