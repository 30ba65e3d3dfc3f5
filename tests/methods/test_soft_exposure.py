"""There is no published code: the oracle is a transcription of the paper's equations, label by label."""

import argparse
import math
import statistics
from itertools import product
from types import SimpleNamespace

import benchmark_parts
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_trainer, memory, tiny_images, tiny_model, tiny_recipe, weights
from torch.testing import assert_close

from hf_mlrpl.methods.soft_exposure import objective_soft_exposure
from hf_mlrpl.methods.soft_exposure.objective_soft_exposure import (
    SoftExposureObjective,
    SoftExposureObjectiveConfig,
    soft_exposure_loss,
)
from hf_mlrpl.methods.soft_exposure.temperatures import distances_to_images, distances_to_labels, signed_temperatures
from hf_mlrpl.schedules import Progress

VARIANTS = ("NE", "wNE", "FE", "LS", "SE-L", "SE-I", "SE")
START = Progress(step=0, max_steps=10, epoch=0.0)

LOGITS = torch.tensor([[0.5, -1.0, 2.0, 0.0, -0.3], [1.5, 0.2, -0.7, -2.0, 0.9]], dtype=torch.float64)
LABELS = torch.tensor([[1, -1, 0, 0, 1], [0, -1, -1, 1, 0]], dtype=torch.int8)
TO_POSITIVE = torch.tensor([[0, 0, 0.2, 0.9, 0], [0.5, 0, 0, 0, 1.0]], dtype=torch.float64)
TO_NEGATIVE = torch.tensor([[0, 0, 0.6, 0.3, 0], [1.0, 0, 0, 0, 0.4]], dtype=torch.float64)


# ---- the oracle ----


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def slow_reduce(distances: list[float], reduce: str) -> float:
    finite = sorted(d for d in distances if d < math.inf)
    if not finite:
        return math.inf
    return finite[0] if reduce == "min" else statistics.median(finite[:5])


def slow_temperatures(problem, config, row: int) -> list[float | None]:
    """Temperature of every label of an image; `None` where it is known, or nothing can be compared."""
    labels = problem.labels[row].tolist()
    unknown = [c for c, label in enumerate(labels) if label == 0]
    nearest = {1: {}, -1: {}}
    for sign in (1, -1):
        for c in unknown:
            annotated = [j for j, label in enumerate(labels) if label == sign]
            to_labels = slow_reduce([problem.label_distances[c, j].item() for j in annotated], config.reduce)
            to_images = slow_reduce(
                [
                    distance
                    for image, distance in zip(
                        problem.neighbours[row].tolist(), problem.neighbour_distances[row].tolist(), strict=True
                    )
                    if problem.labels[image, c] == sign
                ],
                config.reduce,
            )
            covered = any(problem.labels[image, c] for image in problem.neighbours[row].tolist())
            if to_images == math.inf and (covered or config.uncovered == "absent"):
                to_images = 1.0
            choices = {"SE-L": [to_labels], "SE-I": [to_images], "SE": [to_labels, to_images]}[config.variant]
            nearest[sign][c] = min(choices)
    finite = {sign: [d for d in nearest[sign].values() if d < math.inf] for sign in nearest}
    if config.normalization == "joint":
        finite = dict.fromkeys(nearest, finite[1] + finite[-1])
    largest = {sign: max(finite[sign], default=0.0) or 1.0 for sign in nearest}
    result: list[float | None] = [None] * len(labels)
    for c in unknown:
        d_positive, d_negative = nearest[1][c] / largest[1], nearest[-1][c] / largest[-1]
        if min(d_positive, d_negative) == math.inf:
            continue
        exponent = (lambda d: d) if config.temperature_fn == "inverse" else (lambda d: 1 - d)
        if d_positive < d_negative:
            result[c] = math.exp(config.beta * exponent(d_positive)) + config.gamma
        else:
            result[c] = min(-math.exp(config.beta * exponent(d_negative)) + config.gamma, -1e-3)
    return result


