"""What CLIP says of the training images, for VLPL and GPR: asked once, with its own pixels, and remembered."""

import pytest
import torch
from huggingface_hub import constants
from tiny import CLIP, OBJECTIVES, GivenLogits, make_trainer, memory, tiny_images, tiny_model, tiny_recipe
from torchvision.transforms.v2 import functional as F

from hf_mlrpl import ClipTowers, GprObjective, Progress, VlplObjective
from hf_mlrpl.data.images.views import normalized
from hf_mlrpl.methods import clip_labels
from hf_mlrpl.methods.clip_labels import zero_shot_clip
from hf_mlrpl.methods.gpr import damp_pseudo_labels
from hf_mlrpl.methods.vlpl import clip_pseudo_labels
from hf_mlrpl.settings import from_mapping

START = Progress(step=0, max_steps=10, epoch=0.0, num_epochs=2)
NAMES = ["0", "1", "2", "3", "4"]
OBJECTIVE_CLASSES = {"vlpl": VlplObjective, "gpr": GprObjective}
each_method = pytest.mark.parametrize("method", OBJECTIVE_CLASSES)


def make(method: str, images=None, **settings):
    """An objective at the beginning of a run."""
    objective_class = OBJECTIVE_CLASSES[method]
    config = from_mapping(objective_class.config_class, OBJECTIVES[method] | settings, "objective")
    objective = objective_class(config, GivenLogits(len(NAMES)).config)
    objective.prepare(images or tiny_images())
    return objective


@torch.no_grad()
def asked(method: str, images=None, **settings):
    """An objective that asked CLIP, in a trainer that trains some network."""
    images = images or tiny_images()
    objective = make(method, images, **settings)
    objective.before_epoch(torch.nn.Identity(), images, START)
    return objective


@torch.no_grad()
def scores_of(pixels: torch.Tensor, config) -> torch.Tensor:
    """Scores of bytes in the size that CLIP wants, by the towers alone."""
    towers = ClipTowers.from_pretrained(CLIP).eval()
    seen = normalized(pixels, towers.config.image_mean, towers.config.image_std)
    texts = [config.templates[0].format(name) for name in NAMES]
    images, texts = towers.image_features(seen), towers.encode_texts(texts)
    return (torch.cosine_similarity(images[:, None], texts[None], dim=-1) / config.temperature).softmax(dim=1)


def pixels_of(images) -> torch.Tensor:
    return torch.stack([images._dataset[row]["pixel_values"] for row in range(len(images))])


def test_the_whole_image_counts_in_vlpl():
    images = tiny_images()
    objective = asked("vlpl", images)
    config = objective.config
    expected = clip_pseudo_labels(scores_of(pixels_of(images), config), config.threshold, config.negative_fraction)
    assert torch.equal(objective.pseudo_labels, expected) and {*expected.unique().tolist()} == {-1, 0, 1}


