"""The moving average of the weights."""

import pytest
import torch
from golden_files import golden
from torch import nn

from hf_mlrpl.recipe.document import Recipe
from hf_mlrpl.trainer.ema import WeightEma


def net() -> nn.Module:
    """That of the golden file."""
    start = golden("scpnet_misc").case("ema")["w.init.fc.weight"]
    return nn.ModuleDict({"fc": nn.Linear(start.shape[1], len(start)), "bn": nn.BatchNorm1d(len(start))})


@pytest.mark.golden
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_entry_of_the_state_matches_published_code(dtype):
    """The published numbers are of float32; counters are whole."""
    tensors, model = golden("scpnet_misc").case("ema"), net().to(dtype)

    def state(prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

    model.load_state_dict(state("w.init."))
    ema, compared = WeightEma(model, golden("scpnet_misc").hparams["ema_decay"]), set()
    for step in range(len(state("out.step")) // len(model.state_dict())):
        model.load_state_dict(state(f"in.step{step}."))
        ema.update(model)
        for name, average in ema.state_dict().items():
            golden("scpnet_misc").check(f"ema/out.step{step}.{name}", average)
            compared.add(f"ema/out.step{step}.{name}")
    assert compared == golden("scpnet_misc").outputs("ema")


@pytest.mark.golden
@pytest.mark.parametrize("data", ["coco", "voc", "nuswide", "cub"])
def test_decays_of_the_recipes_match_published_code(data):
    """0.82 per epoch, by the batches that an epoch of the data has."""
    name = {"coco": "coco2014", "voc": "voc2012", "nuswide": "nus_wide", "cub": "cub"}[data]
    coefficient = f"{data}_ratio1" + ("_bs96" if data == "cub" else "")
    expected = golden("scpnet_misc").hparams["ema_coefficients"][coefficient]
    recipe = Recipe.load(f"scpnet/{name}_single_positive")
    assert recipe.training.settings["ema_decay"] == pytest.approx(expected, abs=5e-6)


def test_integers_that_do_not_change_stay_as_they_are():
    """In float32, 0.9 x + 0.1 x is a little less than x for many whole numbers x, which would be cut off."""
    model = nn.Linear(1, 1)
    numbers = torch.arange(50000)
    model.register_buffer("token_ids", numbers.clone())
    model.register_buffer("length", numbers[3].clone())
    ema = WeightEma(model, 0.9)
    for _ in range(20):
        ema.update(model)
    assert torch.equal(ema.state_dict()["token_ids"], numbers) and ema.state_dict()["length"] == 3
