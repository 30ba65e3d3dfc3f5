"""Models that know their labels by prompts: when label vectors are computed, and what other labels change."""

import copy
import functools

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_clip import TINY_RESNET, TINY_TEXT

from hf_mlrpl import BaselineConfig, BaselineForMultiLabelClassification
from hf_mlrpl.clip.modeling_clip import LABEL_VECTORS_NAME
from hf_mlrpl.methods.dualcoop.configuration_dualcoop import DualCoOpConfig
from hf_mlrpl.methods.dualcoop.modeling_dualcoop import DualCoOpForMultiLabelClassification
from hf_mlrpl.methods.scpnet.configuration_scpnet import ScpnetConfig
from hf_mlrpl.methods.scpnet.modeling_scpnet import ScpnetForMultiLabelClassification
from hf_mlrpl.objective import Objective, ObjectiveOutput

NAMES = ["cat", "hot_dog", "tv", "zebra"]
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}
TINY = TINY_RESNET | LABELS | {"num_context": 3, "text_sizes": TINY_TEXT | {"context_length": 24}}
PIXELS = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def scpnet(**settings) -> ScpnetForMultiLabelClassification:
    torch.manual_seed(0)
    settings = TINY | {"context_words": None, "graph_dim": 32} | settings
    model = ScpnetForMultiLabelClassification(ScpnetConfig(**settings))
    model.set_priors()
    return model.eval()


def dualcoop(**settings) -> DualCoOpForMultiLabelClassification:
    torch.manual_seed(0)
    model = DualCoOpForMultiLabelClassification(DualCoOpConfig(**TINY, **settings))
    model.set_priors()
    return model.eval()


MODELS = {
    "scpnet": scpnet,
    "scpnet dynamic": lambda: scpnet(graph_prior="dynamic", calibration_prior="dynamic"),
    "dualcoop shared": lambda: dualcoop(context_per_label=False),
    "dualcoop": dualcoop,
}


@functools.cache
def _made(name: str):
    return MODELS[name]()


@pytest.fixture(params=MODELS)
def model(request):
    return copy.deepcopy(_made(request.param))


def count_text_passes(model) -> list[int]:
    """A list that grows by the number of prompts of each pass through the text tower."""
    passes: list[int] = []
    model.text_encoder.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    return passes


# ---- when they are computed ----


class AsksThreeTimes(Objective):
    """First without gradients, as for a teacher."""

    def forward(self, model, batch, progress):
        representations, _ = model.represent(model.encode(batch["pixel_values"]))
        with torch.no_grad():
            model.classify(representations)
        if hasattr(model, "calibration"):
            assert not model.calibration().requires_grad
        return ObjectiveOutput(loss=(model.classify(representations) + model.classify(representations)).sum())


def test_a_step_computes_them_once(model):
    passes, objective = count_text_passes(model), AsksThreeTimes(None, None)
    prompts = len(NAMES) * len(model.prompt_learners)
    for step in (1, 2):
        model.train().zero_grad()
        model(PIXELS, objective=objective).loss.backward()
        assert sum(passes) == step * prompts, "again in the next step, with the weights of that"
    assert all(learner.context.grad.any() for learner in model.prompt_learners)
    assert torch.equal(model.label_vectors(), model.label_vectors())
    assert sum(passes) == 4 * prompts, "outside of a step nothing is kept"


def test_an_error_in_a_step_keeps_nothing(model):
    class Fails(Objective):
        def forward(self, model, batch, progress):
            model.label_vectors()
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        model.train()(PIXELS, objective=Fails(None, None))
    assert not model._kept and not model._is_in_forward


def test_evaluation_computes_them_once(model):
    passes = count_text_passes(model)
    first = model(PIXELS).logits
    computed = len(passes)
    assert computed and torch.equal(model(PIXELS).logits, first)
    model.to("cpu").eval()
    with torch.no_grad():
        assert torch.equal(model(PIXELS).logits, first)
    assert len(passes) == computed


