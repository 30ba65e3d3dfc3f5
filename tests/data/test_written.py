"""Data that are written can be read again, and say what is in them."""

import datasets
import numpy as np
import pytest
from photos import write_photos
from PIL import Image

from hf_mlrpl.data.columns import label_matrix, label_names, make_dataset
from hf_mlrpl.data.hiding import hide_labels
from hf_mlrpl.data.protocols.rules import RandomKnown
from hf_mlrpl.data.tables.from_dataset import load_from_dataset
from hf_mlrpl.data.tables.table import load_table
from hf_mlrpl.data.written import write_folder, write_table

LABELS = np.array([[1, -1, 0], [0, 0, 1], [-1, -1, -1]], dtype=np.int8)
NAMES = ["dog", "traffic light", "a, b"]


@pytest.fixture
def splits(tmp_path):
    photos = [f"photos/{name}.png" for name in "abc"]
    write_photos(tmp_path, *photos)
    train = make_dataset([str(tmp_path / name) for name in photos[:2]], ["a", "b"], LABELS[:2], NAMES)
    return {"train": train, "test": make_dataset([str(tmp_path / photos[2])], ["c"], LABELS[2:], NAMES)}


def test_a_table_is_read_as_it_was(splits, tmp_path, caplog):
    write_table(splits, tmp_path / "clean.parquet")
    for split, written in splits.items():
        again = load_table(tmp_path / "clean.parquet", split)
        assert label_names(again) == NAMES
        assert np.array_equal(label_matrix(again), label_matrix(written))
        assert again["image_id"][:] == written["image_id"][:]
    assert "not used" not in caplog.text
    stored = datasets.Dataset.from_parquet(str(tmp_path / "clean.parquet"), cache_dir=tmp_path / "cache")
    assert stored["image"][:] == ["photos/a.png", "photos/b.png", "photos/c.png"]


def test_what_a_table_cannot_hold(splits, tmp_path):
    odd = {"train": make_dataset([str(tmp_path / "photos/a.png")], ["a"], LABELS[:1, :2], ["dog", "width"])}
    with pytest.raises(ValueError, match="cannot have columns for the labels width.*data.rename="):
        write_table(odd, tmp_path / "t.parquet")
    pixels = make_dataset([Image.new("RGB", (8, 8))], ["a"], LABELS[:1], NAMES)
    with pytest.raises(ValueError, match="some are in the data set itself. Write a folder"):
        write_table({"train": pixels}, tmp_path / "t.parquet")


def test_a_folder_has_photos_labels_and_a_card(splits, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    full = make_dataset(
        [str(tmp_path / f"photos/{name}.png") for name in "ab"],
        ["a", "b"],
        np.where(LABELS[:2] == 0, 1, LABELS[:2]),
        NAMES,
    )
    hidden = hide_labels(full, RandomKnown(0.5))
    write_folder({"train": hidden, "test": splits["test"]}, tmp_path / "out", "random_known, proportion 0.5, seed 0")
    for name in "abc":
        (tmp_path / f"photos/{name}.png").unlink()
    again = load_from_dataset(tmp_path / "out")
    assert label_names(again) == NAMES and np.array_equal(label_matrix(again), label_matrix(hidden))
    assert "full_labels" not in again.column_names, "what was hidden stays hidden"
    assert [row["image"].size for row in again] == [(8, 6), (9, 6)]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "random_known, proportion 0.5, seed 0" in card and "| traffic light |" in card
    assert f"| train | 2 | {(label_matrix(hidden) == 0).mean():.1%} |" in card
    with pytest.raises(FileExistsError, match="exists and is not empty"):
        write_folder(splits, tmp_path / "out", "nothing")
