"""The page with the evidence says what the results of the sweeps say."""

import evidence
import pytest

from hf_mlrpl.cli.sweep_file import find_sweep, read_sweep


@pytest.mark.parametrize(("path", "at_least"), [(evidence.PAGE, 6), (evidence.README, 1)])
def test_tables_are_those_of_the_results(path, at_least):
    page = path.read_text(encoding="utf-8")
    assert len(evidence.BLOCK.findall(page)) >= at_least
    assert evidence.with_tables(page) == page, "run `python training/evidence.py`"


def test_another_number_would_be_seen():
    page = evidence.PAGE.read_text(encoding="utf-8")
    assert "97.0 mAP" in page and "66.7 ± 3.1" in page
    assert evidence.with_tables(page.replace("66.7 ± 3.1", "66.8 ± 3.1")) == page


@pytest.mark.parametrize("name", ["voc_photos_rate", "voc_photos_decay", "voc_photos_graph", "digit_scenes_dim"])
def test_settings_are_chosen_by_held_out_training_images(name):
    sweep = read_sweep(find_sweep(name))
    assert sweep.metrics[0] == "validation_map"
    assert all("data.validation=0.2" in run.settings for run in sweep.runs)
