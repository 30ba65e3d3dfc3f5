"""Features on disk, label distances and nearest neighbours."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from kill import die
from processes import KILLED, exit_codes, start
from safetensors.torch import load_file, save_file
from tiny import MODELS, batches_of, tiny_images, tiny_model, write_recipe
from torch.testing import assert_close

from hf_mlrpl.cli.main import main
from hf_mlrpl.methods.soft_exposure import image_features, neighbours
from hf_mlrpl.methods.soft_exposure.image_features import ImageFeatures, feature_model
from hf_mlrpl.methods.soft_exposure.neighbours import (
    distances,
    is_approximate,
    label_distances,
    label_representations,
    nearest_images,
    with_distances,
)
from hf_mlrpl.recipe.data_part import DataPart

FILES = 5  # of four images


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, with files of four images."""
    monkeypatch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", tmp_path / "assets")
    monkeypatch.setattr(image_features, "IMAGES_PER_FILE", 4)
    return tmp_path / "assets"


@pytest.fixture
def model():
    return tiny_model("soft_exposure").eval()


@pytest.fixture
def made(model):
    """Features of the 20 tiny images, on disk."""
    features = ImageFeatures(tiny_images(), "model", model)
    features.make()
    return features


# ---- features ----


def test_features_are_those_of_the_network_at_unit_length(model, made):
    batch = batches_of(tiny_images())[0]
    with torch.no_grad():
        pooled = model.encode(batch["pixel_values"]).mean(dim=(2, 3))
    features = made.read()
    assert features.shape == (20, model.backbone.num_features) and features.dtype == torch.float32
    assert_close(features[:8], pooled / pooled.norm(dim=1, keepdim=True))
    assert sorted(file.name for file in made.folder.iterdir()) == [
        *(f"features-{n:05d}-of-00005.safetensors" for n in range(FILES)),
        "made_from.json",
    ]


def test_mixed_precision_makes_no_difference(model, made):
    expected = made.read()
    for number in range(FILES):
        made.file(number).unlink()
    with torch.autocast("cpu", torch.bfloat16):
        made.make()
    assert torch.equal(made.read(), expected)


def test_other_labels_share_the_features_and_other_weights_do_not(model, made):
    assert ImageFeatures(tiny_images(num_labels=3), "model", model).folder == made.folder
    assert ImageFeatures(tiny_images(num_images=19), "model", model).folder != made.folder
    model.backbone.network.get_parameter(_first(model)).data.add_(1)
    assert ImageFeatures(tiny_images(), "model", model).folder != made.folder


def _first(model) -> str:
    return next(name for name, _ in model.backbone.network.named_parameters())


def test_an_interrupted_pass_goes_on_behind_what_is_finished(model, made, monkeypatch):
    expected = made.read()
    for number in (2, 4):
        made.file(number).unlink()
    seen, run = [], type(model.backbone).forward
    monkeypatch.setattr(
        type(model.backbone), "forward", lambda self, pixels: seen.append(len(pixels)) or run(self, pixels)
    )
    again = ImageFeatures(tiny_images(), "model", model)
    again.make()
    assert sum(seen) == 12
    assert_close(again.read(), expected)
    again.make()
    assert sum(seen) == 12, "nothing is missing any more"


def test_features_of_another_network(model, made, tmp_path):
    other = tiny_model("ssgrl", backbone="test_resnet")
    other.backbone.network.get_parameter(_first(other)).data.mul_(3)
    other.save_pretrained(tmp_path / "checkpoint")
    found = feature_model(str(tmp_path / "checkpoint"), model)
    assert not found.training and found.config.backbone == "test_resnet"
    expected = other.backbone.state_dict()
    assert all(value.equal(expected[name]) for name, value in found.backbone.state_dict().items())
    with pytest.raises(ValueError, match="`objective.features_from` must be model, the folder of a checkpoint, or"):
        feature_model("no_such_network", model)
    (tmp_path / "checkpoint" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="`objective.features_from`: .*model.safetensors cannot be read"):
        feature_model(str(tmp_path / "checkpoint"), model)
    (tmp_path / "checkpoint" / "config.json").write_text('{"model_type": "resnet"}')
    with pytest.raises(ValueError, match="`objective.features_from`: .*checkpoint is no checkpoint of this library"):
        feature_model(str(tmp_path / "checkpoint"), model)


