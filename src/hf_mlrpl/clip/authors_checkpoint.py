"""Checkpoints of models that learn prompts of CLIP, as their authors' code writes them, as folders of ours.

`image_encoder.*` and `text_encoder.*` are the towers but for the token embeddings, `prompt_learner.*` holds the
learned contexts and the embedded words around them. Token embeddings and tokenizer come from the CLIP model that they
were trained from.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor

from ..data.names import read_label_names
from ..labels import shorten
from ..models.image_processing import processor_for
from ..settings import check_values, field_types
from .modeling_clip import ClipPromptModel
from .prompts import PromptLearner
from .sources import ClipSource, read_clip
from .tensor_files import read_tensors
from .weights import SCALE, TEXT, weights_from_openai

TOKEN_EMBEDDINGS = f"{TEXT}network.text_model.embeddings.token_embedding.weight"
TOWERS = {"image_encoder.": "visual.", "text_encoder.": ""}  # names of the authors, and of CLIP's code
SAME_WORDS = 1e-2  # difference of embedded words relative to their norm; half precision makes 5e-4

M = TypeVar("M", bound=ClipPromptModel)


@dataclass(frozen=True)
class AuthorsCheckpoint:
    """A file of the authors, and the CLIP model that it was trained from.

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
        """Read the file; raises where it is of another kind, or of another CLIP model.

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
