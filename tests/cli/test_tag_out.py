"""`hf-mlrpl tag --out`: files of tags, going on after a kill, several processes."""

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from tiny import tiny_model

from hf_mlrpl.cli.main import main
from hf_mlrpl.data.images.listing import list_photos
from hf_mlrpl.pipelines import bulk_tagging, tag_journal
from hf_mlrpl.pipelines.bulk_batches import OpenedPhotos, Scorer
from hf_mlrpl.pipelines.bulk_tagging import chosen_labels

NUM_PHOTOS = 20


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("baseline")
    model = tiny_model("partial_bce")
    model.config.thresholds = [0.3, 0.4, 0.5, 0.6, 0.45]
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(NUM_PHOTOS):
        where = folder / "more" if i % 3 else folder
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8)).save(
            where / f"{i:02}.{'jpg' if i % 2 else 'png'}"
        )
    return folder


def tag(*arguments):
    return main(["tag", *map(str, arguments), "--workers", "0", "--batch-size", "4"])


def rows(file):
    return pq.read_table(file).to_pylist()


def test_a_file_has_the_tags_that_the_screen_shows(checkpoint, photos, tmp_path, capsys):
    (photos / "more" / "02.jpg").write_bytes(b"no photo")
    assert main(["tag", checkpoint, str(photos), "--json", "--on-bad-image", "skip"]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for suffix in ("parquet", "jsonl", "csv"):
        assert tag(checkpoint, photos, "--out", tmp_path / f"tags.{suffix}") == 0
    output = capsys.readouterr()
    assert "tags.csv: 21 photos, 1 of them could not be read" in output.out
    assert "02.jpg: this is not an image" in output.err

    table, lines = rows(tmp_path / "tags.parquet"), (tmp_path / "tags.jsonl").read_text().splitlines()
    bad = [row for row in table if row["error"]]
    assert [row["file"][-6:] for row in bad] == ["02.jpg"] and bad[0]["tags"] == []
    good = [row for row in map(json.loads, lines) if "error" not in row]
    for other in (good, [row for row in table if not row["error"]]):
        assert [row["file"] for row in other] == [row["file"] for row in shown]
        for ours, theirs in zip(other, shown, strict=True):
            assert [tag["label"] for tag in ours["tags"]] == [tag["label"] for tag in theirs["tags"]]
            scores = [[tag["score"] for tag in row["tags"]] for row in (ours, theirs)]
            assert scores[0] == pytest.approx(scores[1], abs=2e-6)
    with (tmp_path / "tags.csv").open() as file:
        cells = list(csv.DictReader(file))
    assert [(row["file"], row["label"]) for row in cells if row["label"]] == [
        (row["file"], tag["label"]) for row in good for tag in row["tags"]
    ]
    assert sum(bool(row["error"]) for row in cells) == 1
    assert not list(tmp_path.glob(".*")), "nothing is left behind"


@pytest.mark.parametrize("torn", [0, 100], ids=["between batches", "in a batch"])
def test_a_run_goes_on_after_a_kill(checkpoint, photos, tmp_path, monkeypatch, torn):
    whole, resumed = tmp_path / "whole.parquet", tmp_path / "resumed.parquet"
    tag(checkpoint, photos, "--out", whole)
    killed(monkeypatch, 3, checkpoint, photos, "--out", resumed)
    (journal,) = tmp_path.glob(".resumed.parquet.unfinished/tags-*.arrows")
    if torn:
        journal.write_bytes(journal.read_bytes()[:-torn])
    opened = count_opened(monkeypatch)
    assert not resumed.exists()
    assert tag(checkpoint, photos, "--out", resumed) == 0
    assert len(opened) == NUM_PHOTOS - (8 if torn else 12), "what is done is not done again"
    assert rows(resumed) == rows(whole)


def killed(monkeypatch, num_batches, *arguments):
    """A run of which only the first batches got onto the disk, and that leaves its files as they are."""
    write = tag_journal.Journal.write
    written = []

    def write_or_die(self, columns):
        if len(written) == num_batches:
            self._writer = None  # closing it would mark the end of the stream
            raise KeyboardInterrupt
        written.append(columns)
        write(self, columns)

    with monkeypatch.context() as patch:
        patch.setattr(tag_journal.Journal, "write", write_or_die)
        patch.setattr(tag_journal.Journal, "__exit__", lambda self, *_: self._lock.release())
        assert tag(*arguments) == 130


def count_opened(monkeypatch):
    opened, get = [], OpenedPhotos.__getitems__
    monkeypatch.setattr(OpenedPhotos, "__getitems__", lambda self, rows: opened.extend(rows) or get(self, rows))
    return opened


def test_a_run_that_was_killed_at_its_end_is_put_together(checkpoint, photos, tmp_path, monkeypatch):
    out = tmp_path / "tags.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(bulk_tagging, "write_tags", lambda *_: (_ for _ in ()).throw(OSError("No space left")))
        assert tag(checkpoint, photos, "--out", out) == 2
    opened = count_opened(monkeypatch)
    assert tag(checkpoint, photos, "--out", out) == 0
    assert opened == [] and len(rows(out)) == NUM_PHOTOS


def test_processes_share_the_photos_and_the_last_one_writes(checkpoint, photos, tmp_path, monkeypatch):
    whole, shared = tmp_path / "whole.parquet", tmp_path / "shared.parquet"
    tag(checkpoint, photos, "--out", whole)
    monkeypatch.setattr(bulk_tagging, "BLOCK", 3)
    opened = count_opened(monkeypatch)
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in ("2", "0", "1"):
        assert not shared.exists()
        monkeypatch.setenv("RANK", rank)
        assert tag(checkpoint, photos, "--out", shared) == 0
    assert sorted(opened) == list(range(NUM_PHOTOS))
    assert rows(shared) == rows(whole)


def test_a_process_that_comes_late_finds_its_mates_unfinished(checkpoint, photos, tmp_path, monkeypatch):
    """Also where it has no photos of its own, and where an earlier launch had got further."""
    out = tmp_path / "tags.parquet"
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}.items():
        monkeypatch.setenv(name, value)
    for parent, ranks in {1: "1", 2: "01"}.items():
        monkeypatch.setattr("os.getppid", lambda parent=parent: parent)
        for rank in ranks:
            assert not out.exists()
            monkeypatch.setenv("RANK", rank)
            assert tag(checkpoint, photos, "--out", out) == 0
    assert len(rows(out)) == NUM_PHOTOS