UNREADABLE = [0, 4, 5, 6, 7, 19]  # with a whole file, and the last image


def test_an_image_that_cannot_be_read_has_no_features(model, made):
    features = ImageFeatures(tiny_images(unreadable=UNREADABLE), "model", model)
    assert features.folder != made.folder, "other bytes are other images"
    features.make()
    found = features.read()
    assert found.isnan().all(dim=1).nonzero().flatten().tolist() == UNREADABLE
    others = found[:, 0].isfinite()
    assert_close(found[others], made.read()[others])


def test_a_network_that_gives_no_numbers_is_an_error(model):
    model.backbone.network.get_parameter(_first(model)).data.fill_(math.nan)
    with pytest.raises(RuntimeError, match="`objective.features_from` gives infinite or NaN features for some of the"):
        ImageFeatures(tiny_images(), "model", model).make()


def test_a_damaged_file_is_an_error(made):
    made.file(3).write_bytes(made.file(3).read_bytes()[:100])
    with pytest.raises(ValueError, match="features-00003-of-00005.safetensors is damaged .* Delete the folder"):
        made.read()


@pytest.mark.parametrize("change", ["fingerprint", "rows"])
def test_a_file_of_other_images_is_an_error(made, change):
    content = load_file(made.file(3))
    if change == "rows":
        content["features"] = content["features"][:2].clone()
    save_file(content, made.file(3), metadata={"fingerprint": "x" if change == "fingerprint" else made.fingerprint})
    with pytest.raises(ValueError, match="was not made for these images and this network: its fingerprint is"):
        made.read()


def test_a_full_disk_is_an_error_and_leaves_no_half_file(model, monkeypatch):
    write = image_features.save_file

    def save_while_there_is_room(tensors, file, metadata):
        if "00002" in file.name:
            file.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        write(tensors, file, metadata)

    monkeypatch.setattr(image_features, "save_file", save_while_there_is_room)
    features = ImageFeatures(tiny_images(), "model", model)
    with pytest.raises(OSError, match="features-00002-of-00005.* could not be written: .*HF_ASSETS_CACHE"):
        features.make()
    assert len(list(features.folder.glob("features-*"))) == 2
    monkeypatch.setattr(image_features, "save_file", write)
    features.make()
    assert len(features.read()) == 20


# ---- labels ----


def test_a_label_is_the_median_of_its_images():
    features = torch.randn(9, 4)
    labels = torch.zeros(9, 3, dtype=torch.int8)
    labels[[1, 4, 7, 8], 0] = 1
    labels[[2], 1] = 1
    labels[:, 2] = -1
    representations = label_representations(features, labels)
    assert_close(representations[0], torch.from_numpy(np.median(features[[1, 4, 7, 8]].numpy(), axis=0)))
    assert torch.equal(representations[1], features[2])
    assert representations[2].isnan().all()
    for kind in ("cosine", "euclidean"):
        apart = label_distances(features, labels, kind)
        assert (apart[2] == math.inf).all() and (apart[:, 2] == math.inf).all()
        assert_close(apart[:2, :2], apart[:2, :2].T)
        a, b = representations[0], representations[1]
        expected = 1 - a @ b / (a.norm() * b.norm()) if kind == "cosine" else (a - b).norm()
        assert_close(apart[0, 1], expected)


def test_small_distances_keep_their_digits():
    x = torch.nn.functional.normalize(torch.randn(2, 2048), dim=1)
    y = torch.nn.functional.normalize(x + 1e-4 * torch.randn(2, 2048), dim=1)
    apart = (x.double() - y.double()).norm(dim=1).float()
    assert_close(distances(x, y, "euclidean").diag(), apart, rtol=1e-5, atol=0)
    assert_close(distances(x, y, "cosine").diag(), apart**2 / 2, rtol=1e-2, atol=0)
    assert (distances(x, x, "cosine") >= 0).all()


# ---- neighbours ----


def slow_neighbours(features, count):
    """The nearest other images, one by one; of equally near ones those that come first."""
    result = []
    for row in range(len(features)):
        similarities = (features @ features[row]).tolist()
        others = [other for other in range(len(features)) if other != row]
        result.append(sorted(others, key=lambda other: (-similarities[other], other))[:count])
    return torch.tensor(result)


