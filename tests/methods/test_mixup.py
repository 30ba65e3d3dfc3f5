import pytest
import torch
from tiny import make_trainer, tiny_model, tiny_recipe, weights

from hf_mlrpl import FmMixupObjective, IpMixupObjective, Progress
from hf_mlrpl.methods.mixup import MixupObjectiveConfig, mixed_labels, with_mixtures

START = Progress(step=0, max_steps=10, epoch=0.0)
OBJECTIVES = [IpMixupObjective, FmMixupObjective]


def make_batch(batch_size: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(-1, 2, (batch_size, 5), generator=generator, dtype=torch.int8)
    return {"pixel_values": torch.randn(batch_size, 3, 32, 32, generator=generator), "labels": labels}


# ---- mixtures and their labels ----


def test_each_image_is_mixed_with_the_one_at_the_other_end():
    batch = torch.tensor([[1.0], [2.0], [10.0], [20.0]])
    expected = torch.tensor([[1.0], [2.0], [10.0], [20.0], [5.75], [4.0], [8.0], [15.25]])
    assert torch.equal(with_mixtures(batch, 0.75), expected)


def test_the_middle_of_an_odd_batch_is_its_own_partner():
    batch = torch.tensor([[1.0], [2.0], [7.0]])
    assert with_mixtures(batch, 0.5)[3:].tolist() == [[4.0], [2.0], [4.0]]
    assert mixed_labels(torch.tensor([[0], [0], [1]]), 0.5).tolist() == [[0.5], [0.0], [1.0]]
    assert mixed_labels(torch.tensor([[0], [1], [0]]), 0.5).tolist() == [[0.0], [1.0], [0.0]]


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float32])
def test_only_unknown_labels_that_the_partner_shows_change(dtype):
    own = torch.tensor([-1, -1, -1, 0, 0, 0, 1, 1, 1], dtype=dtype)
    partner = torch.tensor([-1, 0, 1, -1, 0, 1, -1, 0, 1], dtype=dtype)
    mixed = mixed_labels(torch.stack([own, partner]), 0.75)
    assert mixed[0].tolist() == [-1, -1, -1, 0, 0, 0.25, 1, 1, 1]
    assert mixed[1].tolist() == [-1, 0, 1, -1, 0, 1, -1, 0.25, 1]


def test_an_image_that_keeps_all_of_itself_learns_nothing_new():
    labels = torch.tensor([[0, 1], [1, 0]])
    assert torch.equal(mixed_labels(labels, 1.0), labels.float())


# ---- the loss ----


def slow_bce(logits, labels):
    """Mean over the known entries, one by one; `1 - share` is a soft target."""
    losses = []
    for row, targets in zip(logits, labels.tolist(), strict=True):
        for logit, target in zip(row, targets, strict=True):
            if target != 0:
                p = torch.sigmoid(logit)
                target = max(target, 0.0)
                losses.append(-target * torch.log(p) - (1 - target) * torch.log(1 - p))
    return torch.stack(losses).mean()


def slow_labels(labels, share):
    mixed = labels.double()
    for b in range(len(labels)):
        for c in range(labels.shape[1]):
            if labels[b, c] == 0 and labels[len(labels) - 1 - b, c] == 1:
                mixed[b, c] = 1 - share
    return mixed


