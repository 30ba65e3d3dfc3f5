"""Our modules with golden weights: loading them, running them, and the gradients under the golden names."""

import torch
from golden_files import Golden
from torch import Tensor, nn

from hf_mlrpl.methods.sst.configuration_sst import SstConfig
from hf_mlrpl.methods.sst.objective_sst import SstObjective

# Golden name: our name, and the block of rows where one matrix of ours holds several. Scalars stand at the end.
PLACES = {
    "sd.fc_image": ("decoupling.fc_image", 0),
    "sd.fc_word": ("decoupling.fc_word", 0),
    "sd.fc_joint": ("decoupling.fc_joint", 0),
    "sd.fc_score": ("decoupling.fc_score", 0),
    "ggnn.update.neighbour": ("graph_network.neighbour", 0),
    "ggnn.reset.neighbour": ("graph_network.neighbour", 1),
    "ggnn.candidate.neighbour": ("graph_network.neighbour", 2),
    "ggnn.update.self": ("graph_network.self_gates", 0),
    "ggnn.reset.self": ("graph_network.self_gates", 1),  # does not exist where the reset gate is tied
    "ggnn.candidate.self": ("graph_network.self_candidate", 0),
    "head.fuse": ("fuse", 0),
    "wggnn.update.neighbour": ("weight_network.neighbour", 0),
    "wggnn.reset.neighbour": ("weight_network.neighbour", 1),
    "wggnn.candidate.neighbour": ("weight_network.neighbour", 2),
    "wggnn.update.self": ("weight_network.self_gates", 0),
    "wggnn.reset.self": ("weight_network.self_gates", 1),
    "wggnn.candidate.self": ("weight_network.self_candidate", 0),
    "weight_fuse": ("fuse_weights", 0),
    "gcn.0": ("graph_network.layers.0", 0),
    "gcn.1": ("graph_network.layers.1", 0),
    "head.classifier": ("classifier", 0),
    "pair.reduce": ("cooccurrence_head.reduce", 0),
    "pair.hidden": ("cooccurrence_head.hidden", 0),
    "pair.out": ("cooccurrence_head.out", 0),
    "pair.classifier": ("cooccurrence_head.classifier", 0),
    "sam.score": ("attention.score", 0),
    "sam.transform": ("attention.transform", 0),
    "dgcn.static_adjacency": ("graph_network.static_adjacency", 0),
    "dgcn.static_weight": ("graph_network.static_weight", 0),
    "dgcn.global": ("graph_network.image_weight", 0),
    "dgcn.global_bn": ("graph_network.image_norm", 0),
    "dgcn.dynamic_adjacency": ("graph_network.dynamic_adjacency", 0),
    "dgcn.dynamic_weight": ("graph_network.dynamic_weight", 0),
    "head": ("classifier", 0),
}
SCALARS = {
    "alpha": "coefficients.alpha",
    "beta": "coefficients.beta",
    "intra_margin": "thresholds.intra",
    "inter_margin": "thresholds.cross",
}


class FeatureMap(nn.Identity):
    """In the place of a backbone: the input is the feature map."""

    feature_pool = 1

    def network(self, features: Tensor) -> list[Tensor]:
        return [features]

    def keep_frozen_parts_in_evaluation_mode(self) -> None:
        pass


def build_model(golden: Golden, model_class: type, dtype: torch.dtype, **settings) -> nn.Module:
    """A model of the sizes of `golden`, with its weights and priors and without a backbone."""
    weights = golden.weights(dtype=dtype)
    words, graph = golden.tensors["in.word_vectors"], golden.tensors["in.in_matrix"]
    sizes = {
        "num_labels": len(words),
        "word_embedding_dim": words.shape[1],
        "representation_dim": golden.tensors["in.feature_map"].shape[1],
        "attention_dim": len(weights["sd.fc_image.weight"]),
        "output_dim": len(weights["head.fuse.weight"]),
        "time_steps": golden.hparams.get("time_steps", 3),
    }
    if issubclass(model_class.config_class, SstConfig):
        sizes["cooccurrence_dim"] = len(weights["pair.reduce.weight"])
        sizes["cooccurrence_hidden_dim"] = len(weights["pair.hidden.weight"])
    config = model_class.config_class(backbone="test_resnet", trainable_backbone=None, **sizes, **settings)
    model = model_class(config)
    model.backbone, model.project = FeatureMap(), nn.Identity()
    model.to(dtype)
    load_weights(model, weights)
    model.load_state_dict({"word_embeddings": words, "label_graph": graph}, strict=False)
    return model


def load_weights(module: nn.Module, weights: dict[str, Tensor], prefix: str = "") -> None:
    """Fill every parameter of `module`, whose place in a model is `prefix`, with golden weights."""
    parameters = {prefix + name: parameter for name, parameter in module.named_parameters()}
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.fill_(torch.nan)
        for name, weight in weights.items():
            block = _block(parameters, name, weight)
            block.copy_(weight[: len(block)] if block.ndim else weight)
    empty = [name for name, parameter in parameters.items() if parameter.isnan().any()]
    assert not empty, f"The golden file has no weights for {', '.join(empty)}"