@pytest.mark.parametrize("block", [1, 7, 39, 2**20])
def test_the_exact_search_finds_the_nearest(block, monkeypatch):
    monkeypatch.setattr(neighbours, "COMPARED", block)
    features = torch.nn.functional.normalize(torch.randn(40, 8), dim=1)
    for count in (1, 5, 39):
        found, apart = with_distances(features, nearest_images(features, count, approximate=False), "cosine")
        assert found.dtype == torch.int32
        assert torch.equal(found.long(), slow_neighbours(features, count))
        assert_close(apart[3, 0], 1 - features[3] @ features[found[3, 0]])


@pytest.mark.parametrize("approximate", [False, True])
def test_an_image_without_features_is_nobodys_neighbour_and_has_none(approximate):
    features = torch.nn.functional.normalize(torch.randn(40, 8), dim=1)
    features[[2, 39]] = math.nan
    seen = torch.tensor([row for row in range(40) if row not in (2, 39)])
    found, apart = with_distances(features, nearest_images(features, 9, approximate), "cosine")
    assert not torch.isin(found[seen], torch.tensor([2, 39])).any() and apart[seen].isfinite().all()
    assert approximate or torch.equal(found[seen].long(), seen[slow_neighbours(features[seen], 9)])
    for row in (2, 39):
        assert found[row].eq(row).all() and apart[row].eq(math.inf).all()


def test_where_there_are_fewer_neighbours_the_rest_is_the_image_itself():
    features = torch.full((4, 2), math.nan)
    assert nearest_images(features, 3, approximate=False).tolist() == [[row] * 3 for row in range(4)]
    features[:2] = torch.eye(2)
    assert nearest_images(features, 3, approximate=False).tolist() == [[1, 0, 0], [0, 1, 1], [2, 2, 2], [3, 3, 3]]


@pytest.mark.parametrize("block", [1, 3, 7, 2**20])
def test_of_equally_near_images_the_first_ones_are_neighbours(block, monkeypatch):
    monkeypatch.setattr(neighbours, "COMPARED", block)
    features = torch.eye(4).repeat_interleave(5, dim=0)  # products are exact: 0 or 1
    for count in (2, 4, 7, 19):
        found, _ = with_distances(features, nearest_images(features, count, approximate=False), "euclidean")
        assert torch.equal(found.long(), slow_neighbours(features, count))


def test_the_approximate_search_finds_nearly_all(monkeypatch):
    torch.manual_seed(0)
    centers = torch.randn(20, 16).repeat_interleave(40, dim=0)
    features = torch.nn.functional.normalize(centers + 0.3 * torch.randn(800, 16), dim=1)
    found = nearest_images(features, 10, approximate=True).long()
    exact = nearest_images(features, 10, approximate=False).long()
    assert (found != torch.arange(800).unsqueeze(1)).all()
    assert (found.unsqueeze(2) == exact.unsqueeze(1)).any(dim=2).float().mean() > 0.95


def test_the_share_of_neighbours_that_were_found_is_said(monkeypatch):
    features = torch.nn.functional.normalize(torch.randn(60, 8), dim=1)
    exact = nearest_images(features, 6, approximate=False).long()
    assert neighbours.recall(features, exact) == 1
    exact[:, :3] = torch.arange(60).unsqueeze(1)  # what was not found
    assert neighbours.recall(features, exact) == 0.5
    said = []
    monkeypatch.setattr(neighbours.logger, "warning", said.append)
    monkeypatch.setattr(neighbours, "recall", lambda features, found: 0.625)
    nearest_images(features, 6, approximate=True)
    assert "found 62.5% of the 6 nearest images, as 60 images tell" in said[0]


def test_what_an_approximate_search_does_not_find_is_the_image_itself(monkeypatch):
    monkeypatch.setattr(neighbours, "PROBED_LISTS", 1)
    features = torch.nn.functional.normalize(torch.randn(30, 4), dim=1)
    found = nearest_images(features, 10, approximate=True).long()
    own = found == torch.arange(30).unsqueeze(1)
    assert own.any() and ((found >= 0) & (found < 30)).all()


def test_the_approximate_search_without_faiss_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r'pip install "hf-mlrpl\[neighbours\]".*objective.search=exact'):
        nearest_images(torch.randn(9, 2), 2, approximate=True)


