"""The parts that benchmark.py compares: each function makes the same computation in two ways, plain and ours."""

import argparse
import io
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import plain
import plain_clip
import torch
from torch import Tensor

from hf_mlrpl.clip.configuration_clip import ClipPromptConfig
from hf_mlrpl.data.images.photos import image_of, open_pixels
from hf_mlrpl.data.images.views import crop_flip_view
from hf_mlrpl.losses import similarity_loss
from hf_mlrpl.methods.dualcoop.modeling_dualcoop import DualCoOpForMultiLabelClassification
from hf_mlrpl.methods.dualcoop.objective_dualcoop import DualCoOpObjective, DualCoOpObjectiveConfig
from hf_mlrpl.methods.prototypes import Positives, cluster_positives, collect_positives
from hf_mlrpl.methods.sarb.modeling_sarb import SarbForMultiLabelClassification
from hf_mlrpl.methods.sarb.objective_sarb import SarbObjective, SarbObjectiveConfig
from hf_mlrpl.methods.scpnet.modeling_scpnet import ScpnetForMultiLabelClassification
from hf_mlrpl.methods.soft_exposure.objective_soft_exposure import SoftExposureObjective, SoftExposureObjectiveConfig
from hf_mlrpl.methods.sst.configuration_sst import SstConfig
from hf_mlrpl.methods.sst.modeling_sst import CooccurrenceHead, SstForMultiLabelClassification
from hf_mlrpl.methods.sst.objective_sst import (
    SstObjective,
    SstObjectiveConfig,
    cross_image_pseudo_labels,
)
from hf_mlrpl.metrics import average_precision
from hf_mlrpl.models.parts.gated_gnn import GatedGnn
from hf_mlrpl.models.parts.semantic_decoupling import SemanticDecoupling
from hf_mlrpl.schedules import Progress

KNOWN = 0.1  # proportion of known labels
NUM_TEST_IMAGES = 40504  # COCO 2014 val
NUM_REMEMBERED = 1000  # images whose labels and neighbours Soft Exposure remembers
LATE = Progress(step=0, max_steps=1, epoch=13.0)  # all losses and both rules are on
THRESHOLD = 0.75  # in that epoch
NUM_PROTOTYPES = 10
NUM_PHOTOS = 4  # of the input pipeline

Sides = dict[str, Callable[[], object]]


def decoupling(args: argparse.Namespace) -> Sides:
    """Semantic decoupling, forward and backward."""
    config, cells = SstConfig(num_labels=args.labels), args.image_size // 64
    module = SemanticDecoupling(config.representation_dim, config.word_embedding_dim, config.attention_dim)
    features = torch.randn(args.batch_size, config.representation_dim, cells, cells)
    words = torch.randn(args.labels, config.word_embedding_dim)
    module, features, words = module.to(args.device), features.to(args.device).requires_grad_(), words.to(args.device)
    return {
        "plain": lambda: plain.decouple(module, features, words)[0].sum().backward(),
        "ours": lambda: module(features, words)[0].sum().backward(),
    }


def pair_head(args: argparse.Namespace) -> Sides:
    """Co-occurrence head of SST, forward and backward."""
    classifier = getattr(args, "pair_classifier", "per_pair")
    head = CooccurrenceHead(SstConfig(num_labels=args.labels, pair_classifier=classifier)).to(args.device)
    representations = _representations(args).requires_grad_()
    return {
        "plain": lambda: plain.score_pairs(head, representations).sum().backward(),
        "ours": lambda: head(representations).sum().backward(),
    }


def graph_network(args: argparse.Namespace) -> Sides:
    """Gated graph network, forward and backward."""
    representations = _representations(args).requires_grad_()
    module = GatedGnn(representations.shape[-1]).to(args.device)
    graph = torch.rand(args.labels, args.labels, device=args.device)
    return {
        "plain": lambda: plain.update_nodes(module, representations, graph).sum().backward(),
        "ours": lambda: module(representations, graph).sum().backward(),
    }