def weight_gradients(module: nn.Module, weights: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Gradients as `grad.w.<golden name>`; zero where a parameter is frozen or does not exist."""
    gradients = {
        prefix + name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in module.named_parameters()
    }
    result = {}
    for name, weight in weights.items():
        block = _block(gradients, name, weight)
        result[f"grad.w.{name}"] = block if block.numel() else torch.zeros_like(weight)
    return result


def _block(tensors: dict[str, Tensor], golden_name: str, like: Tensor) -> Tensor:
    if golden_name in SCALARS:
        return tensors[SCALARS[golden_name]]
    layer, _, kind = golden_name.rpartition(".")
    place, index = PLACES[layer]
    return tensors[f"{place}.{kind}"][index * len(like) : (index + 1) * len(like)]


def sines(shape: tuple[int, ...], start: float) -> Tensor:
    """Numbers that a reader can make again without a file."""
    count = torch.Size(shape).numel()
    return 0.5 * torch.sin(start + torch.arange(count, dtype=torch.float64)).view(shape)


def model_of_sines(model_class: type, layers: dict[str, tuple[int, int]], scalars: dict[str, float], **sizes):
    """A model for maps with 4 channels and 3 labels, whose weights are sines.

    Args:
        layers: further linear layers by golden name, with the shapes of their weights.
        scalars: further weights by golden name.
        sizes: further settings of the model.
    """
    linear = {"sd.fc_image": (5, 4), "sd.fc_word": (5, 3), "sd.fc_joint": (5, 5), "sd.fc_score": (1, 5)}
    for gate in ("update", "reset", "candidate"):
        linear |= {f"ggnn.{gate}.neighbour": (4, 8), f"ggnn.{gate}.self": (4, 4)}
    linear |= {"head.fuse": (4, 8), "head.classifier": (3, 4)} | layers
    config = model_class.config_class(
        backbone="test_resnet",
        num_labels=3,
        representation_dim=4,
        attention_dim=5,
        output_dim=4,
        word_embedding_dim=3,
        **sizes,
    )
    weights: dict[str, Tensor] = {}
    for name, shape in linear.items():
        weights[f"{name}.weight"] = sines(shape, len(weights) + 1)
        if name not in ("sd.fc_image", "sd.fc_word"):
            weights[f"{name}.bias"] = sines(shape[:1], len(weights) + 1)
    weights |= {name: torch.tensor(value) for name, value in scalars.items()}
    model = model_class(config)
    model.backbone, model.project = FeatureMap(), nn.Identity()
    load_weights(model.double(), weights)
    graph = torch.tensor([[1, 0.5, 0.25], [0.4, 1, 0], [0.1, 0.2, 1]])
    model.load_state_dict({"word_embeddings": sines((3, 3), 0.3), "label_graph": graph}, strict=False)
    return model


def leaf(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy in `dtype` that collects its gradient."""
    return tensor.to(dtype, copy=True).requires_grad_()


def cotangent_sum(outputs: dict[str, Tensor], tensors: dict[str, Tensor]) -> Tensor:
    """The scalar of the golden gradients: outputs times their `cot.*`, summed."""
    names = sorted(name.removeprefix("cot.") for name in tensors if name.startswith("cot."))
    return torch.stack([(outputs[name] * tensors[f"cot.{name}"].to(outputs[name])).sum() for name in names]).sum()


def check_case(golden: Golden, sub_case: str, actual: dict[str, Tensor]) -> None:
    """Compare everything that the file holds for `sub_case`; what `actual` lacks is a failure.

    Args:
        actual: outputs by their name after `out.` or `out64.`, gradients by their name with `grad.`.
    """
    names = sorted(golden.outputs(sub_case))
    assert names, f"{golden.name} has nothing to compare in {sub_case!r}"
    for name in names:
        kind = name.rpartition("/")[2]
        key = kind if kind.startswith("grad.") else kind.partition(".")[2]
        assert key in actual, f"{golden.name} {name} was not computed"
        golden.check(name, actual[key])


def fill_bank(objective: SstObjective, bank: Tensor) -> None:
    """Remember `bank`, `(num_labels, bank_size, dim)`, the newest first; rows of zeros are empty slots."""
    objective.remember(bank.transpose(0, 1), bank.any(dim=-1).t().long())


def newest_first(objective: SstObjective) -> Tensor:
    """The bank in the order of the published code."""
    places = torch.arange(objective.config.bank_size)
    slots = (objective.num_remembered.unsqueeze(1) - 1 - places) % objective.config.bank_size
    return objective.bank.take_along_dim(slots.unsqueeze(-1), dim=1)
