"""Checkpoints of the authors of SCPNet and DualCoOp as folders of ours, key by key.

Both are CLIP with learned prompts: `image_encoder.*` and `text_encoder.*` are the towers but for the token embeddings,
`prompt_learner.*` holds the learned contexts and the embedded words around them. Token embeddings and tokenizer come
from the CLIP model that they were trained from.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor

from ..clip.convert_clip import check_output
from ..clip.modeling_clip import ClipPromptModel
from ..clip.prompts import PromptLearner
from ..clip.sources import ClipSource, read_clip
from ..clip.tensor_files import read_tensors
from ..clip.weights import SCALE, TEXT, weights_from_openai
from ..data.names import read_label_names
from ..labels import shorten
from ..models.image_processing import processor_for
from ..settings import check_values, field_types
from .dualcoop.modeling_dualcoop import DualCoOpForMultiLabelClassification
from .scpnet.modeling_scpnet import ScpnetForMultiLabelClassification

TOKEN_EMBEDDINGS = f"{TEXT}network.text_model.embeddings.token_embedding.weight"
TOWERS = {"image_encoder.": "visual.", "text_encoder.": ""}  # names of the authors, and of CLIP's code
UNTRAINED = 1e-3  # a scale that nobody trained is closer than this to that of CLIP, averaged weights included
SAME_WORDS = 1e-2  # difference of embedded words relative to their norm; half precision makes 5e-4

M = TypeVar("M", bound=ClipPromptModel)


@dataclass(frozen=True)
class AuthorsCheckpoint:
    """
    tensors: all that the file has, under the authors' names.
    clip: the towers of the checkpoint, with the token embeddings and the tokenizer of `original`.
    original: the CLIP model that the authors started from.
    names: the labels, in the order of training.
    """

    file: Path
    tensors: dict[str, Tensor]
    clip: ClipSource
    original: ClipSource
    names: list[str]

    @classmethod
    def read(cls, file: Path, clip: str, labels: Path, needed: str) -> "AuthorsCheckpoint":
        """
        Args:
            needed: a name that checkpoints of this kind have.
        """
        tensors, original, names = read_tensors(file), read_clip(clip), read_label_names(labels) or []
        if needed not in tensors:
            raise ValueError(f"{file} has no `{needed}`, so it is no checkpoint of this kind; see `convert --help`.")
        config, own = original.weights.config, original.weights.tensors
        towers = {
            published + name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            for prefix, published in TOWERS.items()
            if name.startswith(prefix)
        }
        towers["token_embedding.weight"] = own[TOKEN_EMBEDDINGS]
        towers["logit_scale"] = tensors.get("logit_scale", own[SCALE])
        sizes = (("vision", config.vision_sizes), ("text", config.text_sizes))
        weights = weights_from_openai(
            towers,
            str(file),
            heads={name: size["heads"] for name, size in sizes if "heads" in size},
            hidden_act=config.hidden_act,
            image_mean=list(config.image_mean),
            image_std=list(config.image_std),
        )
        original.weights.fitted_to(weights.config, clip)  # an error where the checkpoint is of another CLIP model
        return cls(file, tensors, ClipSource(weights, original.tokenizer), original, names)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise ValueError(f"{self.file} has no `{name}`, as checkpoints of this kind do.")
        return self.tensors[name].float()

    def build(self, model_class: type[M], settings: dict[str, Any], **found: Any) -> M:
        """A model with the towers and the prompts of the labels, in evaluation mode.

        Args:
            settings: of the model, from the user.
            found: settings that the checkpoint tells.
        """
        towers = self.clip.weights.config
        for name in ("backbone", "vision_sizes", "text_sizes", "embed_dim", "hidden_act", "image_mean", "image_std"):
            found[name] = getattr(towers, name)
        found["context_words"] = None  # the context is learned
        if both := sorted(found.keys() & settings.keys()):
            raise ValueError(f"`{both[0]}` cannot be chosen: it is {found[both[0]]!r} in {self.file}.")
        found["id2label"] = dict(enumerate(self.names))
        found["label2id"] = {name: row for row, name in enumerate(self.names)}
        config_class: Any = model_class.config_class
        checked = check_values(settings, field_types(config_class), "model")
        try:
            config = config_class(**found, **checked)
        except StrictDataclassError as error:
            raise ValueError(f"A setting of the model is wrong: {str(error).splitlines()[-1].strip()}") from error
        model = model_class(config).eval()
        model.load_clip(self.clip, str(self.file))
        model.set_priors()
        return model

    @torch.no_grad()
    def fill_prompts(self, learner: PromptLearner, model: ClipPromptModel, context: str, suffix: str) -> None:
        """Take over a learned context; the words behind it must be those of the labels.

        Args:
            context, suffix: their names; the suffix has the embeddings of label name, period, end and padding.
        """
        expected = self[suffix]
        if len(expected) != len(self.names):
            raise ValueError(f"{self.file} was trained with {len(expected)} labels, not with {len(self.names)}.")
        actual = model.text_encoder.embed(learner.token_ids[:, -expected.shape[1] :])
        differences = (actual - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
        if others := [self.names[row] for row in differences.gt(SAME_WORDS).nonzero().flatten().tolist()]:
            raise ValueError(
                f"{self.file} was trained with other words for {len(others)} labels ({shorten(others)}). Give the "
                "names of training, in their order, and the CLIP model that it started from."
            )
        learner.context.copy_(self[context])

    def save(self, model: ClipPromptModel, output: Path, used: list[str]) -> list[str]:
        """Write the model; returns the names in the file that were not `used`."""
        model.forget_label_vectors()
        model.save_pretrained(output)
        processor_for(model.config).save_pretrained(output)
        return sorted(name for name in self.tensors if name not in used and not name.startswith(tuple(TOWERS)))


def convert_scpnet(
    file: Path, output: Path, *, clip: str, labels: Path, relation: Path | None = None, settings: dict[str, Any]
) -> tuple[ScpnetForMultiLabelClassification, list[str]]:
    """Write a checkpoint of SCPNet's authors to the folder `output`.

    Args:
        clip: the CLIP model that it was trained from, see `read_clip`.
        labels: a file with the label names in the order of training, one a line.
        relation: the similarity of the labels that it was trained with, a `.npy` or `.safetensors` file; by default
            it is computed from CLIP's text features, as other labels always are.
        settings: of the model, where the defaults, which are those of COCO, are not right.

    Returns:
        The model, and the names in the file that were not used.
    """
    check_output(output)
    checkpoint = AuthorsCheckpoint.read(file, clip, labels, needed="prompt_learner.ctx")
    context = checkpoint["prompt_learner.ctx"]
    graph = sorted(name for name in checkpoint.tensors if name.startswith("gc"))
    used = ["prompt_learner.ctx", *graph]
    original_scale = checkpoint.original.weights.tensors[SCALE]
    is_learned = bool((checkpoint["logit_scale"] - original_scale).abs() > UNTRAINED)
    prior = {} if relation is None else {"prior": str(relation)}
    if settings.get("prior") == "images":
        raise ValueError(
            "`prior: images` needs the training images, which are not here. Give the similarity of the labels that "
            "the checkpoint was trained with, `--relation FILE`."
        )
    model = checkpoint.build(
        ScpnetForMultiLabelClassification,
        {"image_size": checkpoint.clip.weights.config.image_size, **settings},
        num_context=context.shape[-2],
        context_per_label=context.ndim == 3,
        graph_layers=len(graph),
        graph_dim=checkpoint["gc1.weight"].shape[1],
        learn_scale=is_learned,
        adjacency="graph",
        image_network=None,
        **prior,
    )
    if relation is not None:
        model.config.prior = "clip"  # which knows other labels, too
    checkpoint.fill_prompts(model.prompts, model, "prompt_learner.ctx", "prompt_learner.token_suffix")
    model.graph_network.load_state_dict({f"layers.{i}.weight": checkpoint[name] for i, name in enumerate(graph)})
    if is_learned:
        model.log_scale.data.copy_(checkpoint["logit_scale"])
        used.append("logit_scale")
    return model, checkpoint.save(model, output, used)


def convert_dualcoop(
    file: Path, output: Path, *, clip: str, labels: Path, settings: dict[str, Any]
) -> tuple[DualCoOpForMultiLabelClassification, list[str]]:
    """Write a checkpoint of DualCoOp's authors to the folder `output`; see `convert_scpnet`."""
    check_output(output)
    checkpoint = AuthorsCheckpoint.read(file, clip, labels, needed="prompt_learner.ctx_pos")
    context = checkpoint["prompt_learner.ctx_pos"]
    model = checkpoint.build(
        DualCoOpForMultiLabelClassification,
        settings,
        num_context=context.shape[-2],
        context_per_label=context.ndim == 3,
    )
    used = []
    for learner, kind in ((model.negative_prompts, "neg"), (model.positive_prompts, "pos")):
        names = f"prompt_learner.ctx_{kind}", f"prompt_learner.token_suffix_{kind}"
        checkpoint.fill_prompts(learner, model, *names)
        used.append(names[0])
    return model, checkpoint.save(model, output, used)