def test_other_processes_go_on_with_what_some_have_begun(checkpoint, photos, tmp_path, monkeypatch):
    whole, resumed = tmp_path / "whole.parquet", tmp_path / "resumed.parquet"
    tag(checkpoint, photos, "--out", whole)
    monkeypatch.setattr(bulk_tagging, "BLOCK", 3)
    monkeypatch.setattr(tag_journal, "WINDOW", 7)
    with monkeypatch.context() as patch:
        patch.setenv("WORLD_SIZE", "2")
        patch.setenv("RANK", "1")
        killed(patch, 1, checkpoint, photos, "--out", resumed)
    opened = count_opened(monkeypatch)
    assert tag(checkpoint, photos, "--out", resumed) == 0
    assert len(opened) == NUM_PHOTOS - 4 and rows(resumed) == rows(whole)


@pytest.mark.parametrize(
    "options, words",
    [
        (["--threshold", "0.2"], "other threshold"),
        (["--top-k", "1"], "other top_k"),
        (["--dtype", "bfloat16"], "other dtype"),
        (["photo"], "other photos"),
    ],
)
def test_an_unfinished_run_with_other_settings_is_not_gone_on_with(
    checkpoint, photos, tmp_path, monkeypatch, capsys, options, words
):
    out = tmp_path / "tags.parquet"
    killed(monkeypatch, 1, checkpoint, photos, "--out", out)
    if options == ["photo"]:
        options = [photos / "00.png"]
    assert tag(checkpoint, photos, "--out", out, *options) == 2
    assert f"{words}. Give the same ones to go on with it, or --overwrite" in capsys.readouterr().err
    assert tag(checkpoint, photos, "--out", out, *options, "--overwrite") == 0


