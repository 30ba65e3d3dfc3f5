import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import write_recipe

from hf_mlrpl.cli import picture_logs
from hf_mlrpl.cli.main import main
from hf_mlrpl.cli.picture import KINDS

LOG = [
    {"epoch": 1.0, "loss": 2.0, "pseudo_labels_cross": 4.0, "pseudo_precision_cross": 50.0},
    {"epoch": 1.0, "eval_map": 30.0},
    {"epoch": 2.0, "loss": 1.0, "pseudo_labels_cross": 8.0, "pseudo_precision_cross": 75.0},
]


@pytest.fixture(scope="module")
def run_of_sst(tmp_path_factory) -> Path:
    """A finished run, in which the bank remembers images."""
    folder = tmp_path_factory.mktemp("picture")
    recipe = write_recipe(folder)
    assert main(["train", recipe, "--output", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def logged(tmp_path) -> Path:
    """A folder that has no more of a run than its recipe and its log."""
    folder = tmp_path / "a_run"
    folder.mkdir()
    Path(write_recipe(folder)).rename(folder / "recipe.yaml")
    (folder / "log.json").write_text(json.dumps(LOG))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, of",
    [
        ("cooccurrence", "3"),
        ("similarities", "3"),
        ("label-graph", None),
        ("average-precision", None),
        ("curves", None),
    ],
)
def test_pictures_of_a_run(run_of_sst, kind, of, tmp_path, capsys):
    out = tmp_path / f"{kind}.png"
    assert main(["picture", kind, str(run_of_sst), *filter(None, [of]), "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    with Image.open(out) as picture:
        assert min(picture.size) > 300


@pytest.mark.slow
def test_the_bank_knows_the_images_that_its_vectors_come_from(run_of_sst, tmp_path):
    from safetensors.torch import load_file

    from hf_mlrpl.recipe.document import Recipe

    newest = max(run_of_sst.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    memory = load_file(newest / "objective.safetensors")
    known = Recipe.load(run_of_sst / "recipe.yaml").data.load().known_labels
    for label, (rows, count) in enumerate(zip(memory["bank_rows"][:, :-1], memory["num_remembered"], strict=True)):
        kept = rows[rows >= 0].tolist()
        assert len(kept) == min(int(count), len(rows)) and all(known[row, label] == 1 for row in kept)
    photo = next(run_of_sst.glob("examples/*.png"))
    for kind in ("cooccurrence", "similarities"):
        command = ["picture", kind, str(run_of_sst), str(photo), "--known", "1, 2", "--labels", "3,4"]
        assert main([*command, "--out", str(tmp_path / "own.svg")]) == 0


def test_curves_and_precision_come_from_the_log(logged, tmp_path):
    for kind in ("curves", "precision"):
        assert main(["picture", kind, str(logged)]) == 0
        assert (logged / f"{kind}.png").is_file()
    (figure,) = [picture_logs._points(LOG, "pseudo_precision_cross")]
    assert figure == [(1.0, 50.0), (2.0, 75.0)]
    (logged / "log.json").rename(logged / "other.json")
    (logged / "checkpoint-2").mkdir()
    (logged / "checkpoint-2" / "trainer_state.json").write_text(json.dumps({"log_history": LOG}))
    assert picture_logs.log_of(logged) == LOG


def test_temperatures_over_distances(tmp_path):
    Path(write_recipe(tmp_path, "soft_exposure")).rename(tmp_path / "recipe.yaml")
    assert main(["picture", "temperatures", str(tmp_path), "--out", str(tmp_path / "t.pdf")]) == 0
    assert (tmp_path / "t.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["curves", "{run}", "--numbers", "los"], "None of the runs has logged 'los'. Did you mean 'loss'?"),
        (["curves", "nowhere"], "nowhere is no folder of a run"),
        (["curves", "{run}", "--out", "a.jpg"], "`--out` must end in .png, .pdf, .svg, got a.jpg"),
        (["temperatures", "{run}"], "is of sst, which has no picture 'temperatures'"),
        (["cooccurrence", "{run}"], "takes one run and a photo, got"),
        (["label-graph", "{run}", "{run}"], "takes one run, got"),
        (["average-precision", "{run}"], "has no average precisions"),
        (["similarities", "{run}", "3", "--top", "0"], "`--top` must be at least 1, got 0"),
    ],
)
def test_mistakes(logged, arguments, message, capsys):
    assert main(["picture", *(argument.format(run=logged) for argument in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_figures_of_papers_are_in_the_list(capsys):
    assert main(["list", "papers"]) == 0
    text = capsys.readouterr().out
    assert all(f"hf-mlrpl picture {name} " in text for name, kind in KINDS.items() if kind.figures)


def test_an_old_memory_does_not_know_its_images():
    from hf_mlrpl import SstConfig, SstObjective
    from hf_mlrpl.methods.sst.objective_sst import SstObjectiveConfig

    config = SstConfig(num_labels=3, representation_dim=4)
    objective = SstObjective(SstObjectiveConfig(bank_size=2), config)
    state = {name: tensor for name, tensor in objective.state_dict().items() if name != "bank_rows"}
    objective.load_state_dict(state)
    objective.remember(torch.randn(2, 3, 4), torch.tensor([[1, 0, 0], [1, -1, 1]]), torch.tensor([7, 9]))
    assert sorted(objective.bank_rows[0, :-1].tolist()) == [7, 9]
    assert objective.bank_rows[1, :-1].eq(-1).all() and 9 in objective.bank_rows[2, :-1]
    assert math.isfinite(objective.bank_sums.sum())