def similarity(args: argparse.Namespace) -> Sides:
    """Loss on similarities across images, forward and backward."""
    representations, labels = _representations(args).requires_grad_(), _labels(args)
    return {
        "plain": lambda: plain.similarity_loss(representations, labels).backward(),
        "ours": lambda: similarity_loss(representations, labels).backward(),
    }


def pseudo_labels(args: argparse.Namespace) -> Sides:
    """Update of the bank, and labels completed across images."""
    representations, labels = _representations(args), _labels(args)
    objective = _objective(args, labels)
    remembered = _published_bank(objective)

    def ours() -> Tensor:
        objective.remember(representations, labels)
        return cross_image_pseudo_labels(representations, objective.centers(), labels, THRESHOLD)

    def direct() -> Tensor:
        bank = plain.update_bank(remembered, representations, labels)
        return plain.cross_pseudo_labels(representations, bank, labels, THRESHOLD)

    return {"plain": direct, "ours": ours}


def temperatures(args: argparse.Namespace) -> Sides:
    """Temperatures of Soft Exposure for a batch."""
    known = _labels(argparse.Namespace(**vars(args) | {"batch_size": NUM_REMEMBERED}))
    objective = SoftExposureObjective(SoftExposureObjectiveConfig(), SstConfig(num_labels=args.labels))
    objective.prepare(SimpleNamespace(labels=known.to("cpu", torch.int8)))
    objective.to(args.device)
    distances = torch.rand(args.labels, args.labels)
    objective.label_distances.copy_(torch.maximum(distances, distances.T))
    objective.neighbours.random_(NUM_REMEMBERED)
    objective.neighbour_distances.uniform_()
    objective.made.fill_(True)
    objective.before_epoch(None, None, LATE)
    rows = torch.arange(args.batch_size, device=args.device)
    labels, near = objective.known_labels[rows], objective.neighbour_distances[rows]
    near_labels = objective.known_labels[objective.neighbours[rows]]
    return {
        "plain": lambda: plain.soft_temperatures(objective.label_distances, labels, near, near_labels),
        "ours": lambda: objective.temperatures(labels, {"index": rows}),
    }


def mean_average_precision(args: argparse.Namespace) -> Sides:
    """Average precision of 40,504 images (NumPy)."""
    generator = np.random.default_rng(0)
    scores = generator.standard_normal((NUM_TEST_IMAGES, args.labels), dtype=np.float32)
    labels = np.where(generator.random(scores.shape) < 0.036, 1, -1).astype(np.int8)  # 2.9 labels per image of 80
    return {
        "plain": lambda: plain.average_precision(scores, labels),
        "ours": lambda: average_precision(scores, labels),
    }