CHANGES = {
    "training": lambda model: model.train().eval(),
    "load_state_dict": lambda model: model.load_state_dict(copy.deepcopy(model.state_dict())),
    "another type": lambda model: model.double().float(),
    "other labels": lambda model: model.set_labels(NAMES[1:]),
    "on request": lambda model: model.forget_label_vectors(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_may_change_them_makes_them_anew(model, change):
    model(PIXELS)
    passes = count_text_passes(model)
    CHANGES[change](model)
    model(PIXELS)
    assert passes


def test_trained_weights_are_seen_in_evaluation(model):
    before = model(PIXELS).logits
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.train()(PIXELS, objective=AsksThreeTimes(None, None)).loss.backward()
    optimizer.step()
    assert not torch.allclose(model.eval()(PIXELS).logits, before)


def test_they_are_in_full_precision_whatever_runs_first(model):
    expected = model(PIXELS).logits
    model.forget_label_vectors()
    with torch.autocast("cpu", torch.bfloat16):
        model(PIXELS)
    assert torch.equal(model(PIXELS).logits, expected)


def test_inference_mode_leaves_no_mark(model):
    """Gradients of the pixels can be asked for afterwards."""
    with torch.inference_mode():
        model(PIXELS)
    pixel_values = PIXELS.clone().requires_grad_()
    model(pixel_values).logits.sum().backward()
    assert pixel_values.grad.any()


# ---- in a checkpoint ----


def test_a_checkpoint_has_them(model, tmp_path):
    expected = model(PIXELS).logits
    model.train().save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    passes = count_text_passes(loaded)
    assert torch.equal(loaded(PIXELS).logits, expected)
    assert passes == []


@pytest.mark.parametrize("name", ["context", "end_positions"])
def test_those_of_other_weights_are_not_taken(model, name, tmp_path):
    """Somebody replaced the weights of a checkpoint alone."""
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    for key in state:
        if key.endswith(name):
            state[key] = state[key] + 1
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    loaded = type(model).from_pretrained(tmp_path)
    model.load_state_dict(state)
    assert torch.equal(loaded(PIXELS).logits, model(PIXELS).logits)


def test_those_of_other_settings_are_not_taken(tmp_path):
    scpnet().save_pretrained(tmp_path)
    loaded = ScpnetForMultiLabelClassification.from_pretrained(tmp_path, adjacency="calibration")
    taken = loaded.label_vectors()
    loaded.forget_label_vectors()
    assert torch.equal(taken, loaded.label_vectors())
    assert not torch.allclose(taken, ScpnetForMultiLabelClassification.from_pretrained(tmp_path).label_vectors())


def test_half_precision_has_its_own(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert torch.equal(loaded.label_vectors(), copy.deepcopy(model).to(torch.bfloat16).label_vectors())


def test_a_model_without_prompts_can_be_saved(tmp_path):
    model = ScpnetForMultiLabelClassification(ScpnetConfig(**TINY, graph_dim=32))
    model.save_pretrained(tmp_path)
    assert not (tmp_path / LABEL_VECTORS_NAME).exists()
    with pytest.raises(RuntimeError, match="no prompts yet"):
        ScpnetForMultiLabelClassification.from_pretrained(tmp_path)(PIXELS)


# ---- other labels ----


def test_labels_in_another_order_have_the_same_logits(model):
    order, model, pixels = [2, 0, 3], model.double(), PIXELS.double()  # logits are cosines times a scale
    features = model.encode(pixels)
    representations, attention_maps = model.represent(features)
    if isinstance(model, ScpnetForMultiLabelClassification):  # without the graph, which the missing label was part of
        model.graph_network = torch.nn.Identity()
        model.config.adjacency = None
    expected = model(pixels).logits
    model.set_labels([NAMES[i] for i in order])
    torch.testing.assert_close(model(pixels).logits, expected[:, order])
    assert model.config.label_names == ["tv", "cat", "zebra"] and model.config.num_labels == 3
    assert model.config.label2id == {"tv": 0, "cat": 1, "zebra": 2}
    again, maps = model.represent(features)
    assert again.shape[1] == (3 if representations.shape[1] > 1 else 1) and (
        maps is None or torch.allclose(maps, attention_maps[:, order])
    )


def test_the_graph_is_that_of_the_new_labels():
    model = scpnet()
    names = [*NAMES, "a red bus"]
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    fresh = ScpnetForMultiLabelClassification(ScpnetConfig(**TINY | labels, context_words=None, graph_dim=32)).eval()
    fresh.load_state_dict({k: v for k, v in model.state_dict().items() if "graph_network" in k}, strict=False)
    for part in ("text_encoder", "backbone"):
        getattr(fresh, part).load_state_dict(getattr(model, part).state_dict())
    fresh.set_priors()
    fresh.prompts.context.data.copy_(model.prompts.context)
    model.set_labels(names)
    assert torch.equal(model.graph, fresh.graph) and torch.equal(model.calibration(), fresh.calibration())
    assert torch.equal(model(PIXELS).logits, fresh(PIXELS).logits)


@pytest.mark.parametrize("source", ["static", "dynamic"])
def test_a_single_label_can_be_asked_for(source):
    """Also where each label keeps all the others."""
    model = scpnet(prior_top_k=None, graph_prior=source, calibration_prior=source)
    model.set_labels(["zebra"])
    assert model(PIXELS).logits.shape == (2, 1) and model.calibration().item() == 1


def test_new_labels_survive_the_disk(model, tmp_path):
    model.set_labels(["zebra", "tv"])
    expected = model(PIXELS).logits
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert loaded.config.label_names == ["zebra", "tv"]
    assert torch.equal(loaded(PIXELS).logits, expected)
    loaded.set_labels(["tv"])
    assert loaded(PIXELS).logits.shape == (2, 1)


def test_thresholds_stay_with_their_labels(model):
    model.config.thresholds = [0.1, 0.2, 0.3, 0.4]
    model.set_labels(["zebra", "hot dog"])  # however its name is spelled
    assert model.config.thresholds == [0.4, 0.2]
    shared = scpnet(thresholds=[0.1, 0.2, 0.3, 0.4])
    shared.set_labels(["bus", "cat"])
    assert shared.config.thresholds == [0.5, 0.1]
    same_for_all = scpnet(thresholds=0.7)
    same_for_all.set_labels(["bus"])
    assert same_for_all.config.thresholds == 0.7


WRONG_NAMES = {
    "none": ([], "list of at least one, got"),
    "a text": ("zebra", "list of at least one, got 'zebra'"),
    "empty": (["cat", " "], "label 1 .* is empty"),
    "twice": (["Hot dog", "cat", "hot_dog"], "labels 0 and 2 .* read alike: 'Hot dog' and 'hot_dog'"),
    "too long": (["cat", "an incomprehensible thing"], "'an incomprehensible thing' is too long"),
}


@pytest.mark.parametrize("wrong", WRONG_NAMES)
def test_wrong_names_leave_the_model_as_it_was(model, wrong):
    names, message = WRONG_NAMES[wrong]
    before, config = copy.deepcopy(model.state_dict()), model.config.to_dict()
    with pytest.raises(ValueError, match=message):
        model.set_labels(names)
    assert model.config.to_dict() == config
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_contexts_of_unknown_labels_do_not_exist():
    with pytest.raises(ValueError, match="context of its own, and lion, bus has none.*cat, hot_dog, tv, zebra"):
        dualcoop().set_labels(["cat", "lion", "bus"])


def test_labels_need_a_tokenizer(model, tmp_path):
    model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    loaded = type(model).from_pretrained(tmp_path)
    assert torch.equal(loaded(PIXELS).logits, model(PIXELS).logits), "its own labels need none"
    with pytest.raises(ValueError, match="has no tokenizer, so it cannot read words.*tokenizer.json"):
        loaded.set_labels(["cat"])


def test_a_prior_from_a_file_knows_no_other_labels(tmp_path):
    path = tmp_path / "relation.safetensors"
    save_file({"similarity": torch.full((4, 4), 0.5).fill_diagonal_(1)}, path)
    with pytest.raises(ValueError, match=r"labels cannot change: .* comes from .*relation\.safetensors.*prior: clip"):
        scpnet(prior=str(path)).set_labels(["cat"])


def test_a_prior_of_another_size_is_refused(tmp_path):
    path = tmp_path / "relation.safetensors"
    save_file({"similarity": torch.eye(5)}, path)
    with pytest.raises(ValueError, match=r"must hold a \(4, 4\) matrix.*got the\s+shape \(5, 5\)"):
        scpnet(prior=str(path))


def test_labels_that_are_numbers_cannot_change():
    model = BaselineForMultiLabelClassification(BaselineConfig(backbone="test_resnet"))
    with pytest.raises(ValueError, match="labels of a BaselineForMultiLabelClassification cannot change"):
        model.set_labels(["cat"])


def test_words_start_the_context():
    model = scpnet(num_context=4, context_words="a cat")  # four bytes
    tokens = torch.tensor(model.tokenizer("a cat", add_special_tokens=False)["input_ids"])
    assert torch.equal(model.prompts.context, model.text_encoder.embed(tokens))