@pytest.mark.parametrize("batch_size", [4, 5, 1])
@pytest.mark.parametrize("objective_class", OBJECTIVES)
def test_equals_a_transcription(objective_class, batch_size):
    """In evaluation mode, where images do not see each other through batch norm."""
    model, batch, share = tiny_model("ssgrl").double().eval(), make_batch(batch_size), 0.7
    batch["labels"][0, 0] = 1
    batch["pixel_values"] = batch["pixel_values"].double()
    output = model(**batch, objective=objective_class(MixupObjectiveConfig(share=share), model.config), progress=START)
    output.loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()

    images, encode = batch["pixel_values"], model.encode
    if objective_class is FmMixupObjective:
        images, encode = model.encode(images), torch.nn.Identity()
    mixtures = torch.stack([share * images[b] + (1 - share) * images[batch_size - 1 - b] for b in range(batch_size)])
    logits, mixed_logits = (model.classify(model.represent(encode(x))[0]) for x in (images, mixtures))
    known, mixed = slow_bce(logits, batch["labels"]), slow_bce(mixed_logits, slow_labels(batch["labels"], share))
    (known + mixed).backward()
    torch.testing.assert_close(output.logits, logits)
    torch.testing.assert_close(output.terms["known"], known.detach())
    torch.testing.assert_close(output.terms["mixed"], mixed.detach(), rtol=1e-6, atol=0)  # targets in float32
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-5, atol=1e-7, msg=name)


def test_mixtures_of_feature_maps_need_one_pass_of_the_backbone():
    model, batch = tiny_model("ssgrl").train(), make_batch()
    seen = []
    model.backbone.register_forward_hook(lambda module, args, output: seen.append(len(output)))
    for objective_class in (FmMixupObjective, IpMixupObjective):
        objective = objective_class(MixupObjectiveConfig(), model.config)
        assert model(**batch, objective=objective, progress=START).logits.shape == (4, 5)
    assert seen == [4, 8], "mixtures of images are images, too"


@pytest.fixture(scope="module")
def loss_of():
    """The loss of one batch, by its settings."""
    model, batch = tiny_model("ssgrl").eval(), make_batch()

    @torch.no_grad()
    def loss(**settings) -> float:
        objective = IpMixupObjective(MixupObjectiveConfig(**settings), model.config)
        return model(**batch, objective=objective, progress=START).loss.item()

    return loss


def test_the_share_is_fixed_and_draws_nothing(loss_of):
    state = torch.get_rng_state()
    assert loss_of() == loss_of(share=0.5) != loss_of(share=0.8)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_drawn_share_follows_the_generator_of_torch(loss_of):
    torch.manual_seed(0)
    drawn = [loss_of(beta=0.4) for _ in range(3)]
    assert len(set(drawn)) == 3, "a new share for each batch"
    torch.manual_seed(0)
    assert [loss_of(beta=0.4) for _ in range(3)] == drawn
    torch.manual_seed(0)
    shares = [torch.distributions.Beta(0.4, 0.4).sample().item() for _ in range(3)]
    assert drawn == [loss_of(share=share) for share in shares]


def test_drawn_shares_have_the_spread_of_the_distribution(monkeypatch):
    seen = []
    monkeypatch.setattr("hf_mlrpl.methods.mixup.mixed_labels", lambda labels, share: seen.append(share) or labels)
    torch.manual_seed(0)
    model, batch = tiny_model("ssgrl").eval(), make_batch(1)
    objective = FmMixupObjective(MixupObjectiveConfig(beta=2.0), model.config)
    with torch.no_grad():
        for _ in range(300):
            objective(model, batch, START)
    shares = torch.tensor(seen)
    assert 0 < shares.min() and shares.max() < 1
    assert shares.mean() == pytest.approx(0.5, abs=0.05)
    assert shares.var() == pytest.approx(1 / 20, rel=0.3)  # 1 / (4 (2 beta + 1))


@pytest.mark.slow
def test_a_run_with_drawn_shares_resumes_exactly(tmp_path):
    training = {"save_strategy": "epoch", "per_device_train_batch_size": 24, "eval_strategy": "no"}
    recipe = tiny_recipe("fm_mixup", objective={"beta": 0.4}, training=training)
    unbroken = make_trainer(recipe, tmp_path)
    unbroken.train()
    resumed = make_trainer(recipe, tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert weights(resumed) == weights(unbroken)


@pytest.mark.parametrize("objective_class", OBJECTIVES)
def test_works_with_semantic_attention(objective_class):
    model = tiny_model("ssgrl", label_features="attention").train()
    objective = objective_class(MixupObjectiveConfig(), model.config)
    model(**make_batch(), objective=objective, progress=START).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
