"""What every objective promises about numbers, whatever network gives the logits.

Objectives that need a network of their own (those of SSGRL, SST, ...) are tested with it in `test_methods.py`.
"""

import copy
import dataclasses
import functools

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_methods import LATE, NUM_LABELS, make_objective
from tiny import OBJECTIVES, tiny_images, tiny_model

from hf_mlrpl.objective import Objective, ObjectiveOutput, what_never_begins
from hf_mlrpl.registry import METHODS, load
from hf_mlrpl.settings import from_mapping

VARIANTS = [  # settings that compute something else
    ("an", {"loss": "ranking"}),
    ("asl", {"gamma_positive": 0.5, "detach_focus": False}),
    ("curriculum", {"strategy": "all", "threshold": None}),  # labels are completed
    ("hill", {"known_negatives": "bce"}),
    ("large_loss", {"scheme": "LL-R"}),
    ("p_asl", {"unknown": "select", "likely_per_image": 1}),
    ("p_asl", {"unknown": "ignore_normalized"}),
]
ANY_MODEL = sorted(name for name, spec in METHODS.items() if spec.trains_any_model)
CASES = [(method, {}) for method in ANY_MODEL] + VARIANTS
IDS = [" ".join([method, *map(str, changes.values())]) for method, changes in CASES]
REPEATABLE = [case for case in CASES if case[0] not in ("logic_mix", "mixup_pme")]  # which mix images at random
NUM_IMAGES = 4


@functools.cache
def prepared(method: str, **changes) -> tuple[torch.nn.Module, Objective]:
    """A model whose logits are its pixels, and an objective in a late epoch."""
    model = tiny_model(method, NUM_LABELS)
    objective = make_objective(load(METHODS[method].objective), model, OBJECTIVES.get(method, {}) | changes)
    model.encode = lambda pixel_values: pixel_values
    model.represent = lambda features: (features.flatten(1), None)
    model.classify = lambda representations: representations
    return model.train(), objective


def run(method: str, logits: torch.Tensor, labels: torch.Tensor, seed: int = 0, **changes) -> ObjectiveOutput:
    """One training step with memory as it was after `prepare`, and with the random numbers of `seed`."""
    model, objective = prepared(method, **changes)
    return step(model, copy.deepcopy(objective), logits, labels, torch.arange(len(labels)), seed)


def step(model, objective, logits, labels, index, seed=0) -> ObjectiveOutput:
    torch.manual_seed(seed)
    pixels = logits[:, :, None, None]  # (B, C, 1, 1)
    return model(pixels, labels, objective, LATE, index=index)


@st.composite
def problems(draw) -> tuple[list[list[float]], list[list[int]]]:
    """Logits and labels of one to four images."""
    logits = st.sampled_from([-1e4, -90.0, -3.0, 0.0, 0.4, 30.0, 1e4])
    rows = draw(st.integers(1, NUM_IMAGES))
    return (
        draw(st.lists(st.lists(logits, min_size=NUM_LABELS, max_size=NUM_LABELS), min_size=rows, max_size=rows)),
        draw(
            st.lists(
                st.lists(st.sampled_from([-1, 0, 1]), min_size=NUM_LABELS, max_size=NUM_LABELS),
                min_size=rows,
                max_size=rows,
            )
        ),
    )


SURE = [[1e4, -1e4, 1e4, -1e4, 0.0], [-1e4, 1e4, -1e4, 1e4, -1e4]]


@pytest.mark.parametrize(("method", "changes"), CASES, ids=IDS)
@settings(max_examples=15, deadline=None)
@given(problem=problems())
@example(problem=(SURE, [[0] * NUM_LABELS] * 2))
@example(problem=(SURE, [[1] * NUM_LABELS] * 2))
@example(problem=(SURE, [[-1] * NUM_LABELS] * 2))
@example(problem=(SURE[:1], [[1, 1, -1, -1, 0]]))
def test_loss_and_gradient_are_finite(method, changes, problem):
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        logits = torch.tensor(problem[0], dtype=dtype, requires_grad=True)
        output = run(method, logits, torch.tensor(problem[1], dtype=torch.int8), **changes)
        output.loss.backward()
        assert output.loss.dtype == torch.float32 and output.loss.isfinite(), dtype
        assert logits.grad.isfinite().all(), dtype


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(NUM_IMAGES, NUM_LABELS, generator=torch.Generator().manual_seed(3)).mul(2).requires_grad_()


LABELS = torch.tensor([[1, -1, 0, 0, 1], [0, -1, -1, 1, 0], [0, 0, 0, 1, 0], [1, -1, -1, -1, 1]], dtype=torch.int8)