def slow_loss(problem, config, logits) -> float:
    """Mean over the images of the sum over the labels."""
    total = 0.0
    for row in range(len(logits)):
        labels, num_labels = problem.labels[row].tolist(), len(problem.labels[row])
        num_known = sum(label != 0 for label in labels)
        softened = config.variant.startswith("SE")
        temperatures = slow_temperatures(problem, config, row) if softened else [None] * num_labels
        weight = 1.0 if config.variant in ("NE", "wNE") else config.positive_weight
        known, unknown = 0.0, 0.0
        for f, label, temperature in zip(logits[row].tolist(), labels, temperatures, strict=True):
            if label:
                known += weight * softplus(-f) if label == 1 else softplus(f)
            elif config.variant == "FE":
                unknown += softplus(-f if config.unknown_as == "positive" else f)
            elif config.variant == "LS":
                unknown += softplus(f / config.constant_temperature)
            elif temperature is not None:
                unknown += softplus(-f / temperature)
        if config.variant == "wNE" and num_known:
            g = -4.45 * num_known / num_labels + 5.45
            known *= g / num_labels if config.image_weight == "durand" else 1 / num_known
        total += known + unknown
    return total / len(logits)


# ---- random problems ----


@st.composite
def problems(draw):
    """Labels, distances and neighbours; distances from a short list, so that there are ties."""
    num_images, num_labels, count = draw(st.integers(2, 6)), draw(st.integers(1, 8)), draw(st.integers(1, 7))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    choices = torch.tensor(
        draw(st.sampled_from([[0.0], [0.5], [0.0, 0.25, 0.5, 1.0], [0.1, 0.7, 1.5, math.inf], [math.inf]])),
        dtype=torch.float64,
    )

    def random(*shape):
        return torch.rand(shape, generator=generator)

    drawn = choices[torch.randint(len(choices), (num_labels, num_labels), generator=generator)]
    known = draw(st.sampled_from([0.0, 0.2, 0.6, 1.0]))
    positive = draw(st.sampled_from([0.0, 0.3, 1.0]))
    signs = torch.where(random(num_images, num_labels) < positive, 1, -1)
    finite = choices[choices < math.inf]
    finite = finite if len(finite) else torch.ones(1, dtype=torch.float64)
    return SimpleNamespace(
        labels=(signs * (random(num_images, num_labels) < known)).to(torch.int8),
        label_distances=torch.maximum(drawn, drawn.T),
        neighbours=torch.randint(num_images, (num_images, count), generator=generator, dtype=torch.int32),
        neighbour_distances=finite[torch.randint(len(finite), (num_images, count), generator=generator)],
        logits=3 * torch.randn(num_images, num_labels, generator=generator, dtype=torch.float64),
    )


def objective_of(problem, config: SoftExposureObjectiveConfig) -> SoftExposureObjective:
    """An objective that remembers the distances and neighbours of `problem`, in its precision."""
    objective = SoftExposureObjective(config, None)
    objective.prepare(SimpleNamespace(labels=problem.labels))
    for name in ("label_distances", "neighbours", "neighbour_distances"):
        if hasattr(objective, name):
            setattr(objective, name, getattr(problem, name))
    if hasattr(objective, "made"):
        objective.made.fill_(True)
    objective.before_epoch(None, None, START)
    return objective


class Logits(torch.nn.Module):
    """A model whose logits are its pixels."""

    def encode(self, pixel_values):
        return pixel_values

    def represent(self, features):
        return features, None

    def classify(self, representations):
        return representations


def batch_of(problem, logits) -> dict[str, torch.Tensor]:
    return {"pixel_values": logits, "labels": problem.labels, "index": torch.arange(len(problem.labels))}


configs = st.builds(
    SoftExposureObjectiveConfig,
    variant=st.sampled_from(VARIANTS),
    reduce=st.sampled_from(["min", "median5"]),
    temperature_fn=st.sampled_from(["published", "inverse"]),
    beta=st.sampled_from([0.5, 5.0, 20.0]),
    gamma=st.sampled_from([0.0, 0.1, 1.0]),
    normalization=st.sampled_from(["joint", "own"]),
    uncovered=st.sampled_from(["absent", "ignore"]),
    positive_weight=st.sampled_from([1.0, 5.0]),
    unknown_as=st.sampled_from(["negative", "positive"]),
    image_weight=st.sampled_from(["durand", "mean"]),
    constant_temperature=st.sampled_from([1.0, 20.0]),
)