@pytest.mark.parametrize("kind", ["a folder", "photos in Parquet"])
def test_an_unfinished_run_with_other_content_is_not_gone_on_with(
    checkpoint, photos, tmp_path, monkeypatch, capsys, kind
):
    """Under the same names and in the same number."""
    out = tmp_path / "tags.parquet"
    source = photos if kind == "a folder" else stored(photos, kind, tmp_path)
    killed(monkeypatch, 1, checkpoint, source, "--out", out)
    Image.new("RGB", (40, 30)).save(photos / "00.png")
    if kind == "photos in Parquet":
        stored(photos, kind, tmp_path)
    assert tag(checkpoint, source, "--out", out) == 2
    assert "a run with other photos" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, message",
    [
        (["--out", "tags.txt"], "written as .parquet, .jsonl, .csv"),
        (["--out", "tags.csv", "--json"], "give one of them"),
        (["--out", "tags.csv", "--pictures", "there"], "give one of them"),
        (["--overwrite"], "is for `--out FILE`"),
        (["--workers", "2"], "is for `--out FILE`"),
        (["--split", "train"], "`--split` is for data sets"),
        (["--out", "tags.csv", "--image-column", "a"], "`--image-column` is for data sets"),
        (["--out", "tags.csv", "--threshold", "50"], "Fifty percent is 0.5"),
        (["--out", "tags.csv", "--top-k", "0"], "`top_k` must be"),
        (["--out", "tags.csv", "--workers", "-1"], "`--workers` must be at least 0"),
    ],
)
def test_wrong_options_are_explained(checkpoint, photos, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(["tag", checkpoint, str(photos), *options]) == 2
    assert message in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"photos"}


def test_a_file_is_not_replaced_unless_asked_for(checkpoint, photos, tmp_path, capsys):
    out = tmp_path / "deep" / "tags.csv"
    assert tag(checkpoint, photos, "--out", out) == 0
    before = out.read_text()
    assert tag(checkpoint, photos / "00.png", "--out", out) == 2
    assert "--overwrite to replace it" in capsys.readouterr().err and out.read_text() == before
    assert tag(checkpoint, photos / "00.png", "--out", out, "--overwrite") == 0
    assert len(out.read_text()) < len(before)


def test_a_run_that_fails_replaces_nothing_and_can_be_gone_on_with(checkpoint, photos, tmp_path, capsys):
    out = tmp_path / "tags.jsonl"
    out.write_text("before")
    (photos / "00.png").write_bytes(b"")
    assert tag(checkpoint, photos, "--out", out, "--overwrite", "--on-bad-image", "error") == 2
    assert out.read_text() == "before"
    assert tag(checkpoint, photos, "--out", out) == 0
    assert "the file is empty" in out.read_text()


def test_a_bad_photo_stops_where_that_is_asked_for(checkpoint, photos, tmp_path, capsys):
    (photos / "00.png").write_bytes(b"")
    assert tag(checkpoint, photos, "--out", tmp_path / "tags.csv", "--on-bad-image", "error") == 2
    assert "00.png: the file is empty" in capsys.readouterr().err
    assert tag(checkpoint, photos / "00.png", "--out", tmp_path / "bad.csv") == 2
    assert "None of the 1 photos can be read" in capsys.readouterr().err
    assert "the file is empty" in (tmp_path / "bad.csv").read_text()


def test_scores_that_are_no_numbers_are_an_error(checkpoint, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Scorer, "_scores", lambda self, pixels: torch.full((len(pixels), 5), torch.nan))
    assert tag(checkpoint, photos, "--out", tmp_path / "tags.csv") == 2
    assert "scores that are no numbers" in capsys.readouterr().err