def test_that_faiss_is_missing_is_said_before_a_pass_over_the_images(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(image_features.TrainingImages, "map", None)
    assert main(["neighbours", write_recipe(tmp_path, "soft_exposure", objective={"search": "approximate"})]) == 2
    assert "This needs the package faiss" in capsys.readouterr().err


@pytest.mark.parametrize("has_faiss", [True, False])
def test_large_sets_are_searched_approximately_on_a_cpu(has_faiss, monkeypatch):
    if not has_faiss:
        monkeypatch.setitem(sys.modules, "faiss", None)
    most = neighbours.EXACT_WITH_FAISS if has_faiss else neighbours.EXACT_ON_CPU
    assert not is_approximate("auto", most) and is_approximate("auto", most + 1)
    assert is_approximate("approximate", 10) and not is_approximate("exact", 10**9)


# ---- the command ----


def test_the_command_prepares_what_training_reads(tmp_path, capsys, monkeypatch, cache):
    recipe = write_recipe(tmp_path, "soft_exposure")
    assert main(["neighbours", recipe]) == 0
    assert "48 images" in capsys.readouterr().out
    (folder,) = (cache / "hf-mlrpl" / "features").iterdir()
    assert len(list(folder.glob("features-*"))) == 12 and (folder / "neighbours-exact-10.safetensors").is_file()
    monkeypatch.setattr(image_features.TrainingImages, "map", None)
    settings = ["training.max_steps=1", "--no-pictures"]
    assert main(["train", recipe, "--output", str(tmp_path / "run"), *settings]) == 0


def test_the_command_makes_priors_from_training_images(tmp_path, capsys):
    """As those of a network that learns from images how alike labels are."""
    tiny_model("ssgrl").save_pretrained(tmp_path / "checkpoint")
    settings = {"objective": {"features_from": str(tmp_path / "checkpoint")}, "data": {"proportion": 1.0}}
    recipe = write_recipe(tmp_path, "soft_exposure", **settings)
    content = yaml.safe_load(Path(recipe).read_text())
    content["model"] = MODELS["scpnet"] | {"name": "scpnet", "prior": "images"}
    Path(recipe).write_text(yaml.safe_dump(content))
    assert main(["neighbours", recipe]) == 0
    assert "48 images" in capsys.readouterr().out


def test_a_method_without_neighbours_is_an_error_before_data_are_read(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(DataPart, "load", None)
    assert main(["neighbours", write_recipe(tmp_path, "partial_bce")]) == 2
    assert "needs no neighbours: its objective does not look at them" in capsys.readouterr().err
    assert main(["neighbours", write_recipe(tmp_path, "soft_exposure", objective={"variant": "FE"})]) == 2


def neighbours_until_killed(arguments: list[str]) -> int:
    """The command in files of 8 images, up to the end of the third file."""
    image_features.IMAGES_PER_FILE = 8
    write = image_features.save_file

    def write_or_die(tensors, file, metadata):
        write(tensors, file, metadata)
        if "00003" in str(file):
            die()

    image_features.save_file = write_or_die
    return main(arguments)


@pytest.mark.slow
def test_killed_while_a_file_is_written_the_command_goes_on(tmp_path, monkeypatch):
    arguments = ["neighbours", write_recipe(tmp_path, "soft_exposure"), "training.per_device_eval_batch_size=8"]
    monkeypatch.setattr(image_features, "IMAGES_PER_FILE", 8)

    def run(assets: str) -> int:
        monkeypatch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", tmp_path / assets)
        return main(arguments)

    assert run("unbroken") == 0
    assert exit_codes(start(neighbours_until_killed, arguments, assets=tmp_path / "killed")) == [KILLED]
    (unbroken,) = (tmp_path / "unbroken/hf-mlrpl/features").iterdir()
    killed = tmp_path / "killed/hf-mlrpl/features" / unbroken.name
    finished = {file.name: file.stat().st_mtime_ns for file in killed.glob("features-*.safetensors")}
    assert len(finished) == 3
    assert run("killed") == 0
    for file in unbroken.glob("*.safetensors"):
        assert (killed / file.name).read_bytes() == file.read_bytes()
    assert {name: (killed / name).stat().st_mtime_ns for name in finished} == finished