def test_its_tiles_count_in_gpr():
    images = tiny_images()
    objective = asked("gpr", images)
    whole, half = pixels_of(images), 16
    tiles = [whole[:, :, y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
    bicubic = F.InterpolationMode.BICUBIC
    views = [whole, *(F.resize(tile, [2 * half, 2 * half], interpolation=bicubic) for tile in tiles)]
    scores = torch.stack([scores_of(view, objective.config) for view in views], dim=1)
    expected = damp_pseudo_labels(scores, images.labels, objective.config)
    assert torch.equal(objective.pseudo_labels, expected) and 0 < expected.sum() < expected.numel()


@each_method
def test_images_that_cannot_be_read_have_no_labels_of_clip(method):
    whole = asked(method).pseudo_labels
    damaged = asked(method, tiny_images(unreadable=[3, 8])).pseudo_labels
    assert not damaged[[3, 8]].any() and whole[[3, 8]].any()
    others = [row for row in range(len(whole)) if row not in (3, 8)]
    assert torch.equal(damaged[others], whole[others])


@each_method
def test_clip_is_asked_once_and_a_resumed_run_does_not_need_it(method, monkeypatch):
    first, images = asked(method), tiny_images()
    resumed = make(method, clip="nowhere/to-be-found")
    resumed.load_state_dict(first.state_dict())
    monkeypatch.setattr(clip_labels, "zero_shot_clip", None)
    for objective in (first, resumed):
        objective.before_epoch(torch.nn.Identity(), images, START)
    batch = {"pixel_values": torch.randn(4, 5), "labels": images.labels[:4], "index": torch.arange(4)}
    losses = [objective(GivenLogits(5), batch, START).loss for objective in (first, resumed)]
    assert torch.equal(*losses)


@each_method
def test_a_single_label_is_refused(method):
    """Its score would be 1 in every image."""
    config = from_mapping(OBJECTIVE_CLASSES[method].config_class, OBJECTIVES[method], "objective")
    with pytest.raises(ValueError, match="a single one, '0', always has the score 1. Have at least two labels"):
        OBJECTIVE_CLASSES[method](config, GivenLogits(1).config)


@each_method
def test_without_having_asked_it_there_is_a_clear_error(method):
    objective = make(method)
    batch = {"pixel_values": torch.randn(2, 5), "labels": torch.zeros(2, 5), "index": torch.arange(2)}
    with pytest.raises(RuntimeError, match="was not prepared, so it has no `pseudo_labels`"):
        objective(GivenLogits(5), batch, START)
    assert objective.completed_labels(tiny_images().labels) is None


@each_method
def test_labels_that_are_known_are_never_completed(method):
    """One that is known to be absent counts as such, whatever CLIP says."""
    objective = make(method)
    objective.is_prepared = True
    objective.made.fill_(True)
    objective.pseudo_labels.fill_(1)
    labels, logits = torch.tensor([[-1, -1, 1, 0, -1]], dtype=torch.int8), torch.randn(1, 5)
    batch = {"pixel_values": logits, "labels": labels, "index": torch.tensor([0])}
    output = objective(GivenLogits(5), batch, START)
    known = labels[0].ne(0)
    expected = -(labels * logits).sigmoid()[0, known].log().sum() / 5
    assert output.terms["known"].item() == pytest.approx(expected.item(), abs=1e-3)
    assert output.terms["undecided"] == 0 and output.terms["completed"] > 0
    assert output.pseudo_labels["clip"].tolist() == [[-1, -1, 1, 1, -1]]
    assert objective.completed_labels(labels.expand(20, -1)).labels[7].tolist() == [-1, -1, 1, 1, -1]


@each_method
def test_a_clip_that_is_sure_of_nothing_is_reported(method, monkeypatch):
    said = []
    monkeypatch.setattr(clip_labels.logger, "warning", said.append)
    unsure = {"temperature": 100.0, "threshold": 0.9} | ({"negative_fraction": 0.0} if method == "vlpl" else {})
    assert asked(method).made and not said
    assert asked(method, **unsure).made and "CLIP is sure of no label" in said[0]


# ---- what stands for CLIP ----


def config_of(**settings):
    return make("vlpl", **settings).config


def test_a_tagger_of_zero_shot_clip_is_asked_as_clip(tmp_path):
    tagger = tiny_model("zero_shot_clip", templates=["the digit {}."])
    tagger.save_pretrained(tmp_path)
    clip = zero_shot_clip(["7", "0"], config_of(clip=str(tmp_path), templates=["the digit {}."], temperature=0.5))
    pixels = torch.randn(2, 3, 32, 32)
    tagger.set_labels(["7", "0"])
    cosines = (tagger.eval()(pixels).logits - tagger.logit_bias) / tagger.logit_scale.exp()
    torch.testing.assert_close(clip.eval()(pixels).logits, 2 * cosines)


def test_its_images_are_cut_or_stretched_as_the_setting_says():
    for resize in ("crop", "stretch"):
        assert zero_shot_clip(NAMES, config_of(clip_resize=resize)).config.resize == resize


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"clip": "nowhere"}, FileNotFoundError, r"`objective.clip`: .*no file or folder nowhere"),
        ({"clip": __file__}, ValueError, r"`objective.clip`: .* is a file. `hf-mlrpl convert clip "),
        ({"templates": ["a photo"]}, ValueError, r"`templates` must have one {} for the name of a label"),
        ({"templates": []}, ValueError, r"`templates` must have at least one text"),
        ({"templates": ["a rather long text of many words about {}"]}, ValueError, r"The text 'a rather .* reads 24"),
    ],
)
def test_what_cannot_be_asked_is_an_error(settings, error, message):
    with pytest.raises(error, match=message):
        asked("vlpl", **settings)


def test_clip_that_cannot_be_fetched_is_an_error_of_the_setting(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match=r"`objective.clip`: The Hub cannot be reached"):
        asked("vlpl", clip="nobody/clip-that-nobody-has")


def test_a_tagger_that_is_no_clip_is_an_error(tmp_path):
    tiny_model("scpnet").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"`objective.clip`: .* is a tagger of the type 'mlrpl-scpnet', and only one"):
        asked("vlpl", clip=str(tmp_path))


# ---- a run ----


@each_method
def test_clip_sees_photos_also_where_their_features_are_stored(method, tmp_path):
    memories = []
    for stored in (True, False):
        training = {"store_features": stored, "num_train_epochs": 1, "eval_strategy": "no", "save_strategy": "no"}
        frozen = {"data": {"view": "flip"}, "model": {"trainable_backbone": []}}
        trainer = make_trainer(tiny_recipe(method, training=training, **frozen), tmp_path / str(stored))
        trainer.train()
        memories.append(memory(trainer))
    assert memories[0] == memories[1]
