import copy

import pytest
import torch
from golden_files import golden
from golden_models import check_case, cotangent_sum, leaf
from golden_prompts import TOWERS, GoldenTokenizer, golden_model, tower_gradients
from safetensors.torch import save_file
from tiny import tiny_model, tiny_recipe
from tiny_clip import TINY_RESNET, tiny_towers
from torch import Tensor
from torch.nn import functional as F

from hf_mlrpl.methods.scpnet.configuration_scpnet import ScpnetConfig
from hf_mlrpl.methods.scpnet.modeling_scpnet import ScpnetForMultiLabelClassification
from hf_mlrpl.models.parts.backbone import Backbone
from hf_mlrpl.models.priors import cosine_similarities, relation_prior
from hf_mlrpl.trainer.optimization import parameter_groups
from hf_mlrpl.trainer.training_args import MultiLabelTrainingArguments

DTYPES = (torch.float64, torch.float32)


def graph_sizes(weights: dict[str, Tensor]) -> dict[str, int]:
    return {"graph_dim": weights["gcn.0.weight"].shape[1], "graph_layers": len(weights)}


def fill_graph_network(model: ScpnetForMultiLabelClassification, weights: dict[str, Tensor]) -> None:
    model.graph_network.load_state_dict({f"layers.{name.removeprefix('gcn.')}": w for name, w in weights.items()})


def graph_gradients(model: ScpnetForMultiLabelClassification) -> dict[str, Tensor]:
    return {f"grad.w.gcn.{i}.weight": layer.weight.grad for i, layer in enumerate(model.graph_network.layers)}


# --- the file `scpnet_head`: both towers are given vectors ---


def head_model(dtype: torch.dtype, **settings) -> tuple[ScpnetForMultiLabelClassification, Tensor]:
    """A model in training mode with the golden graph, and its text features, a leaf."""
    tensors, weights = golden("scpnet_head").case(), golden("scpnet_head").weights(dtype=dtype)
    num_labels, embed_dim = tensors["in.text_features"].shape
    sizes = TINY_RESNET | {"embed_dim": embed_dim} | graph_sizes(weights)
    model = ScpnetForMultiLabelClassification(ScpnetConfig(num_labels=num_labels, **sizes, **settings))
    model.to(dtype).train()
    fill_graph_network(model, weights)
    model.graph.copy_(tensors["in.gcn_relation"])
    features = leaf(tensors["in.text_features"], dtype)
    model.prompts.forward = lambda text_encoder: features
    return model, features


def image_vectors(model: ScpnetForMultiLabelClassification, dtype: torch.dtype) -> Tensor:
    vectors = leaf(golden("scpnet_head").tensors["in.image_features"], dtype)
    model.backbone.forward = lambda pixel_values: vectors
    return vectors


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_head_matches_published_code(dtype):
    tensors, hparams = golden("scpnet_head").case(), golden("scpnet_head").hparams
    model, features = head_model(dtype, scale=hparams["scale"])
    vectors = image_vectors(model, dtype)
    outputs = {"logits": model.classify(model.represent(model.encode(None))[0])}
    outputs["scalar"] = cotangent_sum(outputs, tensors)
    outputs["scalar"].backward()
    gradients = {"grad.in.image_features": vectors.grad, "grad.in.text_features": features.grad}

    learned, _ = head_model(dtype, learn_scale=True)
    image_vectors(learned, dtype)
    with torch.no_grad():
        learned.log_scale.copy_(tensors["in.logit_scale"])
    with_clip_scale = learned.classify(learned.represent(learned.encode(None))[0])
    outputs |= {"logits_scale10": outputs["logits"], "logits_clip_scale": with_clip_scale}
    check_case(golden("scpnet_head"), "", outputs | gradients | graph_gradients(model))

    cotangent_sum({"logits": with_clip_scale}, tensors).backward()
    check_case(golden("scpnet_head"), "clipscale", {"grad.in.logit_scale": learned.log_scale.grad})


@pytest.mark.parametrize("settings", [{}, {"learn_scale": True}], ids=["constant", "learned"])
def test_labels_may_have_image_vectors_of_their_own(settings):
    """Objectives may mix representations; copies of one vector give what the vector gives."""
    model, _ = head_model(torch.float64, **settings)
    image_vectors(model, torch.float64)
    shared, _ = model.represent(model.encode(None))
    own = shared.detach().repeat(1, model.config.num_labels, 1)
    torch.testing.assert_close(model.classify(own), model.classify(shared))
    other = own.clone()
    other[:, 1] *= torch.tensor([-1.0, 1.0]).repeat(own.shape[2])[: own.shape[2]]
    changed = (model.classify(other) - model.classify(own)).ne(0).any(dim=0)
    assert changed.tolist() == [False, True] + [False] * (own.shape[1] - 2)