@settings(max_examples=300, deadline=None)
@given(problems(), configs)
def test_the_loss_is_that_of_the_equations(problem, config):
    output = objective_of(problem, config)(Logits(), batch_of(problem, problem.logits), START)
    assert_close(output.loss.item(), slow_loss(problem, config, problem.logits), rtol=1e-9, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(problems(), configs.filter(lambda config: config.needs_neighbours))
def test_the_temperatures_are_those_of_the_equations(problem, config):
    objective = objective_of(problem, config)
    actual = objective.temperatures(problem.labels, batch_of(problem, problem.logits))
    expected = [[t or 0.0 for t in slow_temperatures(problem, config, row)] for row in range(len(actual))]
    assert_close(actual, torch.tensor(expected, dtype=torch.float64))


def test_the_plain_transcription_of_the_benchmark_is_the_same():
    sides = benchmark_parts.temperatures(argparse.Namespace(labels=30, batch_size=20, device="cpu"))
    actual = sides["ours"]()
    assert actual.gt(0).any() and actual.lt(0).any()
    assert_close(sides["plain"](), actual)


def test_many_annotated_labels_are_gathered_in_parts(monkeypatch):
    distances = torch.rand(50, 50)
    distances = torch.maximum(distances, distances.T)
    annotated = torch.rand(4, 50) < 0.5
    for reduce in ("min", "median5"):
        expected = distances_to_labels(distances, annotated, 50, reduce)
        with monkeypatch.context() as patch:
            patch.setattr("hf_mlrpl.methods.soft_exposure.temperatures.GATHERED", 1)
            assert torch.equal(distances_to_labels(distances, annotated, 50, reduce), expected)


# ---- numbers of the specification ----


def test_values_that_are_known():
    temperatures = signed_temperatures(TO_POSITIVE, TO_NEGATIVE).where(LABELS.eq(0), 0)
    expected = torch.tensor([[0, 0, 54.59815, -33.11545, 0], [12.18249, 0, 0, 0, -20.08554]])
    assert_close(temperatures.float(), expected, rtol=1e-6, atol=0)
    nothing, absent = torch.zeros(2, 5), -torch.ones(2, 5)
    for values, loss in ((temperatures, 3.843687), (nothing, 2.484973), (absent, 5.366294)):  # SE, NE, FE
        known, unknown = soft_exposure_loss(LOGITS, LABELS, values)
        assert (known + unknown).mean().item() == pytest.approx(loss, abs=1e-6)


def test_a_far_label_is_a_hard_negative_and_a_near_one_is_almost_ignored():
    """The gradient of a label is -sigmoid(-f / T) / T."""
    logits = torch.zeros(1, 3, requires_grad=True)
    to_positive, to_negative = torch.tensor([[0.0, 0.5, 1.0]]), torch.tensor([[1.0, 1.0, 1.0]])
    temperatures = signed_temperatures(to_positive, to_negative)
    assert_close(temperatures, torch.tensor([[math.exp(5), math.exp(2.5), -1.0]]))
    soft_exposure_loss(logits, torch.zeros(1, 3), temperatures)[1].sum().backward()
    assert_close(logits.grad, -0.5 / temperatures)


# ---- edges ----


def test_equal_distances_count_as_negative():
    same = torch.ones(1, 1)
    assert signed_temperatures(same, same).item() == -1.0


@pytest.mark.parametrize("uncovered, expected", [("absent", (0.0, -1.0, -1.0)), ("ignore", (0.0, 0.0, 0.0))])
def test_without_any_annotated_label_images_say_absent_or_nothing(uncovered, expected):
    problem = SimpleNamespace(
        labels=torch.zeros(2, 3, dtype=torch.int8),
        label_distances=torch.rand(3, 3),
        neighbours=torch.tensor([[1], [0]], dtype=torch.int32),
        neighbour_distances=torch.full((2, 1), 0.1),
    )
    batch = batch_of(problem, torch.randn(2, 3))
    for variant, temperature in zip(("SE-L", "SE-I", "SE"), expected, strict=True):
        objective = objective_of(problem, SoftExposureObjectiveConfig(variant=variant, uncovered=uncovered))
        assert (objective.temperatures(problem.labels, batch) == temperature).all(), variant


def test_with_one_neighbour_se_i_is_close_to_ne_where_it_ignores_what_no_neighbour_shows():
    """As the text says of SE-I; as the equations stand, which give the paper's order of rows, it is close to FE."""
    torch.manual_seed(0)
    known = torch.rand(200, 40) < 0.1
    labels = torch.where(torch.rand(200, 40) < 0.1, 1, -1).mul(known).to(torch.int8)
    problem = SimpleNamespace(
        labels=labels, neighbours=torch.randint(200, (200, 1)).int(), neighbour_distances=torch.rand(200, 1)
    )

    def gradient(**settings):
        logits = torch.zeros(200, 40, requires_grad=True)
        config = SoftExposureObjectiveConfig(**{"positive_weight": 1.0, **settings})
        objective_of(problem, config)(Logits(), batch_of(problem, logits), START).loss.backward()
        return logits.grad

    for uncovered, near, far in (("ignore", "NE", "FE"), ("absent", "FE", "NE")):
        ours = gradient(variant="SE-I", uncovered=uncovered)
        distances = [(ours - gradient(variant=other)).norm().item() for other in (near, far)]
        assert 2 * distances[0] < distances[1], uncovered


def test_the_image_itself_stands_for_a_missing_neighbour():
    """Its own labels are known, so it says nothing of its unknown ones."""
    labels = torch.tensor([[1, -1, 0]])
    to_images = distances_to_images(torch.zeros(1, 1), labels.eq(1).unsqueeze(1))
    assert to_images[0, 2] == 1.0


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_and_gradient_are_finite_for_extreme_logits(variant):
    problem = SimpleNamespace(
        labels=torch.tensor([[1, -1, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, -1, -1, 1]], dtype=torch.int8),
        label_distances=torch.rand(5, 5),
        neighbours=torch.tensor([[1, 2], [2, 0], [0, 1]], dtype=torch.int32),
        neighbour_distances=torch.rand(3, 2),
    )
    dtypes = (torch.float32, torch.float16, torch.bfloat16)
    for beta, dtype, scale in product((1.0, 100.0), dtypes, (1e4, -1e4, 0.0)):
        config = SoftExposureObjectiveConfig(variant=variant, beta=beta)
        logits = torch.full((3, 5), scale, dtype=dtype, requires_grad=True)
        output = objective_of(problem, config)(Logits(), batch_of(problem, logits), START)
        output.loss.backward()
        assert output.loss.isfinite() and logits.grad.isfinite().all(), (beta, dtype, scale)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_order_of_images_and_labels_makes_no_difference(variant):
    torch.manual_seed(0)
    labels = torch.randint(-1, 2, (6, 5), dtype=torch.int8)
    distances = torch.rand(5, 5, dtype=torch.float64)
    problem = SimpleNamespace(
        labels=labels,
        label_distances=torch.maximum(distances, distances.T),
        neighbours=torch.stack([(torch.arange(6) + shift) % 6 for shift in (1, 2)], dim=1).int(),
        neighbour_distances=torch.rand(6, 2, dtype=torch.float64),
        logits=torch.randn(6, 5, dtype=torch.float64),
    )
    config = SoftExposureObjectiveConfig(variant=variant)
    expected = objective_of(problem, config)(Logits(), batch_of(problem, problem.logits), START).loss

    images, order = torch.randperm(6), torch.randperm(5)
    moved_to = images.argsort()
    moved = SimpleNamespace(
        labels=labels[images][:, order],
        label_distances=problem.label_distances[order][:, order],
        neighbours=moved_to[problem.neighbours[images].long()].int(),
        neighbour_distances=problem.neighbour_distances[images],
        logits=problem.logits[images][:, order],
    )
    assert_close(objective_of(moved, config)(Logits(), batch_of(moved, moved.logits), START).loss, expected)


def test_unknown_labels_have_no_gradient_where_they_are_ignored():
    for variant in ("NE", "wNE"):
        logits = LOGITS.clone().requires_grad_()
        objective = SoftExposureObjective(SoftExposureObjectiveConfig(variant=variant), None)
        objective(Logits(), {"pixel_values": logits, "labels": LABELS}, START).loss.backward()
        assert (logits.grad.ne(0) == LABELS.ne(0)).all()


def test_nothing_prepared_is_an_error():
    objective = SoftExposureObjective(SoftExposureObjectiveConfig(), None)
    with pytest.raises(RuntimeError, match="SoftExposureObjective was not prepared, so it has no `label_distances`"):
        objective(Logits(), {"pixel_values": LOGITS, "labels": LABELS}, START)


@pytest.mark.parametrize("variant", ["SE-L", "SE-I", "SE"])
def test_an_image_that_cannot_be_read_is_as_if_it_were_not_there(variant):
    """It lends no label to others; its own unknown labels count like those without any neighbour."""
    model, bad = tiny_model("soft_exposure").eval(), 3
    config = SoftExposureObjectiveConfig(variant=variant, num_neighbours=17, uncovered="absent")
    images, without = tiny_images(unreadable=(bad,)), tiny_images(unreadable=(bad,))
    without.labels[bad] = 0
    found = []
    for some in (images, without):
        objective = SoftExposureObjective(config, model.config)
        objective.prepare(some)
        objective.before_epoch(model, some, START)
        found.append(objective.temperatures(images.labels, {"index": torch.arange(len(images))}))
    assert torch.equal(*found) and found[0].isfinite().all()
    if variant == "SE-I":
        own = found[0][bad, images.labels[bad] == 0]
        assert len(own) and own.eq(-1).all(), "both distances are 1: absent, at the temperature 1"


# ---- training ----


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains(variant, tmp_path):
    recipe = tiny_recipe("soft_exposure", objective={"variant": variant}, training={"max_steps": 2})
    trainer = make_trainer(recipe, tmp_path)
    trainer.train()
    logs = trainer.state.log_history[0]
    assert math.isfinite(logs["loss"])
    assert ("temperature" in logs) == variant.startswith("SE")


def test_memory_is_what_the_variant_needs():
    sizes = {}
    for variant in VARIANTS:
        objective = SoftExposureObjective(SoftExposureObjectiveConfig(variant=variant, num_neighbours=3), None)
        objective.prepare(tiny_images(num_labels=5, num_images=20))
        sizes[variant] = {name: tuple(value.shape) for name, value in objective.state_dict().items()}
    assert sizes["NE"] == sizes["wNE"] == sizes["FE"] == sizes["LS"] == {}
    labels, images = {"label_distances": (5, 5)}, {"neighbours": (20, 3), "neighbour_distances": (20, 3)}
    assert sizes["SE-L"] == {"made": ()} | labels and sizes["SE-I"] == {"made": ()} | images
    assert sizes["SE"] == {"made": ()} | labels | images


@pytest.mark.slow
def test_a_resumed_run_ends_like_an_unbroken_one_and_looks_at_no_features(tmp_path, monkeypatch):
    training = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": None}
    unbroken = make_trainer(tiny_recipe("soft_exposure", training=training), tmp_path)
    unbroken.train()
    assert unbroken.objective.made and unbroken.objective.neighbour_distances.any()
    monkeypatch.delattr(objective_soft_exposure, "ImageFeatures")
    for step in (1, 3, 4):
        resumed = make_trainer(tiny_recipe("soft_exposure", training=training), tmp_path)
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert (weights(resumed), memory(resumed)) == (weights(unbroken), memory(unbroken))


def test_temperatures_use_the_rows_of_the_batch():
    model, images = tiny_model("soft_exposure"), tiny_images()
    objective = SoftExposureObjective(SoftExposureObjectiveConfig(variant="SE-I"), model.config)
    objective.prepare(images)
    objective.before_epoch(model.eval(), images, START)
    everything = {"index": torch.arange(len(images))}
    whole = objective.temperatures(images.labels, everything)
    rows = torch.tensor([7, 3])
    assert torch.equal(objective.temperatures(images.labels[rows], {"index": rows}), whole[rows])
