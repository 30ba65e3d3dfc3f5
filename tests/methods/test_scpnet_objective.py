from types import SimpleNamespace

import pytest
import torch
from golden_files import golden, sub_cases
from golden_models import check_case, leaf
from test_asl import DTYPES
from tiny import GivenLogits, make_trainer, tiny_images, tiny_recipe

from hf_mlrpl.methods.scpnet.objective_scpnet import (
    ScpnetObjective,
    ScpnetObjectiveConfig,
    label_thresholds,
    select_labels,
    soft_bce,
)
from hf_mlrpl.methods.scpnet.selection import unpack
from hf_mlrpl.schedules import Progress
from hf_mlrpl.trainer.trainer import MultiLabelTrainer

VIEWS = ("pixel_values", "weak", "strong")


class GivenCalibration(GivenLogits):
    """A model whose logits are its pixels, with a calibration, and that counts its forward passes."""

    def __init__(self, calibration: torch.Tensor):
        super().__init__(len(calibration))
        self.matrix, self.batch_sizes = calibration, []

    def calibration(self) -> torch.Tensor:
        return self.matrix

    def represent(self, features):
        self.batch_sizes.append(len(features))
        return super().represent(features)


def prepared(num_labels: int, num_images: int, **settings) -> ScpnetObjective:
    objective = ScpnetObjective(ScpnetObjectiveConfig(**settings), SimpleNamespace(num_labels=num_labels))
    objective.prepare(tiny_images(num_labels, num_images))
    return objective


# ---- six steps of the published code, each from where the one before it ended ----


def golden_objective() -> ScpnetObjective:
    hparams = golden("scpnet_consistency").hparams
    return prepared(
        hparams["classes"],
        hparams["dataset_size"],
        consistency_weight=hparams["lambda_u"],
        distillation_weight=hparams["lambda_u"] * hparams["kl_lambda"],
        num_candidates=hparams["hard_k"],
        candidate_threshold=hparams["p_cutoff"],
        correction_threshold=hparams["splc"]["tau"],
        correction_epoch=hparams["splc"]["change_epoch"],
        margin=hparams["splc"]["margin"],
        gamma=hparams["splc"]["gamma"],
    )


def shares(objective: ScpnetObjective) -> torch.Tensor:
    """`acc` of the published code, of which a threshold is `p_cutoff * acc / (2 - acc)`."""
    parts = objective.thresholds() / objective.config.candidate_threshold
    return 2 * parts / (1 + parts)


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES)
def test_consecutive_steps_match_published_code(dtype):
    file = golden("scpnet_consistency")
    objective = golden_objective()
    model = GivenCalibration(file.tensors["in.relation_calibrated"])
    file.check("out.classwise_acc_init", shares(objective))
    config, compared = objective.config, {"out.classwise_acc_init"}
    for step, epoch in enumerate(file.hparams["epoch_of_step"]):
        tensors = file.case(f"step{step}")
        views = {
            view: leaf(tensors[f"in.logits_{name}"], dtype)
            for view, name in zip(VIEWS, ("labeled", "weak", "strong"), strict=True)
        }
        labels, index = tensors["in.target"], tensors["in.sample_index"]
        outputs = {"classwise_acc": shares(objective)}
        weak_scores = views["weak"].detach().sigmoid()
        selection = select_labels(weak_scores, labels, objective.thresholds(), config.num_candidates)

        batch = {**views, "labels": labels, "index": index}
        output = objective(model, batch, Progress(step=step, max_steps=9, epoch=float(epoch)))
        batch_size = len(labels)  # our losses are means over images
        (batch_size * output.loss).backward()
        terms = {name: batch_size * term for name, term in output.terms.items()}
        outputs |= {
            "pseudo_labels": selection.labels,
            "sample_mask": selection.is_sure,
            "selected_label": unpack(objective.selected, labels.shape[1]),
            "consistency_loss": terms["consistency"] / config.consistency_weight,
            "kl_loss": terms["distillation"] / config.distillation_weight,
            "sup_loss": terms["classification"],
            "unsup_loss": (terms["consistency"] + terms["distillation"]) / config.consistency_weight,
            "total_loss": batch_size * output.loss,
            "grad_weak_is_none_or_zero": torch.tensor(views["weak"].grad is None or not views["weak"].grad.any()),
            "grad.in.logits_labeled": views["pixel_values"].grad,
            "grad.in.logits_strong": views["strong"].grad,
        }
        check_case(file, f"step{step}", outputs)
        compared |= file.outputs(f"step{step}")
        assert torch.equal(output.pseudo_labels["selected"].eq(1), selection.labels)
    assert compared == file.outputs("") | {name for case in sub_cases(file.name) for name in file.outputs(case)}


# ---- parts ----