def test_no_tensor_has_a_vector_for_each_image_and_label():
    """Neither the forward nor the backward pass of the logits."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        """The largest memory of a tensor that an operation makes."""

        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple | list) else [result]:
                if isinstance(tensor, Tensor):
                    self.numel = max(self.numel, tensor.untyped_storage().nbytes() // tensor.element_size())
            return result

    num_images, num_labels, dim = 60, 50, 24
    config = ScpnetConfig(num_labels=num_labels, **TINY_RESNET, graph_dim=32)
    model = ScpnetForMultiLabelClassification(config).train()
    model.prompts.forward = lambda text_encoder: torch.ones(num_labels, dim, requires_grad=True) * 1
    vectors = torch.randn(num_images, dim, requires_grad=True)
    model.backbone.forward = lambda pixel_values: vectors
    with Largest() as largest:
        model.classify(model.represent(model.encode(None))[0]).sum().backward()
    assert largest.numel == num_images * num_labels


# --- the file `scpnet_full`: from pixels and words to logits ---


def full_model(folder, dtype: torch.dtype, **settings) -> ScpnetForMultiLabelClassification:
    file = golden("scpnet_full")
    hparams, tensors, weights = file.hparams, file.tensors, file.weights(dtype=dtype)
    save_file({"relation": tensors["in.relation"]}, folder / "relation.safetensors")
    num_context = len(tensors["in.context"])
    model = golden_model(
        ScpnetForMultiLabelClassification,
        file,
        dtype,
        num_context=num_context,
        context_words=hparams["context_init"],
        scale=hparams["scale"],
        prior=str(folder / "relation.safetensors"),
        prior_top_k=hparams["sparse_topk"],
        prior_reweight=hparams["reweight_p"],
        prior_temperature=hparams["T"],
        **graph_sizes(weights),
        **settings,
    )
    model.tokenizer = GoldenTokenizer(
        hparams["classnames"], tensors["in.token_ids"], num_context, hparams["context_init"]
    )
    model.set_priors()
    fill_graph_network(model, weights)
    return model


@pytest.mark.golden
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_model_matches_published_code(dtype, tmp_path):
    tensors = golden("scpnet_full").case()
    model = full_model(tmp_path, dtype)
    learner = model.prompts
    outputs = {"initial_context": learner.context.detach().clone()}
    with torch.no_grad():
        learner.context.copy_(tensors["in.context"])
    padding = model.text_encoder.embed(tensors["in.token_ids"][:, learner.length :])
    outputs["prompts"] = torch.cat([learner.embeddings(model.text_encoder), padding], dim=1)
    outputs["name_lengths"] = learner.end_positions - len(learner.context) - 2  # behind start and context, period
    outputs["text_features"] = model.label_features()
    outputs["logits"] = model(golden(TOWERS).tensors["in.image"].to(dtype)).logits
    outputs["scalar"] = cotangent_sum(outputs, tensors)
    outputs["scalar"].backward()
    gradients = {"grad.in.context": learner.context.grad} | graph_gradients(model) | tower_gradients(model)
    outputs["group_sizes"] = group_sizes(full_model(tmp_path, dtype, learn_scale=True), tmp_path)
    check_case(golden("scpnet_full"), "", outputs | gradients)


def group_sizes(model: ScpnetForMultiLabelClassification, folder) -> Tensor:
    """Parameters in the published order: without and with decay, and those of the graph network likewise.

    The published model always has a scale, whether it is used or not.
    """
    arguments = MultiLabelTrainingArguments(
        output_dir=str(folder),
        decay_exempt="biases_and_norms",
        lr_factors={"graph_network.": 3.0},
        report_to="none",
    )
    sizes = {(g["lr"], g["weight_decay"] > 0): len(g["params"]) for g in parameter_groups(model, arguments)}
    rate = arguments.learning_rate
    return torch.tensor([sizes.get((lr, decays), 0) for lr in (rate, 3.0 * rate) for decays in (False, True)])


@pytest.mark.golden
@pytest.mark.parametrize("name", ["scpnet_head", "scpnet_full"])
def test_every_sub_case_is_compared(name):
    compared = {"scpnet_head": ["", "clipscale"], "scpnet_full": [""]}[name]
    assert [case for case in golden(name).sub_cases() if golden(name).outputs(case)] == compared


# --- variants ---


def test_the_prior_may_come_from_the_training_images():
    """Cosines of the mean vectors of the images where a label is known to be present."""
    recipe = tiny_recipe("scpnet", model={"prior": "images", "prior_top_k": 3}, data={"proportion": 0.9})
    splits = recipe.data.load()
    labels, config = splits.known_labels, recipe.model.config(splits.names)
    images = recipe.data.images(splits.train, config, training=False)
    torch.manual_seed(0)
    model = recipe.model.build(config, labels, images)
    assert model.training
    pixel_values = torch.stack([images[i]["pixel_values"] for i in range(len(images))])
    with torch.no_grad():
        vectors = model.eval().encode(model.normalize(pixel_values))
    means = torch.stack([vectors[torch.from_numpy(labels[:, c] == 1)].mean(dim=0) for c in range(labels.shape[1])])
    graph, calibration = relation_prior(cosine_similarities(means), top_k=3, reweight=0.2, temperature=0.2)
    torch.testing.assert_close(model.graph, graph)
    torch.testing.assert_close(model.calibration(), calibration)
    with pytest.raises(ValueError, match="labels cannot change: how alike they are comes from images"):
        model.set_labels(["cat"])
    with pytest.raises(ValueError, match="comes from the training images: `set_priors` needs"):
        recipe.model.build(config, labels)


def test_dynamic_priors_follow_the_prompts():
    """The graph with gradients, the calibration without."""
    model = tiny_model("scpnet", graph_prior="dynamic", calibration_prior="dynamic", prior_top_k=3).train()
    settings = {"top_k": 3, "reweight": 0.2, "temperature": 0.2}
    features = model.label_features()
    graph, calibration = relation_prior(cosine_similarities(features), **settings)
    torch.testing.assert_close(model.adjacency_matrix(features), graph)
    torch.testing.assert_close(model.calibration(), calibration)
    assert model.adjacency_matrix(features).requires_grad and not model.calibration().requires_grad
    with torch.no_grad():
        model.prompts.context.normal_()
    assert not torch.allclose(model.calibration(), calibration)


def test_switches_of_the_ablations():
    prompts_only = tiny_model("scpnet", adjacency=None).eval()
    assert not any(name.startswith("graph_network") for name, _ in prompts_only.named_parameters())
    features = prompts_only.prompts(prompts_only.text_encoder)
    torch.testing.assert_close(prompts_only.label_vectors(), F.normalize(features, dim=-1))
    as_in_the_paper = tiny_model("scpnet", adjacency="calibration")
    assert as_in_the_paper.adjacency_matrix(features) is as_in_the_paper.static_calibration
    assert torch.equal(tiny_model("scpnet", calibration_prior="none").calibration(), torch.eye(5))
    assert len(tiny_model("scpnet", graph_layers=4).graph_network.layers) == 4


def test_an_image_network_of_timm_takes_the_place_of_the_tower(monkeypatch, tmp_path):
    """Average pooling and a linear layer; its parts can be frozen, and it has its own pretrained weights."""
    settings = {"image_network": "test_resnet", "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    model = tiny_model("scpnet", trainable_backbone=["layer4"], **settings).eval()
    pixel_values = torch.randn(2, 3, 32, 32)
    pooled = model.backbone.features(pixel_values).mean(dim=(2, 3))
    torch.testing.assert_close(model.backbone(pixel_values), pooled @ model.backbone.project.weight.T)
    assert model(pixel_values).logits.shape == (2, 5) and model.backbone.project.bias is None
    trained = {name.split(".")[1] for name, p in model.backbone.features.named_parameters() if p.requires_grad}
    assert trained == {"layer4"} and model.backbone.project.weight.requires_grad

    towers = tiny_towers(text_sizes=model.config.text_sizes, image_size=32)
    towers.save_pretrained(tmp_path)
    before, loaded = copy.deepcopy(model.backbone.state_dict()), []
    monkeypatch.setattr(Backbone, "load_weights", lambda backbone, file: loaded.append((backbone.name, file)))
    model.load_pretrained(str(tmp_path))
    assert loaded == [("test_resnet", None)]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.backbone.state_dict().items())
    text = towers.text_encoder.state_dict()
    assert all(torch.equal(tensor, text[name]) for name, tensor in model.text_encoder.state_dict().items())


def test_the_scale_can_be_learned():
    model = tiny_model("scpnet", learn_scale=True, scale=100)
    assert model.scale.item() == pytest.approx(100) and model.log_scale.requires_grad
    assert tiny_model("scpnet").scale == 10