class RepresentationStream:
    """An eighth of COCO's training images as an objective sees them, and a model that represents them at no cost.

    One label is in 55 % of the images, the others in 11 % down to 0.16 %; all are known.
    """

    image_ids, show_progress = (), False

    def __init__(self, args: argparse.Namespace):
        self.batch_size, num_images = args.batch_size, 640 * args.batch_size
        rates = torch.cat([torch.tensor([0.55]), torch.logspace(-0.96, -2.8, args.labels - 1)])
        self.labels = torch.where(torch.rand(num_images, args.labels) < rates, 1, -1).to(torch.int8)
        self.labels[:NUM_PROTOTYPES] = 1  # the plain side fails where a label has fewer positives than prototypes
        self.representations = _representations(args)
        self.device = args.device

    def __len__(self) -> int:
        return len(self.labels)

    def map(
        self, function: Callable[[dict[str, Tensor]], Tensor], description: str
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.batches():
            yield batch["index"].cpu(), function(batch)

    def batches(self) -> Iterator[dict[str, Tensor]]:
        for rows in torch.arange(len(self)).split(self.batch_size):
            batch = {"pixel_values": self.representations, "labels": self.labels[rows], "index": rows}
            yield {name: tensor.to(self.device) for name, tensor in batch.items()}

    def encode(self, pixel_values: Tensor) -> Tensor:
        return pixel_values

    def represent(self, features: Tensor) -> tuple[Tensor, None]:
        return features, None


def prototype_pass(args: argparse.Namespace) -> Sides:
    """Representations of all known positives of an eighth of COCO, without the time of the network."""
    stream = RepresentationStream(args)
    sizes = args.labels, stream.representations.shape[-1]
    return {
        "plain": lambda: plain.collect_positives(stream, stream.batches(), *sizes),
        "ours": lambda: collect_positives(stream, stream, memory_limit=8),
    }


def prototype_clustering(args: argparse.Namespace, num_starts: int) -> Sides:
    """k-means of every label of an eighth of COCO; the plain side starts 10 times."""
    labels = RepresentationStream(args).labels.to(torch.int8)
    rows, columns = labels.eq(1).nonzero(as_tuple=True)
    modes = torch.randn(args.labels, NUM_PROTOTYPES, _representations(args).shape[-1]) / 2
    points = modes[columns, torch.randint(NUM_PROTOTYPES, rows.shape)]
    points += torch.randn_like(points)
    positives = Positives(labels, memory_limit=8)
    positives.add(positives.keys(rows, columns), points)
    found = [torch.from_numpy(positives.of(label)) for label in range(args.labels)]
    return {
        "plain": lambda: plain.cluster_positives(found, NUM_PROTOTYPES),
        "ours": lambda: cluster_positives(positives, NUM_PROTOTYPES, seed=0, num_starts=num_starts),
    }


def step(args: argparse.Namespace, plain_type: torch.dtype, our_type: torch.dtype) -> Sides:
    """Whole training step of SST, with backbone and optimizer."""
    model, pixel_values, labels = _model(args).train(), _pixel_values(args), _labels(args)
    objective = _objective(args, labels)
    slow = plain.PlainSst(model, _published_bank(objective))
    run = _optimization_step(model, args.device)
    return {
        "plain": lambda: run(lambda: slow.loss(pixel_values, labels, THRESHOLD), plain_type),
        "ours": lambda: run(lambda: model(pixel_values, labels, objective, LATE).loss, our_type),
    }


def sarb_step(args: argparse.Namespace, plain_type: torch.dtype, our_type: torch.dtype) -> Sides:
    """Whole training step of SARB, with backbone and optimizer."""
    model = _model(args, SarbForMultiLabelClassification).train()
    config = model.config
    pixel_values, labels = _pixel_values(args), _labels(args)
    objective = SarbObjective(SarbObjectiveConfig(), config).to(args.device)
    objective.prepare(SimpleNamespace(labels=labels))
    objective.is_prepared = True
    objective.counts.fill_(1)
    torch.nn.init.normal_(objective.prototypes)
    slow = plain.PlainSarb(model, objective.prototypes)
    run = _optimization_step(model, args.device)

    def direct() -> Tensor:
        index = torch.randint(objective.config.num_prototypes, ())
        scores = torch.rand(labels.shape, device=args.device)
        return slow.loss(pixel_values, labels, index, scores)

    return {
        "plain": lambda: run(direct, plain_type),
        "ours": lambda: run(lambda: model(pixel_values, labels, objective, LATE).loss, our_type),
    }


def _optimization_step(model: torch.nn.Module, device: str) -> Callable[[Callable[[], Tensor], torch.dtype], None]:
    """A function that computes a loss in a precision, goes back through it and updates the weights."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-5, weight_decay=5e-4, fused=True)

    def run(loss: Callable[[], Tensor], dtype: torch.dtype) -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def inference(args: argparse.Namespace, dtype: torch.dtype) -> Sides:
    """Logits of a batch."""
    model, pixel_values = _model(args).eval(), _pixel_values(args)
    return _inference_sides(model, plain.PlainSst(model, torch.empty(0)).logits, pixel_values, dtype)


def _inference_sides(
    model: torch.nn.Module, slow: Callable[[Tensor], Tensor], pixel_values: Tensor, dtype: torch.dtype
) -> Sides:
    def run(function: Callable[[Tensor], object]) -> None:
        with torch.no_grad(), torch.autocast(pixel_values.device.type, dtype, enabled=dtype != torch.float32):
            function(pixel_values)

    return {"plain": lambda: run(slow), "ours": lambda: run(model), "backbone": lambda: run(model.encode)}


def towers(args: argparse.Namespace) -> dict[str, Any]:
    """Settings of CLIP's towers."""
    return {"backbone": args.clip_backbone, "image_size": args.image_size}


def scpnet_text(args: argparse.Namespace) -> Sides:
    """Label vectors of a training step of SCPNet, forward and backward."""
    model = _prompt_model(ScpnetForMultiLabelClassification, args, num_context=4, context_words=None).train()
    slow = plain_clip.PlainScpnet(model)
    return {
        "plain": lambda: slow.label_vectors().sum().backward(),
        "ours": lambda: model.compute_label_vectors().sum().backward(),
    }


def scpnet_inference(args: argparse.Namespace, dtype: torch.dtype) -> Sides:
    """Logits of a batch by SCPNet."""
    model = _prompt_model(ScpnetForMultiLabelClassification, args, num_context=4, context_words=None).eval()
    return _inference_sides(model, plain_clip.PlainScpnet(model).logits, _pixel_values(args), dtype)


def dualcoop_regions(args: argparse.Namespace) -> Sides:
    """Vectors of the regions of DualCoOp, from the feature map of a frozen image tower."""
    model = _prompt_model(DualCoOpForMultiLabelClassification, args)
    pool, pixel_values = model.backbone.network.head, _pixel_values(args)
    with torch.no_grad():
        features = model.backbone.network.feature_map(pixel_values)
    return {
        "plain": torch.no_grad()(lambda: plain_clip.regions(pool, features)),
        "ours": torch.no_grad()(lambda: pool.regions(features)),
    }


def dualcoop_step(args: argparse.Namespace) -> Sides:
    """Whole training step of DualCoOp, with optimizer."""
    model = _prompt_model(DualCoOpForMultiLabelClassification, args).train()
    pixel_values, labels = _pixel_values(args), _labels(args)
    objective = DualCoOpObjective(DualCoOpObjectiveConfig(), model.config)
    slow = plain_clip.PlainDualCoOp(model)
    run = _optimization_step(model, args.device)
    return {
        "plain": lambda: run(lambda: slow.loss(pixel_values, labels), torch.float32),
        "ours": lambda: run(lambda: model(pixel_values, labels, objective, LATE).loss, torch.float32),
    }


def _prompt_model(model_class: Any, args: argparse.Namespace, **settings: Any) -> Any:
    """A model for label names of three tokens, as many as the longest name of COCO has with OpenAI's tokenizer."""
    names = {label: f"{label:03}" for label in range(args.labels)}
    config: ClipPromptConfig = model_class.config_class(id2label=names, **towers(args), **settings)
    model = model_class(config)
    model.set_priors()
    return model.to(args.device)


def input_pipeline(args: argparse.Namespace, width: int, height: int, draft: bool = False) -> Sides:
    """What a worker does for a training image of SST: from the bytes of a JPEG file to what it hands to the model."""
    contents = [_photo(width, height) for _ in range(NUM_PHOTOS)]
    view = crop_flip_view((args.image_size, args.image_size))
    settings = SstConfig(num_labels=args.labels)
    mean, std, enough = list(settings.image_mean), list(settings.image_std), view.least_side if draft else None
    return {
        "plain": lambda: [plain.to_tensor(plain.crop_flip(each, args.image_size), mean, std) for each in contents],
        "ours": lambda: [view(open_pixels(each, draft=enough)) for each in contents],
    }


def _photo(width: int, height: int) -> bytes:
    """A JPEG file of clouds: like a photo, it has more of what is coarse than of what is fine."""
    clouds = torch.zeros(1, 3, height, width)
    for scale in (4, 16, 64, 256):
        noise = torch.randn(1, 3, max(2, height // scale), max(2, width // scale))
        clouds += 8 * scale**0.4 * torch.nn.functional.interpolate(noise, (height, width), mode="bicubic")
    content = io.BytesIO()
    image_of((clouds[0] + 128).clamp(0, 255).to(torch.uint8)).save(content, "JPEG", quality=90)
    return content.getvalue()


PARTS: dict[str, tuple[str, Callable[[argparse.Namespace], Sides]]] = {
    "input_pipeline": ("crop_flip, 640 px JPEG", partial(input_pipeline, width=640, height=480)),
    "input_pipeline_large": ("crop_flip, 12 MP JPEG", partial(input_pipeline, width=4000, height=3000)),
    "input_pipeline_draft": (
        "crop_flip, 12 MP JPEG, `data.draft`",
        partial(input_pipeline, width=4000, height=3000, draft=True),
    ),
    "decoupling": ("semantic decoupling", decoupling),
    "pair_head": ("co-occurrence head", pair_head),
    "graph_network": ("graph network", graph_network),
    "similarity": ("similarity loss", similarity),
    "pseudo_labels": ("bank and cross-image pseudo-labels", pseudo_labels),
    "temperatures": ("temperatures of Soft Exposure", temperatures),
    "map": ("mAP of 40,504 images", mean_average_precision),
    "prototype_pass": ("prototype pass, 10,240 images", prototype_pass),
    "prototype_clustering": ("prototype clustering", partial(prototype_clustering, num_starts=1)),
    "prototype_clustering_10": ("prototype clustering, 10 starts each", partial(prototype_clustering, num_starts=10)),
    "step": ("training step, float32", partial(step, plain_type=torch.float32, our_type=torch.float32)),
    "step_mixed": (
        "training step, bfloat16 against plain float32",
        partial(step, plain_type=torch.float32, our_type=torch.bfloat16),
    ),
    "step_bf16": ("training step, both bfloat16", partial(step, plain_type=torch.bfloat16, our_type=torch.bfloat16)),
    "sarb_step": ("SARB training step, float32", partial(sarb_step, plain_type=torch.float32, our_type=torch.float32)),
    "sarb_step_mixed": (
        "SARB training step, bfloat16 against plain float32",
        partial(sarb_step, plain_type=torch.float32, our_type=torch.bfloat16),
    ),
    "inference": ("inference, float32", partial(inference, dtype=torch.float32)),
    "inference_bf16": ("inference, bfloat16", partial(inference, dtype=torch.bfloat16)),
    "scpnet_text": ("text side of a training step of SCPNet", scpnet_text),
    "scpnet_inference": ("SCPNet inference, float32", partial(scpnet_inference, dtype=torch.float32)),
    "scpnet_inference_bf16": ("SCPNet inference, bfloat16", partial(scpnet_inference, dtype=torch.bfloat16)),
    "dualcoop_regions": ("regions of DualCoOp", dualcoop_regions),
    "dualcoop_step": ("DualCoOp training step, float32", dualcoop_step),
}


def _representations(args: argparse.Namespace) -> Tensor:
    dim = SstConfig(num_labels=args.labels).representation_dim
    return torch.randn(args.batch_size, args.labels, dim, device=args.device)


def _labels(args: argparse.Namespace) -> Tensor:
    shape = (args.batch_size, args.labels)
    labels = torch.where(torch.rand(shape) < 0.036, 1, -1)
    return (labels * (torch.rand(shape) < KNOWN)).to(args.device)


def _pixel_values(args: argparse.Namespace) -> Tensor:
    return torch.randn(args.batch_size, 3, args.image_size, args.image_size, device=args.device)


def _model(args: argparse.Namespace, model_class: type = SstForMultiLabelClassification) -> Any:
    sizes = {"num_labels": args.labels, "image_size": args.image_size, "backbone": args.backbone}
    model = model_class(model_class.config_class(**sizes, label_embeddings="orthogonal"))
    model.set_priors(np.eye(args.labels, dtype=np.int8))
    return model.to(args.device)


def _objective(args: argparse.Namespace, labels: Tensor) -> SstObjective:
    """With a full bank, for training images with as many positives as the images of `labels`."""
    config = SstConfig(num_labels=args.labels)
    objective = SstObjective(SstObjectiveConfig(), config).to(args.device)
    vectors = torch.randn(objective.config.bank_size, args.labels, config.representation_dim, device=args.device)
    objective.remember(vectors, torch.ones(vectors.shape[:2], dtype=torch.int8, device=args.device))
    objective.prepare(SimpleNamespace(labels=labels))
    return objective


def _published_bank(objective: SstObjective) -> Tensor:
    """The full bank as the published code has it, the newest first."""
    return objective.bank[:, :-1].flip(1)