GIVEN = {
    "pixel_values": torch.tensor([[2.0, -1.0, 0.5, -3.0], [0.1, 0.2, 0.3, 0.4]]),
    "weak": torch.tensor([[4.0, 5.0, 3.5, -2.0], [-4.0, -5.0, -6.0, -7.0]]),
    "strong": torch.tensor([[1.0, -1.0, 0.0, 2.0], [0.5, 0.5, 0.5, 0.5]]),
    "labels": torch.tensor([[0, -1, 0, 1], [1, 0, 0, 0]]),
    "index": torch.tensor([3, 1]),
}
EYE = torch.eye(4)
LATE = Progress(step=9, max_steps=10, epoch=5.0)


def test_known_absent_labels_never_become_present():
    objective = prepared(4, 5, num_candidates=3, candidate_threshold=0.5)
    output = objective(GivenCalibration(EYE), GIVEN, LATE)
    assert output.pseudo_labels["selected"].tolist() == [[1, -1, 1, 1], [1, 0, 0, 0]]
    assert output.pseudo_labels["corrected"].tolist() == [[1, -1, 1, 1], [1, 0, 0, 0]]
    assert unpack(objective.selected, 4)[[3, 1]].tolist() == [[True, False, True, True], [True, False, False, False]]
    selected = torch.tensor([[1.0, 0.0, 1.0, 1.0]])  # the second image has no sure candidate
    expected = torch.nn.functional.binary_cross_entropy_with_logits(GIVEN["strong"][:1], selected, reduction="sum")
    torch.testing.assert_close(output.terms["consistency"], expected / 8 / 2)


def test_known_absent_labels_may_be_merged_with_unknown_ones():
    objective = prepared(4, 5, num_candidates=3, candidate_threshold=0.5, known_negatives="merge")
    output = objective(GivenCalibration(EYE), GIVEN, LATE)
    assert output.pseudo_labels["selected"].tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]
    merged = GIVEN | {"labels": GIVEN["labels"].clamp(min=0)}
    again = prepared(4, 5, num_candidates=3, candidate_threshold=0.5)(GivenCalibration(EYE), merged, LATE)
    assert output.loss == again.loss


def test_the_calibration_says_which_labels_belong_together():
    """Row i of the matrix is what label i takes from the others."""
    calibration = torch.tensor([[0.5, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0.25, 0.75]])
    objective = prepared(4, 5, candidate_threshold=0.5, consistency_weight=0.0, distillation_weight=1.0)
    output = objective(GivenCalibration(calibration), GIVEN, LATE)
    p = GIVEN["weak"][0].sigmoid()
    targets = torch.stack([0.5 * p[0] + 0.5 * p[1], p[1], p[2], 0.25 * p[2] + 0.75 * p[3]])
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    torch.testing.assert_close(output.terms["distillation"], bce(GIVEN["strong"][0], targets, reduction="sum") / 2)
    assert "consistency" not in output.terms


def test_images_that_are_not_sure_may_be_distilled():
    settings = {"candidate_threshold": 0.5, "consistency_weight": 0.0, "distillation_weight": 1.0}
    objective = prepared(4, 5, **settings, mask_distillation=False)
    output = objective(GivenCalibration(EYE), GIVEN, LATE)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    expected = bce(GIVEN["strong"], GIVEN["weak"].sigmoid(), reduction="sum") / 2
    torch.testing.assert_close(output.terms["distillation"], expected)


def test_without_the_terms_of_the_views_none_is_needed():
    settings = {"consistency_weight": 0.0, "distillation_weight": 0.0}
    objective, model = prepared(4, 5, **settings), GivenCalibration(EYE)
    batch = {name: GIVEN[name] for name in ("pixel_values", "labels", "index")}
    output = objective(model, batch, LATE)
    assert output.terms.keys() == {"classification"} and objective.state_dict() == {}
    assert model.batch_sizes == [2]
    whole, model = prepared(4, 5), GivenCalibration(EYE)
    assert whole(model, GIVEN, LATE).terms["classification"] == output.loss
    assert model.batch_sizes == [6], "one forward pass of all views"


@pytest.mark.parametrize("missing", ["weak", "strong"])
def test_a_missing_view_is_an_error_that_names_the_setting(missing):
    batch = {name: tensor for name, tensor in GIVEN.items() if name != missing}
    with pytest.raises(ValueError, match=f"there is no `{missing}`. Let `data.further_views` name all"):
        prepared(4, 5)(GivenCalibration(EYE), batch, LATE)


def test_a_missing_view_is_found_before_an_image_is_read(tmp_path):
    message = r"there is no `strong`. Let .*such as `further_views: \{weak: weak, strong: strong\}`"
    with pytest.raises(ValueError, match=message):
        tiny_recipe("scpnet", data={"further_views": {"weak": "shift"}})
    unused = {"consistency_weight": 0.0, "distillation_weight": 0.0}
    tiny_recipe("scpnet", data={"further_views": {}}, objective=unused)

    trainer = make_trainer(tiny_recipe("scpnet", training={"eval_strategy": "no"}), tmp_path)
    del trainer.train_dataset.views["strong"]
    with pytest.raises(ValueError, match=message):
        MultiLabelTrainer(trainer.model, trainer.args, trainer.objective, train_dataset=trainer.train_dataset)


