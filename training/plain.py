"""SSGRL, SST, SARB and Soft Exposure as they were published: slow, and easy to compare with papers and code.

Every function takes the module whose weights it uses and computes the same numbers in the direct way: with all
tensors of the formulas in memory, one linear layer after the other, and lists. The tests compare the fast code with
it on random problems, and `training/benchmark.py` measures how much faster the fast code is.
"""

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.cluster import KMeans
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from hf_mlrpl.models.parts.gated_gnn import GatedGnn
from hf_mlrpl.models.parts.semantic_decoupling import SemanticDecoupling


def decouple(module: SemanticDecoupling, features: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Semantic decoupling with a vector for every image, position and label (SSGRL)."""
    batch_size, dim, height, width = features.shape
    num_labels, positions = len(words), height * width
    x = features.permute(0, 2, 3, 1).reshape(batch_size * positions, dim)
    u = module.fc_image(x).repeat_interleave(num_labels, dim=0)  # (B * M * C, J)
    v = module.fc_word(words).repeat(batch_size * positions, 1)  # (B * M * C, J)
    scores = module.fc_score(module.fc_joint(torch.tanh(u * v)))
    attention = scores.view(batch_size, positions, num_labels).softmax(dim=1)
    coefficients = attention.unsqueeze(-1).repeat(1, 1, 1, dim)  # (B, M, C, D)
    maps = x.view(batch_size, positions, 1, dim).repeat(1, 1, num_labels, 1)  # (B, M, C, D)
    representations = (coefficients * maps).sum(dim=1)
    return representations, attention.transpose(1, 2).reshape(batch_size, num_labels, height, width)


def update_nodes(module: GatedGnn, nodes: Tensor, label_graph: Tensor) -> Tensor:
    """The gated graph network with a copy of the graph for every image and one layer per gate (SSGRL)."""
    batch_size, num_labels, dim = nodes.shape
    graph_in = label_graph.repeat(batch_size, 1, 1)  # (B, C, C)
    graph_out = label_graph.t().repeat(batch_size, 1, 1)
    w1, w2, w3 = module.neighbour.weight.split(dim)
    b1, b2, b3 = module.neighbour.bias.split(dim)
    u, c = module.self_gates.weight.split(dim), module.self_gates.bias.split(dim)  # one block when tied
    for _ in range(module.time_steps):
        a = torch.cat([torch.bmm(graph_in, nodes), torch.bmm(graph_out, nodes)], dim=2).reshape(-1, 2 * dim)
        h = nodes.reshape(-1, dim)
        z = torch.sigmoid(F.linear(a, w1, b1) + F.linear(h, u[0], c[0]))
        r = torch.sigmoid(F.linear(a, w2, b2) + F.linear(h, u[-1], c[-1]))
        k = torch.tanh(F.linear(a, w3, b3) + module.self_candidate(r * h))
        nodes = ((1 - z) * h + z * k).view(batch_size, num_labels, dim)
    return nodes


def classify(model, representations: Tensor) -> Tensor:
    """Logits of the labels (SSGRL)."""
    nodes = update_nodes(model.graph_network, representations, model.label_graph)
    fused = torch.tanh(model.fuse(torch.cat([nodes, representations], dim=-1)))
    return (fused * model.classifier.weight).sum(dim=-1) + model.classifier.bias


def score_pairs(head, representations: Tensor) -> Tensor:
    """Logits of all pairs of labels, with all layers applied to every pair (SST, Eq. 1)."""
    num_labels = representations.shape[1]
    first, second = _pairs(num_labels)
    reduced = head.reduce(representations)
    pairs = torch.cat([reduced[:, first], reduced[:, second]], dim=2)  # (B, P, 2 J)
    scored = head.out(torch.relu(head.hidden(pairs)))  # (B, P, O)
    return (scored * head.classifier.weight).sum(dim=-1) + head.classifier.bias


def intra_pseudo_labels(pair_logits: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Unknown labels that the known positives of the same image vote for (SST, Eq. 2)."""
    num_labels = labels.shape[1]
    first, second = _pairs(num_labels)
    matrix = torch.eye(num_labels, dtype=pair_logits.dtype, device=labels.device).repeat(len(labels), 1, 1)
    matrix[:, first, second] = pair_logits.sigmoid()
    matrix[:, second, first] = pair_logits.sigmoid()
    completed = labels.clone()
    for b in range(len(labels)):
        positives = (labels[b] == 1).to(matrix.dtype)
        votes = (matrix[b] * positives).sum(dim=1) / max(1, int(positives.sum()))
        if threshold < 1:
            completed[b][(labels[b] == 0) & (votes >= threshold)] = 1
    return completed


def update_bank(bank: Tensor, representations: Tensor, labels: Tensor) -> Tensor:
    """The bank with the known positives of the batch in front, cut to its size."""
    updated = bank.clone()
    for c in range(bank.shape[0]):
        new = [representations[b, c] for b in range(len(labels)) if labels[b, c] == 1]
        updated[c] = torch.cat([torch.stack(new), bank[c]] if new else [bank[c]])[: bank.shape[1]]
    return updated


def cross_pseudo_labels(representations: Tensor, bank: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Unknown labels whose representation is similar to those of the bank, compared one by one (SST, Eq. 5, Eq. 6)."""
    completed = labels.clone()
    rows, columns = (labels == 0).nonzero(as_tuple=True)
    own = representations[rows, columns].unsqueeze(1).repeat(1, bank.shape[1], 1)  # (U, Q, D)
    similarity = F.cosine_similarity(own, bank[columns], dim=-1, eps=1e-9).mean(dim=1)
    if threshold < 1:
        completed[rows, columns] = (similarity >= threshold).to(labels.dtype)
    return completed


def partial_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the known labels of the batch, which may be soft positives (SST, Eq. 9)."""
    positive, negative = (labels > 0).to(logits.dtype), (labels < 0).to(logits.dtype)
    losses = -positive * (labels * F.logsigmoid(logits) + (1 - labels) * F.logsigmoid(-logits))
    losses = losses - negative * F.logsigmoid(-logits)
    return losses.sum() / max(1, int((labels != 0).sum()))


def cooccurrence_loss(pair_logits: Tensor, labels: Tensor) -> Tensor:
    """Asymmetric loss; a pair is positive when both labels are known to be present (SST, Eq. 3, Eq. 4)."""
    first, second = _pairs(labels.shape[1])
    y = ((labels[:, first] == 1) & (labels[:, second] == 1)).to(pair_logits.dtype)
    p = pair_logits.sigmoid()
    q = (1 - p + 0.05).clamp(max=1)
    positive = y * (1 - p) * p.clamp(min=1e-8).log()
    negative = (1 - y) * (1 - q) ** 2 * q.clamp(min=1e-8).log()
    return -(positive + negative).sum() / max(1, positive.numel())


def similarity_loss(representations: Tensor, labels: Tensor, permutation=torch.randperm) -> Tensor:
    """Cosine loss over lists of pairs of images (SST, Eq. 7, Eq. 8).

    Args:
        permutation: gives a random order of n elements.
    """
    batch_size = len(labels)
    first, second = _pairs(batch_size)
    if not first:
        return representations.sum() * 0
    similarity = F.cosine_similarity(representations[first], representations[second], dim=2, eps=1e-9)  # (pairs, C)
    one, other = labels.cpu().numpy()[first], labels.cpu().numpy()[second]
    both_present = (one == 1) & (other == 1)
    both_absent = (one == -1) & (other == -1)
    differ = one * other == -1
    attracting = 1 - similarity[_mask(both_present, labels)]
    groups = [attracting]
    for mask in (both_absent, differ):
        losses = 1 + similarity[_mask(mask, labels)]
        if len(attracting) and len(losses):
            sampled = losses[permutation(len(losses))[: 2 * len(attracting)].to(losses.device)]
            losses = torch.cat([sampled, losses.sort(descending=True).values[: len(attracting)]])
        groups.append(losses)
    losses = torch.cat(groups)
    return losses.mean() if len(losses) else representations.sum() * 0


def soft_temperatures(
    label_distances: Tensor, labels: Tensor, neighbour_distances: Tensor, neighbour_labels: Tensor
) -> Tensor:
    """Temperatures, 0 where a label is known, with a distance for each pair of labels in each image (Soft Exposure).

    Args:
        neighbour_distances: `(batch_size, num_neighbours)`.
        neighbour_labels: `(batch_size, num_neighbours, num_labels)` in {-1, 0, +1}.
    """
    batch_size, num_labels = labels.shape
    nearest = []
    for sign in (1, -1):
        pairs = label_distances.repeat(batch_size, 1, 1)  # (B, C, C)
        to_labels = pairs.masked_fill(labels.ne(sign).unsqueeze(1), math.inf).min(dim=2).values
        images = neighbour_distances.unsqueeze(2).repeat(1, 1, num_labels)  # (B, k, C)
        to_images = images.masked_fill(neighbour_labels.ne(sign), math.inf).min(dim=1).values
        nearest.append(torch.minimum(to_labels, to_images.masked_fill(to_images.isinf(), 1)))
    result = torch.zeros_like(nearest[0])
    for b in range(batch_size):
        unknown = labels[b] == 0
        if not unknown.any():
            continue
        to_positive, to_negative = nearest[0][b][unknown], nearest[1][b][unknown]
        largest = max(to_positive.max(), to_negative.max())
        if largest > 0:
            to_positive, to_negative = to_positive / largest, to_negative / largest
        positive, negative = torch.exp(5 * (1 - to_positive)), -torch.exp(5 * (1 - to_negative))
        result[b][unknown] = torch.where(to_positive < to_negative, positive, negative)
    return result


def _pairs(count: int) -> tuple[list[int], list[int]]:
    """The pairs (0, 1), (0, 2), ... as the list of first and of second elements."""
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    return [i for i, _ in pairs], [j for _, j in pairs]


def _mask(mask: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(mask).to(like.device)


def average_precision(scores: np.ndarray, labels: np.ndarray) -> list[float]:
    """Mean precision at the positives of every label, in [0, 1]; NaN for a label without positives."""
    result = []
    for c in range(scores.shape[1]):
        ranked = sorted(range(len(scores)), key=lambda n: -scores[n, c])
        seen, found, total = 0, 0, 0.0
        for n in ranked:
            if labels[n, c] == 0:
                continue
            seen += 1
            if labels[n, c] == 1:
                found += 1
                total += found / seen
        result.append(total / found if found else math.nan)
    return result


def collect_positives(model, batches, num_labels: int, dim: int) -> list[Tensor]:
    """The representations of the known positives of every label, grown with every batch (SARB)."""
    found = [torch.zeros(0, dim) for _ in range(num_labels)]
    for batch in batches:
        with torch.no_grad():
            representations = model.represent(model.encode(batch["pixel_values"]))[0].cpu()
        labels = batch["labels"].cpu()
        for c in range(num_labels):
            found[c] = torch.cat([found[c], representations[labels[:, c] == 1, c]])
    return found


def cluster_positives(found: list[Tensor], num_prototypes: int) -> Tensor:
    """Centres of every label, one label after the other (SARB)."""
    centers = [KMeans(num_prototypes, n_init=10).fit(rows.numpy()).cluster_centers_ for rows in found]
    return torch.from_numpy(np.stack(centers))


def blend(representations: Tensor, others: Tensor, labels: Tensor, chosen: Tensor, coefficient: Tensor):
    """The chosen representations mixed with others, by a coefficient for every entry, and the soft labels (SARB)."""
    share = chosen.to(coefficient.dtype) * (1 - coefficient)
    coefficients = (1 - share).unsqueeze(-1).repeat(1, 1, representations.shape[2])  # (B, C, D)
    mixed = coefficients * representations + (1 - coefficients) * others
    return mixed, (~chosen) * labels + share


def blend_images(representations: Tensor, labels: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Every unknown label that the mirrored image of the batch shows (SARB, instance-level blending)."""
    chosen = (labels == 0) & (labels.flip(0) == 1)
    return blend(representations, representations.flip(0), labels, chosen, alpha)


def blend_prototypes(
    representations: Tensor, labels: Tensor, prototypes: Tensor, index: Tensor, scores: Tensor, beta: Tensor
) -> tuple[Tensor, Tensor]:
    """The unknown label of each image with the largest score (SARB, prototype-level blending).

    Args:
        prototypes: `(num_labels, num_prototypes, dim)`.
        index: the prototype that the batch takes.
        scores: `(batch_size, num_labels)` in (0, 1).
    """
    columns = (scores * (labels == 0)).argmax(dim=1)
    chosen = F.one_hot(columns, labels.shape[1]).bool() & (labels == 0)  # not in the published code, by error
    others = prototypes[:, index].unsqueeze(0).repeat(len(labels), 1, 1)  # (B, C, D)
    return blend(representations, others, labels, chosen, beta)


def crop_flip(content: bytes, size: int) -> Image.Image:
    """A random part of a JPEG photo, mirrored half of the time, by PIL (SST, SARB)."""
    bicubic = InterpolationMode.BICUBIC
    whole, *parts = (round(size * crop / 448) for crop in (512, 448, 384, 320, 256))
    crops = v2.RandomChoice([v2.RandomCrop(crop) for crop in (whole, *parts)])
    resize, mirror = v2.Resize((size, size), bicubic), v2.RandomHorizontalFlip()
    photo = Image.open(io.BytesIO(content)).convert("RGB")
    return v2.Compose([v2.Resize((whole, whole), bicubic), crops, resize, mirror])(photo)


def to_tensor(image: Image.Image, mean: list[float], std: list[float]) -> Tensor:
    """The normalised pixels of an image."""
    return v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])(image)


class PlainSsgrl:
    """Inference of SSGRL, SST and SARB, in the direct way, with the weights of our model."""

    def __init__(self, model):
        self.model = model

    def represent(self, pixel_values: Tensor) -> Tensor:
        backbone = self.model.backbone
        features = F.avg_pool2d(backbone.network(pixel_values)[-1], backbone.feature_pool)
        return decouple(self.model.decoupling, self.model.project(features), self.model.word_embeddings)[0]

    def logits(self, pixel_values: Tensor) -> Tensor:
        return classify(self.model, self.represent(pixel_values))


class PlainSst(PlainSsgrl):
    """The training step of SST.

    Args:
        model: `SstForMultiLabelClassification`.
        bank: `(num_labels, bank_size, representation_dim)`, the remembered representations.
    """

    def __init__(self, model, bank: Tensor):
        super().__init__(model)
        self.bank = bank

    def loss(self, pixel_values: Tensor, labels: Tensor, threshold: float, permutation=torch.randperm) -> Tensor:
        """The loss of one step with the published weights, once pseudo-labels are used (SST, Eq. 11)."""
        representations = self.represent(pixel_values)
        logits = classify(self.model, representations)
        pair_logits = score_pairs(self.model.cooccurrence_head, representations)
        self.bank = update_bank(self.bank, representations.detach(), labels)
        intra = intra_pseudo_labels(pair_logits.detach(), labels, threshold)
        cross = cross_pseudo_labels(representations.detach(), self.bank, labels, threshold)
        return (
            partial_bce(logits, labels)
            + partial_bce(logits, intra)
            + partial_bce(logits, cross)
            + 10 * cooccurrence_loss(pair_logits, labels)
            + 0.05 * similarity_loss(representations, labels, permutation)
        )


class PlainSarb(PlainSsgrl):
    """The training step of SARB.

    Args:
        model: `SarbForMultiLabelClassification`.
        prototypes: `(num_labels, num_prototypes, representation_dim)`.
    """

    def __init__(self, model, prototypes: Tensor):
        super().__init__(model)
        self.prototypes = prototypes

    def loss(
        self, pixel_values: Tensor, labels: Tensor, index: Tensor, scores: Tensor, permutation=torch.randperm
    ) -> Tensor:
        """The loss of one step with the published weights, once it blends; see `blend_prototypes` for the draws."""
        alpha, beta = self.model.coefficients.alpha, self.model.coefficients.beta
        representations = self.represent(pixel_values)
        logits = classify(self.model, representations)
        mixed, targets = blend_images(representations, labels, alpha)
        instance_logits = classify(self.model, mixed)
        instance = partial_bce(instance_logits, targets)
        mixed, targets = blend_prototypes(representations, labels, self.prototypes, index, scores, beta)
        prototype_logits = classify(self.model, mixed)
        prototype = partial_bce(prototype_logits, targets)
        similarity = similarity_loss(representations, labels, permutation)
        return partial_bce(logits, labels) + instance + prototype + 0.05 * similarity