def stored(photos, kind, folder):
    files = [str(path) for path in sorted(photos.rglob("*.*g"))]
    if kind == "paths in Parquet":
        Dataset.from_dict({"image": [file.removeprefix(f"{folder}/") for file in files]}).to_parquet(
            folder / "d.parquet"
        )
        return folder / "d.parquet"
    dataset = Dataset.from_dict({"image": files}, Features({"image": ImageFeature()})).map(lambda row: row)
    dataset = dataset.add_column("image_id", [f"id {i}" for i in range(len(files))], feature=Value("string"))
    if kind == "photos in Parquet":
        dataset.to_parquet(folder / "d.parquet")
        return folder / "d.parquet"
    dataset = DatasetDict(train=dataset) if kind == "one split" else DatasetDict(train=dataset, test=dataset)
    dataset.save_to_disk(folder / "saved")
    return folder / "saved"


@pytest.mark.parametrize("kind", ["photos in Parquet", "paths in Parquet", "one split", "two splits"])
def test_data_sets_are_tagged(checkpoint, photos, tmp_path, capsys, kind):
    source = stored(photos, kind, tmp_path)
    out, plain = tmp_path / "tags.parquet", tmp_path / "plain.parquet"
    split = ["--split", "test"] if kind == "two splits" else []
    if split:
        assert tag(checkpoint, source, "--out", out) == 2
        assert "has the splits train, test: choose one, with `--split train`" in capsys.readouterr().err
    assert tag(checkpoint, source, "--out", out, *split) == 0
    assert tag(checkpoint, *sorted(photos.rglob("*.*g")), "--out", plain) == 0
    assert [row["tags"] for row in rows(out)] == [row["tags"] for row in rows(plain)]
    names = [row["file"] for row in rows(out)]
    assert names[:2] == ([row["file"] for row in rows(plain)][:2] if kind == "paths in Parquet" else ["id 0", "id 1"])


def test_a_data_set_of_the_hub_is_tagged(checkpoint, photos, tmp_path, monkeypatch):
    asked = []
    dataset = Dataset.from_dict({"image": [str(photos / "00.png")]}, Features({"image": ImageFeature()}))
    monkeypatch.setattr("datasets.get_dataset_split_names", lambda *told, **options: asked.append(options) or ["test"])
    monkeypatch.setattr("datasets.load_dataset", lambda *told, **options: asked.append((told, options)) or dataset)
    assert tag(checkpoint, "user/photos@v1", "--token", "hf_x", "--out", tmp_path / "tags.parquet") == 0
    options = {"revision": "v1", "token": "hf_x"}
    assert asked == [options, (("user/photos",), {"split": "test", **options})]
    assert [row["file"] for row in rows(tmp_path / "tags.parquet")] == [str(photos / "00.png")]


def test_what_is_neither_a_file_nor_a_name_on_the_hub_is_an_error(checkpoint, photos, capsys):
    for source in (photos / "gone.jpg", "gone", "a/b/c"):
        assert main(["tag", checkpoint, str(source)]) == 2
        assert "no file or folder" in capsys.readouterr().err


def test_a_damaged_parquet_file_is_named(checkpoint, tmp_path, capsys):
    (tmp_path / "d.parquet").write_bytes(b"junk")
    assert main(["tag", checkpoint, str(tmp_path / "d.parquet")]) == 2
    assert f"error: {tmp_path / 'd.parquet'} cannot be used" in capsys.readouterr().err


def test_names_that_are_no_text_are_shown(tmp_path):
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").rename(tmp_path / name)
    (photo,) = list_photos([str(tmp_path)])
    assert photo.name.endswith("caf\\xe9.jpg") and photo.source.endswith(name)


@pytest.mark.parametrize("top_k", [None, 1, 2])
def test_labels_are_chosen_as_one_photo_at_a_time(top_k):
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 10, (7, 6)) / 10  # with ties
    thresholds = generator.integers(0, 10, 6) / 10
    expected = []
    for row, of_photo in enumerate(scores):
        order = [label for label in np.argsort(-of_photo, kind="stable") if of_photo[label] >= thresholds[label]]
        expected += [(row, label, of_photo[label]) for label in order[:top_k]]
    assert list(zip(*chosen_labels(scores, thresholds, top_k), strict=True)) == expected
