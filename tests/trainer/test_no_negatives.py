"""Methods that learn from labels known to be absent refuse data without any."""

import pytest
import torch
from test_objectives import CASES, NUM_IMAGES, NUM_LABELS, run
from tiny import OBJECTIVES, make_trainer, tiny_recipe

from hf_mlrpl.registry import METHODS, load
from hf_mlrpl.settings import from_mapping


def config_of(method: str, **changes):
    return from_mapping(
        load(METHODS[method].objective).config_class, OBJECTIVES.get(method, {}) | changes, "objective"
    )


# Whether Soft Exposure lowers a score is said by its temperatures, which come from the data.
PLAIN = [case for case in CASES if case[0] != "soft_exposure"]


@pytest.mark.parametrize(("method", "changes"), PLAIN)
def test_an_objective_that_lowers_no_score_says_that_it_needs_negatives(method, changes):
    labels = torch.tensor([[1, 0, 0, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 0, 1], [1, 1, 0, 0, 0]], dtype=torch.int8)
    lowers = False
    for seed in range(3):
        logits = torch.randn(NUM_IMAGES, NUM_LABELS, generator=torch.Generator().manual_seed(seed)).requires_grad_()
        run(method, logits, labels, **changes).loss.backward()
        lowers |= bool((logits.grad > 1e-8).any())
    assert lowers or getattr(config_of(method, **changes), "needs_negatives", False)


NEED = [
    *[
        (name, {})
        for name in ("sst", "sarb", "ssgrl", "add_gcn", "gcn_ml", "kggr", "ip_mixup", "fm_mixup", "dualcoop")
    ],
    *[(name, {}) for name in ("partial_bce", "curriculum", "spa", "logic_mix", "mixup_pme", "focal")],
    ("asl", {"unknown": "ignore"}),
    ("p_asl", {"unknown": "ignore"}),
    ("p_asl", {"unknown": "ignore_normalized"}),
    ("soft_exposure", {"variant": "NE"}),
    ("soft_exposure", {"variant": "wNE"}),
    ("soft_exposure", {"variant": "SE"}),
    ("soft_exposure", {"variant": "SE-L"}),
    ("an", {"unknown_weight": 0.0}),
    ("em_apl", {"entropy_weight": 0.0, "proportion": 0.0}),
    ("vlpl", {"entropy_weight": 0.0, "negative_fraction": 0.0}),
]


@pytest.mark.parametrize(("method", "changes"), NEED)
def test_it_says_so_in_its_config(method, changes):
    assert config_of(method, **changes).needs_negatives


def positives_only(method: str, **training):
    recipe = tiny_recipe(method, training={"save_strategy": "no"} | training)
    settings = {key: value for key, value in recipe.data.settings.items() if key not in ("proportion", "seed")}
    return type(recipe).from_dict(recipe.to_dict() | {"data": settings | {"protocol": "single_positive"}})


def test_positives_alone_are_refused_with_the_ways_out(tmp_path):
    with pytest.raises(ValueError) as error:
        make_trainer(positives_only("partial_bce"), tmp_path)
    for part in ("data.unlisted=absent", "role", "splc", "`training.allow_no_negatives=true`"):
        assert part in str(error.value)
    make_trainer(positives_only("partial_bce", allow_no_negatives=True), tmp_path)
    make_trainer(positives_only("splc"), tmp_path)
    make_trainer(tiny_recipe("partial_bce"), tmp_path)