def test_without_prepare_nothing_is_remembered():
    objective = ScpnetObjective(ScpnetObjectiveConfig(), SimpleNamespace(num_labels=4))
    with pytest.raises(RuntimeError, match="was not prepared, so it has no `selected`"):
        objective(GivenCalibration(EYE), GIVEN, LATE)


def test_thresholds_rise_with_the_share_of_a_label():
    """At first all images count as not selected, and every label has the least share, 1 of their number."""
    first = label_thresholds(torch.zeros(4, dtype=torch.int64), 100, 2, 0.9)
    torch.testing.assert_close(first, torch.full((4,), 0.9 * 0.25 / 1.75, dtype=torch.float64))
    counts = torch.tensor([50, 20, 0, 10])  # 120 of 200 candidates are not selected
    few = label_thresholds(counts, 100, 2, 0.9)
    torch.testing.assert_close(few[0], torch.tensor(0.9 * (50 / 120) / (2 - 50 / 120), dtype=torch.float64))
    assert few[1] == few[2] == few[3] == first[0]
    counts = torch.tensor([90, 45, 0, 60])
    many = label_thresholds(counts, 100, 2, 0.9)
    torch.testing.assert_close(many[:2], torch.tensor([0.9, 0.9 * 0.5 / 1.5], dtype=torch.float64))


def test_all_labels_may_be_candidates():
    """With fewer labels than candidates."""
    thresholds = torch.full((3,), 0.5)
    selection = select_labels(torch.tensor([[0.6, 0.4, 0.5]]), torch.zeros(1, 3), thresholds, 7)
    assert selection.labels.tolist() == [[True, False, True]] and selection.is_sure.tolist() == [True]


def test_logarithms_have_a_floor():
    logits = torch.tensor([[40.0, -40.0, 40.0], [-40.0, 0.0, 0.0]], requires_grad=True)
    losses = soft_bce(logits, torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]))
    floor = -torch.tensor(1e-8).log()
    torch.testing.assert_close(losses, torch.stack([floor, floor + 2 * torch.tensor(2.0).log()]))
    losses.sum().backward()
    assert logits.grad.isfinite().all()


def test_completed_labels_are_those_that_images_were_selected_with():
    objective, labels = prepared(4, 5, num_candidates=3, candidate_threshold=0.5), torch.zeros(5, 4, dtype=torch.int8)
    labels[[3, 1]] = GIVEN["labels"].to(torch.int8)
    assert torch.equal(objective.completed_labels(labels).labels, labels), "nothing was selected yet"
    objective(GivenCalibration(EYE), GIVEN, LATE)
    expected = labels.clone()
    expected[3] = torch.tensor([1, -1, 1, 1])
    assert torch.equal(objective.completed_labels(labels).labels, expected)
    assert prepared(4, 5, consistency_weight=0.0, distillation_weight=0.0).completed_labels(labels) is None


def test_all_images_may_be_consistent():
    """Without the mask, an image without a sure candidate counts with what is known of it."""
    settings = {"candidate_threshold": 1e-9, "consistency_weight": 1.0, "distillation_weight": 0.0}
    weak = torch.full((2, 4), -100.0)  # nothing is sure
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    expected = bce(GIVEN["strong"], GIVEN["labels"].eq(1).float(), reduction="sum") / 2
    for mask, value in ((True, torch.zeros(())), (False, expected)):
        objective = prepared(4, 5, **settings, mask_consistency=mask)
        terms = objective(GivenCalibration(EYE), {**GIVEN, "weak": weak}, LATE).terms
        torch.testing.assert_close(terms["consistency"], value)


def test_known_labels_are_pseudo_labels_or_not():
    for select_known in (True, False):
        objective = prepared(4, 5, candidate_threshold=1.0, select_known=select_known)
        objective(GivenCalibration(EYE), GIVEN, LATE)
        selected = unpack(objective.selected, 4)[GIVEN["index"]]
        assert (selected & GIVEN["labels"].eq(1)).any() == select_known


@pytest.mark.parametrize("short_batches, share", [("published", 2 / 3), ("mean", 1.0)])
def test_a_short_batch_weighs_less_as_in_a_sum(short_batches, share):
    losses = []
    for full_batch in (None, 2, 3):
        objective = prepared(4, 5, short_batches=short_batches)
        objective.full_batch = full_batch
        losses.append(objective(GivenCalibration(EYE), GIVEN, LATE).loss)
    assert losses[1] == losses[0]
    torch.testing.assert_close(losses[2], share * losses[0])


def test_the_trainer_says_what_a_full_batch_is(tmp_path):
    recipe = tiny_recipe("scpnet", training={"per_device_train_batch_size": 7})
    assert make_trainer(recipe, tmp_path).objective.full_batch == 7
