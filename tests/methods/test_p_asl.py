import pytest
import torch
from golden_files import cases, golden, sub_cases
from golden_models import check_case, leaf
from safetensors.torch import save_file
from test_asl import DTYPES, LOGITS
from tiny import GivenLogits, loss_of_logits, make_trainer, tiny_images, tiny_recipe

from hf_mlrpl.methods import p_asl
from hf_mlrpl.methods.p_asl import PAslObjective, PAslObjectiveConfig, partial_asymmetric_loss, selected_weights

NAME = "losses_csl"
MODES = {
    None: "negative",
    "negative": "negative",
    "ignore": "ignore",
    "ignore_normalize_classes": "ignore_normalized",
    "selective": "select",
}


def _config(settings: dict) -> PAslObjectiveConfig:
    return PAslObjectiveConfig(
        unknown=MODES[settings["partial_loss_mode"]],
        likely_per_image=settings["likelihood_topk"],
        prior_threshold=settings["prior_threshold"] or 1.0,
        gamma_positive=settings["gamma_pos"],
        gamma_negative=settings["gamma_neg"],
        gamma_unknown=settings["gamma_unann"],
        positive_weight=settings["alpha_pos"],
        negative_weight=settings["alpha_neg"],
        unknown_weight=settings["alpha_unann"],
        clip=settings["clip"],
    )


def _our_labels(published: torch.Tensor) -> torch.Tensor:
    """There, 0 is absent and -1 unknown."""
    return torch.where(published.eq(1), 1, -1).masked_fill(published.eq(-1), 0)


@pytest.mark.golden
@pytest.mark.parametrize("case", golden(NAME).hparams["cases"])
def test_loss_and_weights_match_published_code(case):
    settings, inputs = golden(NAME).hparams["cases"][case], golden(NAME).case()
    labels = _our_labels(inputs["in.target"])
    for dtype in DTYPES:
        logits = leaf(inputs["in.logits"], dtype)
        uses_prior = settings["prior"] and settings["prior_threshold"] > 0  # there, a threshold of 0 switches it off
        prior = inputs["in.prior"].to(dtype) if uses_prior else None
        weights = selected_weights(logits, labels, _config(settings), prior)
        loss = partial_asymmetric_loss(logits, labels, _config(settings), weights).sum()
        loss.backward()
        check_case(golden(NAME), case, {"loss": loss, "weights": weights, "grad.in.logits": logits.grad})


@pytest.mark.golden
@pytest.mark.parametrize("case", cases(NAME, "compute_prior"))
def test_class_prior_matches_published_code(case):
    tensors = golden(NAME).case(case)
    for dtype in DTYPES:
        objective = _make(unknown="ignore", num_labels=tensors["in.logits_0"].shape[1]).to(dtype)
        outputs = {}
        for step in range(sum(name.startswith("in.logits_") for name in tensors)):
            logits = tensors[f"in.logits_{step}"].to(dtype)
            loss_of_logits(objective, logits, torch.zeros_like(logits))
            outputs[f"average_{step}"] = objective.prior.clone()
        check_case(golden(NAME), case, outputs)


@pytest.mark.golden
def test_every_sub_case_of_the_file_is_compared():
    assert {*sub_cases(NAME)} <= {"", "compute_prior", *golden(NAME).hparams["cases"]}


def _make(num_labels: int = 5, **settings) -> PAslObjective:
    objective = PAslObjective(PAslObjectiveConfig(**settings), GivenLogits(num_labels).config)
    objective.prepare(tiny_images(num_labels))
    return objective


LABELS = torch.tensor([[1, -1, 0, 0, 1], [0, 0, -1, 1, 0]])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"unknown": "negative"}, 6.147068),
        ({"unknown": "ignore"}, 3.673392),
        ({"unknown": "ignore_normalized"}, 4.780132),
        ({"unknown": "select", "likely_per_image": 1}, 4.106748),
    ],
)
def test_objective_is_a_mean_over_images_of_the_published_sum(settings, expected):
    loss = loss_of_logits(_make(gamma_unknown=4.0, **settings), LOGITS, LABELS).loss
    assert 2 * loss.item() == pytest.approx(expected, rel=1e-6)


def test_known_labels_are_never_ignored():
    config = PAslObjectiveConfig(likely_per_image=100, prior_threshold=0.01)
    assert torch.equal(selected_weights(LOGITS, LABELS, config, torch.ones(5)), LABELS.ne(0).float())
    assert selected_weights(LOGITS, LABELS.masked_fill(LABELS.eq(0), -1), config, torch.ones(5)).all()


# ---- the class prior, from one run to the next ----


def test_prior_of_all_processes_is_estimated(monkeypatch):
    objective, scores = _make(unknown="ignore"), torch.rand(6, 5)
    monkeypatch.setattr(p_asl, "gather_rows", lambda rows: torch.cat([rows, scores[3:]]))
    objective.estimate_prior(scores[:3])
    torch.testing.assert_close(objective.prior, scores.mean(dim=0))
    assert objective.prior_images == 6


@pytest.fixture(scope="module")
def ignoring_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ignoring")
    trainer = make_trainer(tiny_recipe("p_asl", objective={"unknown": "ignore"}), folder)
    trainer.train()
    return folder, trainer.objective


def test_a_run_that_ignores_gives_the_prior_for_one_that_selects(ignoring_run, tmp_path):
    folder, objective = ignoring_run
    assert objective.prior_images == 2 * 48 and (objective.prior > 0).all()
    for path in (folder, folder / "checkpoint-6", folder / "checkpoint-6" / "objective.safetensors"):
        settings = {"unknown": "select", "prior": str(path), "prior_threshold": 0.5}
        trainer = make_trainer(tiny_recipe("p_asl", objective=settings), tmp_path)
        assert torch.equal(trainer.objective.prior, objective.prior)
    trainer.train()
    assert torch.equal(trainer.objective.prior, objective.prior), "it is not estimated any more"


def test_a_prior_that_does_not_fit_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no .*nowhere. Train with `objective.unknown=ignore` first"):
        _make(prior=str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="there is no .*objective.safetensors"):
        _make(prior=str(tmp_path))
    save_file({"prior": torch.rand(4)}, tmp_path / "objective.safetensors")
    with pytest.raises(ValueError, match="must hold `prior` for 5 labels, it has 4"):
        _make(prior=str(tmp_path))
    save_file({"bank": torch.rand(4)}, tmp_path / "objective.safetensors")
    with pytest.raises(ValueError, match="must hold `prior` for 5 labels, it has 0"):
        _make(prior=str(tmp_path))
    (tmp_path / "objective.safetensors").write_text("nothing")
    with pytest.raises(ValueError, match="cannot be read"):
        _make(prior=str(tmp_path))
    with pytest.raises(ValueError, match="`prior` needs `unknown: select`, got 'ignore'"):
        PAslObjectiveConfig(prior="somewhere", unknown="ignore")


def test_without_the_images_of_the_library_there_is_a_clear_error():
    objective = PAslObjective(PAslObjectiveConfig(prior="somewhere"), GivenLogits(5).config)
    with pytest.raises(RuntimeError, match="was not prepared, so it has no `prior`"):
        loss_of_logits(objective, LOGITS, LABELS)
