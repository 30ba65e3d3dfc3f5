"""Every row of the tables of the papers is a command that parses, and whose model can be built."""

import json
import shlex
from functools import cache
from itertools import groupby

import pytest
import torch

from hf_mlrpl.cli.main import main, parse_arguments
from hf_mlrpl.cli.papers import paper_parts
from hf_mlrpl.cli.sweep_file import Run, Sweep
from hf_mlrpl.cli.sweep_lines import digests_of, line_of
from hf_mlrpl.recipe.document import Recipe

PARTS = {part.name: part for part in paper_parts()}
NUM_LABELS = {
    **{"coco": 80, "voc": 20, "vg200": 200, "nus_wide": 81, "cub": 312},
    **{"coco_panoptic": 163, "openimages": 497},  # with the labels of the hierarchy; of version 5
}


@cache
def parameters(model_class: type, settings: str, num_labels: int) -> int:
    """Number of parameters of a model whose weights take no memory."""
    config = model_class.config_class.for_labels([f"label {i}" for i in range(num_labels)], **json.loads(settings))
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in model_class(config).parameters())


def distinct_runs(sweep: Sweep) -> list[Run]:
    """One seed of each row and column, and of the columns that are averaged the first."""
    keys = [(run.row, run.column_without(sweep.average or None)) for run in sweep.runs]
    pairs = sorted(zip(keys, range(len(keys)), strict=True))
    return [sweep.runs[next(group)[1]] for _, group in groupby(pairs, key=lambda pair: pair[0])]


@pytest.mark.parametrize("name", PARTS)
def test_every_row_has_a_command_and_a_model_for_the_labels_of_its_data(name, tmp_path):
    part = PARTS[name]
    for row in part.sweep.rows():
        arguments = parse_arguments(shlex.split(part.command_of(row))[1:])
        assert arguments.sweep == name and arguments.rows == [row]
    for run in distinct_runs(part.sweep):
        recipe = Recipe.load(run.recipe, run.settings)
        recipe.build_arguments(tmp_path)
        settings = {key: value for key, value in recipe.model.settings.items() if key not in ("name", "pretrained")}
        num_labels = NUM_LABELS[recipe.data.config.name]
        assert parameters(recipe.model.model_class, json.dumps(settings, sort_keys=True), num_labels) > 1e6
        assert recipe.objective.build(recipe.model.config([str(i) for i in range(num_labels)])) is not None


@pytest.mark.parametrize("name", PARTS)
def test_every_table_says_what_it_shows_and_what_it_needs(name):
    sweep = PARTS[name].sweep
    assert sweep.title and sweep.source and sweep.needs


def test_published_averages_are_those_of_their_columns():
    """Averages are printed with one digit; those that differ are known misprints of the papers."""
    differing = set()
    for part in PARTS.values():
        for row in part.sweep.rows():
            numbers = [
                part.sweep.published.get((row, column, part.sweep.metrics[0])) for column in part.sweep.columns()
            ]
            if part.sweep.average and not part.sweep.only_average and None not in numbers:
                average = sum(numbers[:-1]) / len(numbers[:-1])
                differing |= {(part.name, row)} if abs(average - numbers[-1]) > 0.051 else set()
    assert differing == set()


def test_the_list_shows_published_numbers_and_ours(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = next(run for run in PARTS["scpnet_table_7"].sweep.runs if run.column == "graph_layers 3")
    (tmp_path / "runs" / "scpnet_table_7").mkdir(parents=True)
    line = line_of(run, digests_of([run])[run.key], "", 1.0, 1.0, {"test_map": 76.5})
    (tmp_path / "runs" / "scpnet_table_7" / "results.jsonl").write_text(line)
    assert main(["list", "papers"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "hf-mlrpl sweep scpnet_table_7 needs COCO 2014" in text
    assert "published 75.88 76.42 76.22 ours not run 76.5 not run" in text
    assert "COCO 2014, SST published 76.7 ours not run" in text
    assert main(["list", "papers", "--markdown"]) == 0
    assert "| SST | 76.7 | not run |" in capsys.readouterr().out
    assert main(["list", "methods", "--markdown"]) == 2