IGNORING = {
    "an": {"unknown_weight": 0.0},
    "asl": {"unknown": "ignore"},
    "curriculum": {"relabel_after": (20,)},  # nothing is completed yet
    "focal": {},
    "p_asl": {"unknown": "ignore"},
    "partial_bce": {},
    "soft_exposure": {"variant": "NE"},
    "spa": {},
}


@pytest.mark.parametrize("method", IGNORING)
def test_ignored_labels_have_no_gradient(method, logits):
    run(method, logits, LABELS, **IGNORING[method]).loss.backward()
    assert torch.equal(logits.grad.ne(0), LABELS.ne(0))


@pytest.mark.parametrize(("method", "changes"), REPEATABLE)
def test_the_order_of_the_images_makes_no_difference(method, changes, logits):
    order = torch.tensor([2, 0, 3, 1])
    expected = run(method, logits, LABELS, **changes).loss
    model, objective = prepared(method, **changes)
    actual = step(model, copy.deepcopy(objective), logits[order], LABELS[order], order).loss
    gradients = torch.autograd.grad(expected, logits)[0], torch.autograd.grad(actual, logits)[0]
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(("method", "changes"), REPEATABLE)
def test_the_order_of_the_labels_makes_no_difference(method, changes, logits):
    order = torch.tensor([2, 0, 4, 3, 1])
    expected = run(method, logits, LABELS, **changes).loss
    model, objective = prepared(method, **changes)
    objective = copy.deepcopy(objective)
    for buffer in objective.buffers():  # what is remembered of labels changes places with them
        for dim in range(buffer.ndim):
            if buffer.shape[dim] == NUM_LABELS:
                buffer.copy_(buffer.index_select(dim, order))
    actual = step(model, objective, logits[:, order], LABELS[:, order], torch.arange(NUM_IMAGES)).loss
    gradients = torch.autograd.grad(expected, logits)[0], torch.autograd.grad(actual, logits)[0]
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(*gradients)


MEANS_OVER_IMAGES = ("an", "asl", "hill", "lsan", "partial_bce", "splc", "wan")


@pytest.mark.parametrize("method", MEANS_OVER_IMAGES)
def test_loss_is_a_mean_over_images(method, logits):
    alone = [run(method, logits[i : i + 1], LABELS[i : i + 1]).loss for i in range(NUM_IMAGES)]
    torch.testing.assert_close(run(method, logits, LABELS).loss, torch.stack(alone).mean())


FORGETTING = [("large_loss", {"scheme": "LL-R"})]  # though others of these objectives complete labels


@pytest.mark.parametrize(("method", "changes"), CASES, ids=IDS)
def test_completed_labels_are_the_known_ones_and_what_is_remembered(method, changes, logits):
    model, objective = prepared(method, **changes)
    objective, labels = copy.deepcopy(objective), tiny_images(NUM_LABELS).labels
    step(model, objective, logits, labels[:NUM_IMAGES], torch.arange(NUM_IMAGES))
    completed = objective.completed_labels(labels)
    completes = type(objective).completed_labels is not Objective.completed_labels
    assert (completed is not None) == (completes and (method, changes) not in FORGETTING)
    if completed is not None:
        known = labels != 0
        assert completed.labels.dtype == torch.int8 and {*completed.labels.unique().tolist()} <= {-1, 0, 1}
        assert torch.equal(completed.labels[known], labels[known])
        if completed.confidence is not None:
            assert completed.confidence[known].eq(1).all()
            assert completed.confidence.min() >= 0.5 and completed.confidence.max() <= 1


def epoch_settings(config, where="") -> set[str]:
    """Settings of a config that are numbers of epochs, nested ones, too."""
    fields = {f"{where}{field.name}": getattr(config, field.name) for field in dataclasses.fields(config)}
    nested = (epoch_settings(value, f"{name}.") for name, value in fields.items() if dataclasses.is_dataclass(value))
    return {name for name in fields if name.endswith(("_epoch", "_epochs", "_after"))}.union(*nested)


@pytest.mark.parametrize("method", METHODS)
def test_what_would_never_begin_is_known_of_every_method(method):
    """Or it is an error, where an objective depends on the number of epochs."""
    config = from_mapping(load(METHODS[method].objective).config_class, OBJECTIVES.get(method, {}), "objective")
    warned = {sentence.split("`")[1].removeprefix("objective.") for sentence in what_never_begins(config, 0)}
    if not getattr(config, "needs_num_epochs", False):
        assert epoch_settings(config) <= warned
