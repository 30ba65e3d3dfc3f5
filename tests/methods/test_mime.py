import pytest
import torch
from golden_files import cases, golden, sub_cases
from golden_models import check_case, leaf
from test_asl import DTYPES
from tiny import MODELS, GivenLogits, make_trainer, tiny_images, tiny_model, tiny_recipe

from hf_mlrpl import MimeForMultiLabelClassification, MimeObjective, MimeObjectiveConfig, Progress

NAME = "losses_mime"


def at(epoch: float) -> Progress:
    return Progress(step=0, max_steps=100, epoch=epoch)


def make(num_labels: int = 5, num_images: int = 20, **settings) -> MimeObjective:
    objective = MimeObjective(MimeObjectiveConfig(**settings), GivenLogits(num_labels).config)
    objective.prepare(tiny_images(num_labels, num_images))
    return objective


class GivenLatents(GivenLogits):
    """A model with given distributions, whose logits are its pixels, whatever is drawn."""

    def __init__(self, mean: torch.Tensor, std: torch.Tensor):
        super().__init__(mean.shape[1])
        self.distributions = mean, std

    def latents(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        self.logits = features
        return *self.distributions, None

    def sample(self, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        return self.logits


# ---- the file `losses_mime` ----


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", cases(NAME, "vib/"))
def test_losses_match_published_code(case, dtype):
    file, settings = golden(NAME), golden(NAME).hparams["cases"][case]
    logits, mean, std = (leaf(file.tensors[f"in.{name}"], dtype) for name in ("logits", "mean", "std"))
    labels = file.tensors["in.observed"]
    objective = make(labels.shape[1], len(labels), temperature=settings["T"], divergence_weight=settings["beta"])
    batch = {"pixel_values": logits, "labels": labels, "index": torch.arange(len(labels))}
    output = objective(GivenLatents(mean, std), batch, at(0.0))
    output.loss.backward()
    gradients = {f"grad.in.{name}": leaf.grad for name, leaf in (("logits", logits), ("mean", mean), ("std", std))}
    check_case(file, case, {"loss": output.loss} | gradients)


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_labels_are_completed_as_by_published_code(dtype, monkeypatch):
    file = golden(NAME)
    labels = file.tensors["set/in.observed"]
    objective, images = make(labels.shape[1], len(labels), threshold=file.hparams["theta"]), tiny_images()
    rounds = sum(name.startswith("set/in.set_logits") for name in file.tensors)
    for number in range(1, rounds + 1):
        logits = file.tensors[f"set/in.set_logits_round{number}"].to(dtype)
        rows = torch.arange(len(logits))
        given = [(some, {"pixel_values": logits[some]}) for some in rows.split(7)]
        monkeypatch.setattr(images, "map", lambda look, _, given=given: [(some, look(b)) for some, b in given])
        objective.before_epoch(GivenLogits(labels.shape[1]), images, at(number + 1))
        file.check(f"set/out.observed_round{number}", objective.completed_labels(labels).labels)


@pytest.mark.golden
def test_every_sub_case_of_the_file_is_compared():
    assert {case.partition("/")[0] for case in sub_cases(NAME)} == {"", "vib", "set"}


# ---- what is drawn ----


@pytest.fixture
def model():
    return tiny_model("mime")


def test_inference_sees_the_mean_and_on_request_samples(model):
    pixels = torch.randn(2, 3, 32, 32)
    model.eval()
    mean, std, maps = model.latents(model.encode(pixels))
    assert mean.shape == std.shape == (2, 5, 12) and std.min() > 0
    assert maps.shape[:2] == (2, 5) and torch.allclose(maps.sum(dim=(2, 3)), torch.ones(2, 5))
    assert torch.equal(model.represent(model.encode(pixels))[0], mean)
    model.config.sample_at_inference = True
    first, second = (model(pixels).logits for _ in range(2))
    assert not torch.equal(first, second)


def test_the_mean_of_samples_has_less_noise(model):
    mean, std = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 2.0])
    for count in (1, 10):
        model.config.num_samples = count
        drawn = model.sample(mean.expand(20_000, -1), std.expand(20_000, -1))
        torch.testing.assert_close(drawn.mean(dim=0), mean, rtol=0, atol=0.05)
        torch.testing.assert_close(drawn.std(dim=0), std / count**0.5, rtol=0.03, atol=0)


def test_deviations_are_kept_within_bounds(model):
    features = model.eval().encode(torch.randn(1, 3, 32, 32))
    with torch.no_grad():
        for bias, bound in ((-100.0, -6.0), (100.0, 6.0)):
            model.bottleneck[2].bias[12:] = bias
            std = model.latents(features)[1]
            torch.testing.assert_close(std, torch.full_like(std, bound).exp())


# ---- labels that are completed ----


def found_after(objective: MimeObjective, epoch: float, logits: torch.Tensor) -> torch.Tensor:
    images = tiny_images()
    images.map = lambda look, _: [(torch.arange(len(logits)), look({"pixel_values": logits}))]
    objective.before_epoch(GivenLogits(5), images, at(epoch))
    return objective.found.clone()


def test_labels_are_completed_from_the_warm_up_on_once_an_epoch_and_for_good():
    objective, sure = make(warmup_epochs=2), torch.full((20, 5), 4.0)
    assert not found_after(objective, 1.0, sure).any()
    first = found_after(objective, 2.0, sure.tril())
    assert torch.equal(first, sure.tril() > 0) and objective.rounds_done == 1
    assert torch.equal(found_after(objective, 2.5, sure), first), "the run went on in mid-epoch"
    assert torch.equal(found_after(objective, 3.0, -sure), first) and objective.rounds_done == 2
    assert found_after(objective, 4.0, sure).all()


def test_the_temperature_of_the_loss_does_not_complete_labels():
    logits = torch.full((20, 5), 2.0)  # a score of 0.88
    assert not found_after(make(temperature=0.1), 2.0, logits).any()
    assert found_after(make(temperature=10.0, threshold=0.85), 2.0, logits).all()


def test_labels_that_are_known_are_never_completed():
    objective = make()
    objective.found.fill_(True)
    logits, labels = torch.tensor([[1.0, -1.0, 2.0, 0.5, 0.0]]), torch.tensor([[-1, -1, 1, 0, 0]])
    batch = {"pixel_values": logits, "labels": labels, "index": torch.tensor([3])}
    model = GivenLatents(torch.zeros(1, 5, 2), torch.ones(1, 5, 2))
    output = objective(model, batch, at(0.0))
    targets = torch.tensor([[0.0, 0.0, 1.0, 1.0, 1.0]])
    expected = torch.nn.functional.binary_cross_entropy(logits.sigmoid(), targets)
    torch.testing.assert_close(output.terms["classification"], expected, rtol=0, atol=1e-3)
    assert output.terms["divergence"] == 0, "they are those of the normal distribution"
    assert output.pseudo_labels["found"].tolist() == [[-1, -1, 1, 1, 1]]


def test_its_network_is_trained_by_other_losses(tmp_path):
    settings = {"model": MODELS["mime"] | {"name": "mime"}, "training": {"num_train_epochs": 1, "save_strategy": "no"}}
    trainer = make_trainer(tiny_recipe("splc", **settings), tmp_path)
    trainer.train()
    assert isinstance(trainer.model, MimeForMultiLabelClassification)
